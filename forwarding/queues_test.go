package forwarding

import (
	"fmt"
	"slices"
	"testing"

	"vita/drivers/memory"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// Several workers: each has a queue of the private device and one of a public
// one, SAs of its own for every route, and an address of its own. test/e2e has
// the same by AF_XDP.

// newQueuesRig starts a gateway with n workers that share a private and a public
// device with n queues each. The private device spreads packets by their
// addresses, the public one by the address that they are for, as an operator
// tells a device to.
func newQueuesRig(t *testing.T, n int) *rig {
	t.Helper()
	r := newRig(t)
	private, p := newWire(t, memory.Options{Queues: n})
	public, q := newWire(t, memory.Options{Queues: n, Steer: func(f []byte) int {
		if len(f) < 34 {
			return 0
		}
		return int(f[33]) - 1
	}})
	r.private, r.public = p, q
	r.spec.Private.Link.Ifname = private
	one := r.spec.Public[0]
	one.Link.Ifname = public
	r.spec.Public = nil
	for i := range uint16(n) {
		one.Queue, one.DeviceQueue, one.IP = i+1, i+1, addr(fmt.Sprintf("203.0.113.%d", i+1))
		r.spec.Public = append(r.spec.Public, one)
	}
	r.apply()
	return r
}

// own returns the address of a queue's worker, and its Ethernet address.
func own(queue int) (string, [6]byte) {
	return fmt.Sprintf("203.0.113.%d", queue), [6]byte{0x3a, 0xbb, 203, 0, 113, byte(queue)}
}

func TestWorkersAndQueues(t *testing.T) {
	const workers, flows, each = 4, 64, 3
	r := newQueuesRig(t, workers)
	// The other side has two queues: queue 3 and 4 send to the lowest.
	r.spec.Routes[0].Gateways = []tables.Gateway{{Queue: 2, IP: addr("192.0.2.2")}, {Queue: 1, IP: addr("192.0.2.1")}}
	r.apply()
	for q := range uint16(workers) {
		r.install(client.SA{Direction: client.Outbound, SPI: 100 + uint32(q), Queue: q + 1})
		r.install(client.SA{Direction: client.Inbound, SPI: 4711, Queue: q + 1}) // the same in all: they are different SAs
	}
	// Flows stay together: each at one worker, whose numbers have no gaps.
	for range each {
		for i := range byte(flows) {
			r.private.Inject(changed(outFrame(60, i), func(b []byte) { b[29], b[33] = i, 2*i }))
		}
	}
	p := newRemote(t, 0)
	flowAt, last, packets := make(map[byte]uint32), make(map[uint32]uint64), make(map[uint32]int)
	for _, f := range take(t, r.public, flows*each) {
		e, ip := wire.ESP(f[34:]), wire.IPv4(f[14:])
		spi := e.SPI()
		q := int(spi) - 99
		last[spi]++
		packets[spi]++
		us, mac := own(q)
		peer := map[int]string{1: "192.0.2.1", 2: "192.0.2.2", 3: "192.0.2.1", 4: "192.0.2.1"}[q]
		if a, b := addr(us).As4(), addr(peer).As4(); uint64(e.SeqLow()) != last[spi] || ip.SrcBytes() != a || ip.DstBytes() != b || *wire.Ethernet(f).Src() != mac {
			t.Fatalf("queue %d: %x", q, f[:42])
		}
		p.spi, p.seq = spi, last[spi]
		inner, _ := p.open(t, f[34:])
		if was, seen := flowAt[inner[20]]; seen && was != spi {
			t.Errorf("flow %d goes by SPI %d and %d", inner[20], was, spi)
		}
		flowAt[inner[20]] = spi
	}
	if len(packets) != workers || len(flowAt) != flows {
		t.Errorf("%d flows by %v", len(flowAt), packets)
	}
	// Each inbound SA is bound to its worker: it has a window of its own, and
	// the same number is new in each.
	in := newRemote(t, 4711)
	for q := 1; q <= workers; q++ {
		us, mac := own(q)
		f := in.sealed(7, inFrame(60).bytes()[14:], 4)
		r.public.Inject(toWorker(f, us, mac))
	}
	take(t, r.private, workers)
	for _, sa := range r.client.SAs() {
		if want := uint64(packets[sa.SPI]); sa.Direction == client.Outbound && (sa.Packets != want || sa.Queue != uint16(sa.SPI-99)) {
			t.Errorf("%+v, want %d packets", sa, want)
		}
		if sa.Direction == client.Inbound && (sa.Packets != 1 || sa.Seq != 7) {
			t.Errorf("%+v", sa)
		}
	}
	r.wantDrops(nil)
}

// toWorker is a frame for a worker's address.
func toWorker(f []byte, ip string, mac [6]byte) []byte {
	return changed(f, func(b []byte) {
		copy(b, mac[:])
		a := addr(ip).As4()
		copy(b[30:], a[:])
	})
}

// TestSAsOfOtherWorkers: an SA serves its own queue alone, out and in.
func TestSAsOfOtherWorkers(t *testing.T) {
	r := newQueuesRig(t, 2)
	r.install(client.SA{Direction: client.Outbound, SPI: 1, Queue: 1})
	r.install(client.SA{Direction: client.Inbound, SPI: 4711, Queue: 2})
	p := newRemote(t, 4711)
	for q := 1; q <= 2; q++ {
		us, mac := own(q)
		r.public.Inject(toWorker(p.sealed(1, inFrame(60).bytes()[14:], 4), us, mac)) // taken at queue 2
		r.private.Inject(changed(outFrame(60, 'x'), func(b []byte) { b[33] = byte(7 + q) }))
	}
	take(t, r.private, 1)
	take(t, r.public, 1)
	r.wantDrops(map[drop.Reason]uint64{drop.ESPNoSA: 1, drop.OutboundNoSA: 1})
	// Queue 2 ends, and with it what hangs on it; what is queue 1's stays.
	r.spec.Public = r.spec.Public[:1]
	r.apply()
	if sas := r.client.SAs(); len(sas) != 1 || sas[0].SPI != 1 || sas[0].Seq != 1 {
		t.Errorf("%+v", sas)
	}
	if got := r.client.Counters().Workers; len(got) != 1 || got[0].Queue != 1 {
		t.Errorf("%+v", got)
	}
}

// TestMostWorkers: as many as there may be, and one more is refused.
func TestMostWorkers(t *testing.T) {
	r := newQueuesRig(t, tables.MaxWorkers)
	if got := r.client.Counters().Workers; len(got) != tables.MaxWorkers {
		t.Fatalf("%d workers", len(got))
	}
	for q := range uint16(tables.MaxWorkers) {
		r.install(client.SA{Direction: client.Outbound, SPI: 100 + uint32(q), Queue: q + 1})
	}
	for i := range byte(tables.MaxWorkers) {
		r.private.Inject(changed(outFrame(60, 'x'), func(b []byte) { b[33] = i }))
	}
	seen := make(map[uint32]bool)
	for _, f := range take(t, r.public, tables.MaxWorkers) {
		seen[wire.ESP(f[34:]).SPI()] = true
	}
	if len(seen) != tables.MaxWorkers {
		t.Errorf("%d workers have sent", len(seen))
	}
	more := r.spec
	extra := r.spec.Public[0]
	extra.Queue, extra.DeviceQueue = 99, 99
	more.Public = append(slices.Clip(more.Public), extra)
	if _, err := r.client.Prepare(r.ctx, &more); err == nil {
		t.Error("one more is accepted")
	}
}

// TestQueuesOfThePrivateDevice: all of them are served, however many workers
// there are, and stay so when one more comes or goes.
func TestQueuesOfThePrivateDevice(t *testing.T) {
	const queues = 5
	r := newQueuesRig(t, 3)
	public := r.spec.Public
	name, p := newWire(t, memory.Options{Queues: queues, Steer: func(f []byte) int { return int(f[33]) }})
	r.private, r.spec.Private.Link.Ifname = p, name
	for _, n := range []int{1, 2, 3, 2, 1} {
		r.spec.Public = public[:n]
		if n == 2 {
			r.spec.Public = []tables.PublicInterface{public[2], public[0]} // their order is by number
		}
		r.apply()
		for _, w := range r.spec.Public {
			r.install(client.SA{Direction: client.Outbound, SPI: 100 + uint32(w.Queue), Queue: w.Queue})
		}
		for q := range byte(queues) {
			r.private.Inject(changed(outFrame(60, 'x'), func(b []byte) { b[33] = q }))
			f := take(t, r.public, 1)[0]
			want := uint32(q)%uint32(n) + 101
			if n == 2 && want == 102 {
				want = 103
			}
			if got := wire.ESP(f[34:]).SPI(); got != want {
				t.Errorf("%d workers: a packet of queue %d went by SPI %d, want %d", n, q, got, want)
			}
		}
		served := 0
		for _, i := range r.client.Ports() {
			if !i.Public {
				served += i.Queues
			}
		}
		if served != queues {
			t.Errorf("%d workers serve %d of %d queues", n, served, queues)
		}
	}
}
