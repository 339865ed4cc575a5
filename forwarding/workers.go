package forwarding

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/internal/cpu"
	"vita/internal/pktbuf"
)

// The control goroutine's side of workers: making, parking and ending them.
// worker.go has the workers' own.

// poolFrames is how many buffers a worker has: both ports' rings full, and
// what is in between.
const poolFrames = 16384

// newWorker makes the worker for a slot, which has no part in any generation
// yet and is not started.
func (e *Engine) newWorker(wc *tables.WorkerConfig) (*worker, error) {
	on, node := -1, 0
	if n := len(e.o.CPUs); n > 0 {
		on = e.o.CPUs[wc.Slot%n]
		if n, ok := cpu.Node(on); ok {
			node = n + 1
		}
	}
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: poolFrames, Hugepages: e.o.Hugepages, Node: node})
	if err != nil {
		return nil, fmt.Errorf("buffers for queue %d: %w", wc.Queue, err)
	}
	w := &worker{
		slot: wc.Slot, queue: wc.Queue, cpu: on, spin: newSpin(e.o.BusyPoll),
		mem: e.mem, me: &e.mem.Workers[wc.Slot], active: e.mem.ActiveRow(wc.Slot), routes: e.mem.RouteCounts(wc.Slot),
		spis: newSPITable(len(e.mem.SAs)), keys: e.keys, pool: pool, sources: newSources(),
		wake: e.wake[wc.Slot], punt: e.punt, wanted: e.wanted,
		clock: e.o.Clock, announcements: e.o.Announcements,
		parked: make(chan struct{}), resume: make(chan struct{}), done: make(chan struct{}),
	}
	atomic.StoreUint64(&w.me.Queue, uint64(w.queue))
	if e.capture != nil {
		w.filter.Store(newCapture(e.capture, w))
	}
	return w, nil
}

var eventOne = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// signal ends the worker's sleep.
func (w *worker) signal() { _, _ = unix.Write(w.wake, eventOne) } // a full file has been signalled

// park makes the worker stand still between two turns until unpark. Until then
// the caller may touch what is the worker's.
func (w *worker) park() {
	w.request.Store(park)
	w.signal()
	<-w.parked
}

func (w *worker) unpark() {
	w.request.Store(goOn)
	w.resume <- struct{}{}
}

// end stops a worker and frees its buffers, and the ports that are still open
// on them. The caller holds e.mu.
func (e *Engine) end(w *worker) {
	w.request.Store(stop)
	w.signal()
	<-w.done
	for _, k := range w.local[:w.nlocal] {
		w.drop(k, drop.AnswerNoBuffer)
	}
	w.nlocal = 0
	var rest []*handle
	for _, h := range e.ports {
		if h.w == w {
			e.close(h)
		} else {
			rest = append(rest, h)
		}
	}
	e.ports = rest
	if e.workers[w.slot] == w {
		e.workers[w.slot] = nil
	}
	atomic.StoreUint64(&w.me.Queue, 0)
	w.me.PrivatePort.Open, w.me.PublicPort.Open = 0, 0
	if lost := w.pool.Frames() - w.pool.Available(); lost != 0 {
		e.o.Log.Error("packet buffers lost", "queue", w.queue, "frames", lost)
		e.lost.Add(int64(lost))
	}
	if err := w.pool.Close(); err != nil {
		e.o.Log.Warn("free buffers", "error", err)
	}
}
