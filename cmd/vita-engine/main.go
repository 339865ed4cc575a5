// Command vita-engine is the data plane of Vita in Go: it owns the network
// devices and moves packets, by what vitad tells it over a unix socket. It
// goes on when vitad ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"vita/drivers"
	"vita/drivers/afpacket"
	"vita/drivers/afxdp"
	"vita/drivers/devices"
	"vita/drivers/e1000e"
	"vita/drivers/igb"
	"vita/drivers/ixgbe"
	"vita/drivers/virtio"
	"vita/drivers/vmxnet3"
	"vita/forwarding"
	"vita/internal/cpu"
	"vita/internal/hold"

	"github.com/coreos/go-systemd/v22/daemon"
)

// release is set by the linker.
var release = "devel"

// memoryLimit is where the collector, which is otherwise off, would start to
// run: far above what an engine allocates outside of configuration changes.
const memoryLimit = 2 << 30

func main() {
	hold.Here()
	// The log may go to a pipe of a vitad that dies: that must not take the
	// engine along.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "vita-engine:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet("vita-engine", flag.ContinueOnError)
	fs.SetOutput(stderr)
	socket := fs.String("socket", "/run/vita/engine.sock", "unix socket on which vitad controls the engine")
	cpuList := fs.String("cpus", "", "processors for the engine, as in 2-3; default: all, unbound")
	huge := fs.Bool("hugepages", false, "ask for huge pages for packet buffers")
	idle := fs.String("idle", "sleep", "what workers without packets do: sleep, after a while that adapts to the traffic, or poll, which keeps their processors busy and saves packets the waking up")
	level := fs.String("log-level", "info", "debug, info, warn or error")
	noIOMMU := fs.Bool("no-iommu", false, "take network cards although no IOMMU keeps them from writing to any memory of the machine; needs a kernel that allows it, and huge pages")
	list := fs.Bool("devices", false, "list this machine's network cards, with what keeps the engine from driving each, and end")
	confinement := fs.String("confine", "on", "on or off: whether the engine keeps nothing but the capabilities, files and system calls that it needs")
	version := fs.Bool("version", false, "print the version and end")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *version {
		fmt.Fprintln(stderr, "vita-engine", release)
		return nil
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *list {
		return devices.Write(os.Stdout, "/sys", registry(false))
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(*level)); err != nil {
		return fmt.Errorf("log level %q: want debug, info, warn or error", *level)
	}
	if *idle != "sleep" && *idle != "poll" {
		return fmt.Errorf("--idle %q: want sleep or poll", *idle)
	}
	if *confinement != "on" && *confinement != "off" {
		return fmt.Errorf("--confine %q: want on or off", *confinement)
	}
	cpus, err := cpu.ParseList(*cpuList)
	if err != nil {
		return err
	}
	if len(cpus) > 0 {
		if err := cpu.Confine(cpus); err != nil {
			return err
		}
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	// Workers may keep their processors busy: the control goroutine must find
	// a place beside them.
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)

	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: l}))
	e, err := forwarding.New(forwarding.Options{
		Socket: *socket, Registry: registry(*noIOMMU), CPUs: cpus, Hugepages: *huge, BusyPoll: *idle == "poll", Release: release,
		Log: log,
	})
	if err != nil {
		return err
	}
	if *confinement == "on" {
		if err := confined(*socket, *noIOMMU, log); err != nil {
			return err
		}
	} else {
		log.Warn("not confined: --confine off")
	}
	// It listens since New: a vitad that is started now finds it.
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("sd_notify", "error", err)
	}
	return e.Serve(ctx)
}

// registry lists the drivers of this program, the best first.
func registry(noIOMMU bool) *drivers.Registry {
	own := func(open drivers.Opener) drivers.Opener {
		return func(c drivers.Config) (drivers.Port, error) {
			c.NoIOMMU = noIOMMU
			return open(c)
		}
	}
	r := new(drivers.Registry)
	r.Register("af-xdp", drivers.LinkIfname, afxdp.Open)
	r.Register("af-packet", drivers.LinkIfname, afpacket.Open)
	r.Register("igb", drivers.LinkPCI, own(igb.Open), igb.Chips()...)
	r.Register("e1000e", drivers.LinkPCI, own(e1000e.Open), e1000e.Chips()...)
	r.Register("ixgbe", drivers.LinkPCI, own(ixgbe.Open), ixgbe.Chips()...)
	r.Register("virtio", drivers.LinkPCI, own(virtio.Open), virtio.Chips()...)
	r.Register("vmxnet3", drivers.LinkPCI, own(vmxnet3.Open), vmxnet3.Chips()...)
	return r
}
