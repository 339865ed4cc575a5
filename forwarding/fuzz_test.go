package forwarding

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vita/asm/cksum"
	"vita/forwarding/client"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// Whole paths, fuzzed. An input is a script: which gateway, and then frames for
// its ports, either as they are or as valid frames with changes. The worker is
// driven by the test alone, from the same state each time, so that a script
// does the same wherever it runs; the clock goes on by its own steps.
//
//	script   gateway, steps
//	step     op, its arguments
//	op       bits 0-2 what to put in, bit 3 at which port, bits 4-5 how often it
//	         is changed, bit 6: the worker takes a turn now, bit 7: 100 ms
//	         have passed
const (
	opRaw    = iota // length (2 bytes), a frame
	opSeed          // number of a valid frame, changes
	opAgain         // the frame before, changes
	opPeer          // number of a valid inner packet, changes; sealed by the peer
	opOld           // a sequence number back (2 bytes); an inner packet, sealed
	opFuture        // a sequence number ahead (5 bytes); an inner packet, sealed
)

const maxSteps = 64

// change: kind and size, place (2 bytes), value
const (
	changeSet   = iota
	changeFlip  // bit value&7
	changeCut   // there
	changeGrow  // by place bytes of value
	changeWord  // to one that is at an edge
	changeKinds // how many; with this bit set, in the first 80 bytes:

	changeHead = 0x80
)

// core is a gateway for scripts.
type core struct {
	m      *mutation
	r      *rig
	w      *worker
	free   int
	udp    bool
	most   int // frames that may come out for one
	seeds  [2][][]byte
	inner  [][]byte // what the peer may seal, behind 14 bytes
	remote *remote
	sas    []*tables.SA // outbound, inbound
	saved  []tables.SA
	batch  esp.Batch
	start  int64 // of the worker's clock
	now    int64
	last   [2][]byte // frames of the step before, by port
	buf    []byte
}

func newCore(f *testing.F, m *mutation, everything bool) *core {
	f.Helper()
	c := &core{m: m, r: m.rig(f), remote: newRemote(f, 4711), most: 1, buf: make([]byte, 0, 4096)}
	if everything {
		s := &c.r.spec
		s.ECN, s.CopyDSCP, s.DF, s.Fragment, s.Resync, s.ReplayWindow = true, true, tables.DFCopy, true, true, 1000
		s.TFC, s.MTU = true, 900
		s.Routes[0].UDP = &tables.UDP{Moves: true}
		c.udp = true
		c.most = 3
		c.r.apply()
	}
	for _, d := range []client.Direction{client.Outbound, client.Inbound} {
		ref := c.r.install(client.SA{Direction: d, SPI: 4711, Seq: 1 << 20})
		sa := &c.r.engine.mem.SAs[tables.SAIndex(uint32(ref))]
		c.sas, c.saved = append(c.sas, sa), append(c.saved, *sa)
	}
	var goOn func()
	c.w, goOn = c.r.still()
	f.Cleanup(goOn)
	c.start = c.w.now
	c.w.clock = func() int64 { return c.now }
	c.free = c.w.pool.Available()
	c.seeds = [2][][]byte{m.private(c.remote), m.public(c.remote)}
	c.seeds[1] = append(c.seeds[1], errorAbout(!m.v6))
	c.inner = innerSeeds()
	if c.udp {
		in := c.sealed(c.inner[0][14:], 1<<20+1)
		n := len(in) - esp.Size(len(c.inner[0])-14)
		for _, payload := range [][]byte{in[n:], {0xff}, make([]byte, 12)} { // ESP, a keepalive, key exchange
			c.seeds[1] = append(c.seeds[1], setLength(append(bytes.Clone(in[:n]), payload...)))
		}
	}
	return c
}

// innerSeeds are valid packets out of the tunnel, each behind an Ethernet header.
func innerSeeds() [][]byte {
	v4 := frame{src: "10.2.0.9", to: "10.1.0.7", ttl: 1, proto: 17, payload: make([]byte, 30)}
	local := v4
	local.to, local.ttl = "10.1.0.254", 9
	ping := frame{src: "10.2.0.9", to: "10.1.0.254", proto: wire.ProtoICMP, payload: echoRequest(56)}
	extended := []byte{60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8}
	return [][]byte{
		inFrame(60).bytes(), inFrame(1400).bytes(), v4.bytes(), local.bytes(), ping.bytes(),
		toPrivate6(inPacket6(60)), toPrivate6(inPacket6(1300)), toPrivate6(packet6(there6, host6, 17, 1, make([]byte, 40))),
		toPrivate6(packet6(there6, priv6, 17, 64, make([]byte, 40))), toPrivate6(echo6(there6, priv6, 56)),
		toPrivate6(packet6(there6, host6, 0, 1, extended)),
	}
}

// errorAbout is a router's word about one of our ESP packets: too big.
func errorAbout(v4 bool) []byte {
	if v4 {
		quoted := frame{src: "203.0.113.1", to: "203.0.113.2", proto: wire.ProtoESP, df: true, payload: make([]byte, 8)}.bytes()[14:]
		wire.PutBe32(quoted[20:], 4711)
		wire.PutBe32(quoted[24:], 1<<20)
		m := append([]byte{wire.ICMPUnreachable, wire.CodeFragmentationNeeded, 0, 0, 0, 0, 5, 0}, quoted...)
		return mend(frame{dst: publicMAC, src: "198.51.100.7", to: "203.0.113.1", proto: wire.ProtoICMP, payload: m}.bytes())
	}
	quoted := packet6(pub6, peer6, wire.ProtoESP, 64, make([]byte, 8))
	wire.PutBe32(quoted[40:], 4711)
	wire.PutBe32(quoted[44:], 1<<20)
	return mend(toPublic6(packet6("2001:db8::7", pub6, wire.ProtoICMP6, 64, append([]byte{wire.ICMP6TooBig, 0, 0, 0, 0, 0, 5, 120}, quoted...))))
}

// mend makes a frame's checksums right, where there are headers for them, so
// that what is behind them is met. It returns the frame.
func mend(f []byte) []byte {
	if len(f) < 34 {
		return f
	}
	p := f[14:]
	sum := func(b []byte, at int, pseudo uint32) {
		if len(b) >= at+2 {
			wire.PutBe16(b[at:], 0)
			wire.PutBe16(b[at:], cksum.Sum(b, pseudo))
		}
	}
	switch p[0] >> 4 {
	case 4:
		n := int(p[0]&15) * 4
		if n < 20 || n > len(p) {
			return f
		}
		sum(p[:n], 10, 0)
		b := p[n:max(n, min(int(wire.Be16(p[2:])), len(p)))]
		switch p[9] {
		case wire.ProtoICMP:
			sum(b, 2, 0)
		case wire.ProtoUDP:
			sum(b, 6, cksum.Pseudo4([4]byte(p[12:]), [4]byte(p[16:]), wire.ProtoUDP, uint16(len(b))))
		}
	case 6:
		if len(p) < wire.IPv6Len {
			return f
		}
		b := p[40:min(40+int(wire.Be16(p[4:])), len(p))]
		switch p[6] {
		case wire.ProtoICMP6:
			sum(b, 2, cksum.Pseudo6([16]byte(p[8:]), [16]byte(p[24:]), wire.ProtoICMP6, uint32(len(b))))
		case wire.ProtoUDP:
			sum(b, 6, cksum.Pseudo6([16]byte(p[8:]), [16]byte(p[24:]), wire.ProtoUDP, uint32(len(b))))
		}
	}
	return f
}

// script is what is left of an input.
type script []byte

func (s *script) take(n int) []byte {
	n = min(n, len(*s))
	b := (*s)[:n]
	*s = (*s)[n:]
	return b
}

// number takes n bytes as a number.
func (s *script) number(n int) uint64 {
	var b [8]byte
	copy(b[:], s.take(n))
	return binary.LittleEndian.Uint64(b[:])
}

// run plays a script and checks what must hold after any.
func (c *core) run(t *testing.T, s script) {
	for i, sa := range c.sas {
		*sa = c.saved[i]
		if sa.Direction == client.Inbound {
			esp.Resume(sa, c.w.mem.Window(sa, tables.SAIndex(sa.Ref)), sa.Seq)
		}
	}
	c.w.limits, c.w.resync, c.w.tick, c.now = new(worker).limits, 0, 0, c.start
	in := 0 // since the last turn
	for step := 0; step < maxSteps && len(s) > 0; step++ {
		op := byte(s.number(1))
		if op&0x80 != 0 {
			c.now += int64(100 * time.Millisecond)
		}
		port := op >> 3 & 1
		if op&7 >= opPeer {
			port = 1
		}
		f := c.frame(&s, op&7, port, int(op>>4&3))
		end := c.r.private
		if port == 1 {
			end = c.r.public
		}
		if f != nil && end.Inject(f) {
			in++
		}
		if op&0x40 != 0 {
			c.turns(t, in)
			in = 0
		}
	}
	c.turns(t, in)
	c.good(t)
}

// frame makes the frame of a step; nil: none.
func (c *core) frame(s *script, op, port byte, changes int) []byte {
	f := c.buf[:0]
	switch op {
	case opRaw:
		f = append(f, s.take(min(int(s.number(2)), 1514))...)
	case opSeed:
		seeds := c.seeds[port]
		f = append(f, seeds[int(s.number(1))%len(seeds)]...)
	case opAgain:
		f = append(f, c.last[port]...)
	default:
		seq := c.sas[1].Seq + 1
		switch op {
		case opOld:
			seq -= s.number(2)
		case opFuture:
			seq += s.number(5)
		}
		inner := c.change(s, append(f, c.inner[int(s.number(1))%len(c.inner)]...), changes)
		return c.sealed(inner[min(len(inner), 14):], seq)
	}
	f = c.change(s, f, changes)
	c.last[port] = append(c.last[port][:0], f...)
	return f
}

// change damages a frame n times.
func (c *core) change(s *script, f []byte, n int) []byte {
	for range n {
		kind, place, value := byte(s.number(1)), int(s.number(2)), byte(s.number(1))
		if len(f) == 0 {
			return f
		}
		if kind&changeHead != 0 {
			place %= min(len(f), 80) // headers
		}
		place %= len(f)
		switch kind &^ changeHead % changeKinds {
		case changeSet:
			f[place] = value
		case changeFlip:
			f[place] ^= 1 << (value & 7)
		case changeCut:
			f = f[:place]
		case changeGrow:
			f = append(f, bytes.Repeat([]byte{value}, min(place, 1514-min(len(f), 1514)))...)
		case changeWord:
			if place+2 <= len(f) {
				binary.BigEndian.PutUint16(f[place:], []uint16{0, 1, 0x7fff, 0x8000, 0xffff, uint16(len(f) - 14), 8, 1280}[value&7])
			}
		}
	}
	if n == 1 || n == 2 { // after three, checksums may be wrong
		mend(f)
	}
	return f
}

// sealed is a frame of the peer's with a payload of any kind.
func (c *core) sealed(inner []byte, seq uint64) []byte {
	next := byte(4)
	if len(inner) > 0 && inner[0]>>4 == 6 {
		next = 41
	}
	head := c.seeds[1][0][:34]
	if c.m.v6 {
		head = c.seeds[1][0][:54]
	}
	size := esp.Size(len(inner))
	f := append(make([]byte, 0, len(head)+wire.UDPLen+size), head...)
	if c.udp && seq&1 != 0 {
		f[23-3*(len(f)-34)/20] = wire.ProtoUDP // 23 in IPv4, 20 in IPv6
		f = append(f, 0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0)
	}
	p := f[len(f):][:size]
	f = f[:len(f)+size]
	copy(p[esp.HeaderLen:], inner)
	c.batch.Encapsulate(&c.remote.key, 4711, seq, p, len(inner), 0, next)
	c.batch.Seal()
	c.batch.Reset()
	return setLength(f)
}

// setLength makes a frame's lengths, of IP and UDP, and checksums right.
func setLength(f []byte) []byte {
	n := 54
	if f[14]>>4 == 4 {
		n = 34
		wire.PutBe16(f[16:], uint16(len(f)-14))
	} else {
		wire.PutBe16(f[18:], uint16(len(f)-54))
	}
	if f[23-3*(n-34)/20] == wire.ProtoUDP {
		wire.PutBe16(f[n+4:], uint16(len(f)-n))
	}
	return mend(f)
}

// turns lets the worker work until it finds nothing. It must have sent no more
// than belongs to the frames that it has got.
func (c *core) turns(t *testing.T, in int) {
	for n := 0; c.w.turn() > 0; n++ {
		if n > 10*maxSteps {
			t.Fatal("the worker finds no end")
		}
	}
	ring := c.w.mem.ToControl(c.w.slot)
	for e := ring.Next(); e != nil; e = ring.Next() {
		ring.Release()
	}
	if n := c.w.pool.Available(); n != c.free {
		t.Fatalf("%d buffers are missing", c.free-n)
	}
	if out := len(c.r.private.Drain()) + len(c.r.public.Drain()); out > in*c.most {
		t.Fatalf("%d frames came out for %d", out, in)
	}
}

// good checks that good packets pass.
func (c *core) good(t *testing.T) {
	out, in := c.m.good(c.remote, c.sas[1].Seq+1)
	c.r.private.Inject(out)
	c.r.public.Inject(in)
	for c.w.turn() > 0 {
	}
	a, b := c.r.public.Drain(), c.r.private.Drain()
	if len(a) != 1 || len(b) != 1 {
		t.Fatalf("good packets: %d went out, %d came in", len(a), len(b))
	}
}

var keep = flag.String("keep", "", "folder with what FuzzPaths has found, to be kept in testdata (see CONTRIBUTING.md)")

const keptFile = "testdata/paths.gz"

// keptScripts returns the scripts that fuzzing has found to be worth keeping: a
// file of quoted lines. With -keep it adds those of a fuzzing cache first.
func keptScripts(f *testing.F) (scripts [][]byte) {
	f.Helper()
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	file, err := os.Open(keptFile)
	must(err)
	z, err := gzip.NewReader(file)
	must(err)
	text, err := io.ReadAll(z)
	must(err)
	must(file.Close())
	lines := slices.Collect(strings.Lines(string(text)))
	if *keep != "" {
		names, err := filepath.Glob(filepath.Join(*keep, "*"))
		must(err)
		for _, name := range names {
			b, err := os.ReadFile(name)
			must(err)
			// go test fuzz v1
			// []byte("...")
			_, quoted, _ := strings.Cut(string(b), "\n[]byte(")
			lines = append(lines, strings.TrimSuffix(strings.TrimSpace(quoted), ")")+"\n")
		}
		slices.Sort(lines)
		lines = slices.Compact(lines)
		var out bytes.Buffer
		z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
		must(err)
		_, err = z.Write([]byte(strings.Join(lines, "")))
		must(err)
		must(z.Close())
		must(os.WriteFile(keptFile, out.Bytes(), 0o644))
	}
	for _, l := range lines {
		s, err := strconv.Unquote(strings.TrimSpace(l))
		must(err)
		scripts = append(scripts, []byte(s))
	}
	return scripts
}

// FuzzPaths plays scripts on gateways of all families, each as it comes and with
// everything switched on.
func FuzzPaths(f *testing.F) {
	var cores []*core
	for i := range mutations {
		cores = append(cores, newCore(f, &mutations[i], false), newCore(f, &mutations[i], true))
	}
	for i, c := range cores {
		// Every valid frame as it is, and changed; packets from the tunnel in,
		// out of and before the window.
		s := []byte{byte(i)}
		for port, seeds := range c.seeds {
			for n := range seeds {
				s = append(s, byte(opSeed|port<<3|0x40), byte(n), opSeed|byte(port)<<3|1<<4|0x40, byte(n), changeHead|changeFlip, byte(n), 0, 3)
			}
		}
		for n := range c.inner {
			s = append(s, opPeer|0x40, byte(n), opPeer|2<<4, byte(n), changeHead|changeFlip, 8, 0, 0, changeGrow, 7, 0, 1)
		}
		f.Add(s)
		f.Add([]byte{byte(i), opPeer | 0x40, 0, opOld, 1, 0, 0, opOld | 0x40, 0xff, 0xff, 0, opFuture, 1, 0, 0, 0, 1, 1, opFuture | 0x40, 0, 4, 0, 0, 0, 2, opAgain | 1<<3})
		f.Add(append([]byte{byte(i), opRaw | 1<<3 | 0x40, 60, 0}, c.seeds[1][0][:60]...))
	}
	for _, s := range keptScripts(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1 {
			cores[int(script[0])%len(cores)].run(t, script[1:])
		}
	})
}
