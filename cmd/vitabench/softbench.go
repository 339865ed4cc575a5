package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"vita/asm/aesgcm"
	"vita/drivers"
	"vita/forwarding"
	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/internal/pktbuf"
)

type softCmd struct {
	common
	Size      string  `default:"60" help:"Bytes of a frame at the private port, or imix: 7 of 54, 4 of 590, 1 of 1514."`
	Family    int     `enum:"4,6" default:"4" help:"4 or 6."`
	Routes    int     `default:"1" help:"Routes, each with SAs of its own; packets go to random ones."`
	Direction string  `enum:"duplex,outbound,inbound" default:"duplex" help:"duplex: a packet is sealed, turned round and opened; outbound: it is sealed; inbound: it is opened."`
	Workers   int     `default:"1" help:"Workers, each with ports of its own."`
	Seconds   float64 `default:"3" help:"How long to measure."`
	Key       int     `enum:"128,256" default:"128" help:"Bits of the keys."`
	Profile   string  `help:"File for a CPU profile." placeholder:"FILE"`
}

type softReport struct {
	Mpps     float64 `json:"mpps"`
	NS       float64 `json:"ns_per_packet"`
	Gbps     float64 `json:"gbps"` // of frames at the private port
	CPUNS    float64 `json:"cpu_ns_per_packet"`
	MinNS    float64 `json:"min_ns_per_packet"` // of the fastest 8192 packets in a row
	MaxGapUS float64 `json:"max_gap_us"`        // between two batches
	Tier     string  `json:"tier"`
}

// Run starts an engine in this process, gives it routes and SAs by its socket
// as vitad would, and looks at what its ports have counted.
func (c *softCmd) Run() error {
	if c.Tier != "" {
		if err := aesgcm.Force(c.Tier); err != nil {
			return fmt.Errorf("--tier %q: %w", c.Tier, err)
		}
	}
	t := traffic{v6: c.Family == 6, routes: c.Routes, outbound: c.Direction == "outbound", inbound: c.Direction == "inbound"}
	header := ipAt + 20
	if t.v6 {
		header += 20
	}
	if c.Size == "imix" {
		t.sizes = []int{54, 590, 54, 54, 590, 54, 1514, 54, 590, 54, 54, 590}
	} else {
		n, err := strconv.Atoi(c.Size)
		if err != nil || n < header || n > 1514 {
			return fmt.Errorf("--size %q: want imix or %d to 1514", c.Size, header)
		}
		t.sizes = []int{n}
	}
	for i, n := range t.sizes {
		t.sizes[i] = max(n, header)
	}
	if err := errors.Join(within("routes", c.Routes, 1, 1<<20), within("workers", c.Workers, 1, tables.WorkerSlots), seconds(c.Seconds)); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vitabench")
	if err != nil {
		return err
	}
	ls := &loops{traffic: t, byPool: map[*pktbuf.Pool]*loop{}}
	registry := new(drivers.Registry)
	registry.Register("bench", drivers.LinkIfname, ls.open)
	socket := filepath.Join(dir, "engine")
	engine, err := forwarding.New(forwarding.Options{
		Socket: socket, Registry: registry, CPUs: c.CPU, Hugepages: true,
		MaxRoutes: max(c.Routes, 256), MaxSAs: max(2*c.Routes*c.Workers+16, 256),
	})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- engine.Serve(ctx) }()
	report, err := c.measure(ctx, socket, ls)
	cancel()
	if err = errors.Join(err, <-served, os.RemoveAll(dir)); err != nil {
		return err
	}
	return c.print(report, fmt.Sprintf("%.2f Mpps  %.1f ns a packet (best %.1f, CPU %.1f)  %.2f Gbit/s  longest gap %.0f µs  tier %s",
		report.Mpps, report.NS, report.MinNS, report.CPUNS, report.Gbps, report.MaxGapUS, report.Tier))
}

// spec is the configuration: as many routes as there shall be, one queue a
// worker.
func (c *softCmd) spec() *tables.Spec {
	at := func(v4, v6 string) netip.Addr {
		if c.Family == 6 {
			return netip.MustParseAddr(v6)
		}
		return netip.MustParseAddr(v4)
	}
	hop := [6]byte{2, 0, 0, 0, 9, 9}
	spec := &tables.Spec{Private: &tables.Interface{
		Link: tables.Link{Ifname: "private"}, MAC: privateMAC, NextHopMAC: hop,
		IP: at("172.16.0.1", "fdff::1"), NextHop: at("172.16.0.2", "fdff::2"),
	}}
	for w := range c.Workers {
		spec.Public = append(spec.Public, tables.PublicInterface{
			Interface: tables.Interface{
				Link: tables.Link{Ifname: "public"}, MAC: publicMAC, NextHopMAC: hop,
				IP: at("192.168.0.1", "fdfe::1"), NextHop: at("192.168.0.2", "fdfe::2"),
			},
			Queue: uint16(w + 1), DeviceQueue: uint16(w + 1),
		})
	}
	for i := range c.Routes {
		spec.Routes = append(spec.Routes, c.route(i))
	}
	return spec
}

// route is the i-th one.
func (c *softCmd) route(i int) tables.Route {
	gateway := netip.MustParseAddr("192.168.0.3")
	r := tables.Route{ID: "r" + strconv.Itoa(i), SPI: uint32(1000 + i)}
	if c.Family == 6 {
		gateway = netip.MustParseAddr("fdfe::3")
		r.Nets = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 4: byte(i >> 24), 5: byte(i >> 16), 6: byte(i >> 8), 7: byte(i)}), 64)}
	} else {
		a := 10<<24 + i<<4
		r.Nets = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), 28)}
	}
	for w := range c.Workers {
		r.Gateways = append(r.Gateways, tables.Gateway{Queue: uint16(w + 1), IP: gateway})
	}
	return r
}

// configure gives the engine its routes, and SAs to the first of them.
func (c *softCmd) configure(ctx context.Context, cl *client.Client, keyed int) error {
	if err := commit(ctx, cl, c.spec()); err != nil {
		return err
	}
	for i := range keyed {
		for w := range c.Workers {
			sa := client.SA{Route: "r" + strconv.Itoa(i), Queue: uint16(w + 1), SPI: uint32(1000 + i), Key: make([]byte, c.Key/8)}
			sa.Key[0], sa.Key[1], sa.Key[2], sa.Key[3] = byte(i), byte(i>>8), byte(i>>16), byte(w)
			sa.Direction = client.Inbound
			if _, err := cl.InstallSA(ctx, sa); err != nil {
				return err
			}
			sa.Direction = client.Outbound
			ref, err := cl.InstallSA(ctx, sa)
			if err != nil {
				return err
			}
			if err := cl.Activate(ref); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *softCmd) measure(ctx context.Context, socket string, ls *loops) (r softReport, err error) {
	cl, err := client.Dial(ctx, socket)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, cl.Close()) }()
	if err := c.configure(ctx, cl, c.Routes); err != nil {
		return r, err
	}
	debug.FreeOSMemory()
	debug.SetGCPercent(-1) // as the engine runs
	time.Sleep(300 * time.Millisecond)
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		if err != nil {
			return r, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return r, err
		}
		defer pprof.StopCPUProfile()
	}
	ls.Lock()
	defer ls.Unlock()
	begin := time.Now()
	read := func() (packets, bytes, wall, cpu int64) {
		for _, l := range ls.byPool {
			if d := &l.kept.done; ls.inbound { // sealing does not count
				packets, bytes = packets+d.packets.Load(), bytes+d.bytes.Load()
				wall, cpu = wall+d.wall.Load()/int64(len(ls.byPool)), cpu+d.cpu.Load()
			} else {
				packets, bytes = packets+l.packets.Load(), bytes+l.bytes.Load()
			}
		}
		if ls.inbound {
			return packets, bytes, wall, cpu
		}
		var u unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail with these arguments
		return packets, bytes, int64(time.Since(begin)), u.Utime.Nano() + u.Stime.Nano()
	}
	for _, l := range ls.byPool {
		l.fresh.Store(true)
	}
	p0, b0, w0, c0 := read()
	time.Sleep(time.Duration(c.Seconds * 1e9))
	p1, b1, w1, c1 := read()
	// A machine that has other things to do may need longer for a whole window.
	for (p1 == p0 || ls.slow()) && time.Since(begin) < 30*time.Second {
		time.Sleep(10 * time.Millisecond)
		p1, b1, w1, c1 = read()
	}
	elapsed := float64(w1 - w0)
	packets := float64(p1 - p0)
	if packets == 0 {
		return r, fmt.Errorf("no packet came through: %v", cl.Counters())
	}
	r = softReport{
		Mpps: packets / elapsed * 1e3, NS: elapsed / packets, Gbps: float64(b1-b0) * 8 / elapsed,
		CPUNS: float64(c1-c0) / packets, Tier: aesgcm.Tier(),
	}
	for _, l := range ls.byPool {
		r.MaxGapUS = max(r.MaxGapUS, float64(l.maxGap.Load())/1e3)
		if m := float64(l.minWindow.Load()) / 1e3; r.MinNS == 0 || m < r.MinNS {
			r.MinNS = m
		}
	}
	return r, nil
}
