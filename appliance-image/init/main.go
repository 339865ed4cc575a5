// Init is process 1 of the appliance. It makes the machine usable, finds or
// makes the state, brings up the network that the gateway is managed by, keeps
// vita-engine and vitad running, and looks after the console, the clock, the
// watchdog and the upgrade's trial. There is no shell beside it.
//
//	early: root ──► state, network ──┬─ vita-engine   network namespace "data": all cards but one
//	                                 ├─ vitad         the management interface, NETCONF, RESTCONF
//	                                 └─ console, log, DHCP, NTP, watchdog, control socket
//
// The kernel starts it from the memory file system inside the unified kernel image,
// and it goes on from there: to start a program takes time. The root has it too, for
// the upgrades that it starts itself for.
//
// Where it cannot go on, as without a state, it says so on the console and
// offers the rescue menu there: it never ends, since the kernel would panic.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vita/appliance-image/init/early"
	"vita/appliance-image/internal/logring"
	"vita/appliance-image/internal/modules"
	"vita/appliance-image/internal/options"
	"vita/appliance-image/internal/slots"
	"vita/appliance-image/internal/supervise"
	"vita/appliance-image/internal/timeline"

	"golang.org/x/sys/unix"
)

// release is set by the linker.
var release = "devel"

// Where things are.
const (
	runDir     = "/run/vita"
	stateDir   = "/state"
	vitaDir    = stateDir + "/vita"
	optionFile = stateDir + "/appliance.conf"
	engineSock = runDir + "/engine.sock"
	notifySock = runDir + "/notify.sock"
	controlAt  = runDir + "/appliance.sock"
	shareDir   = "/usr/share/vita"
)

// ringSize is how much log is kept in memory.
const ringSize = 1 << 20

// appliance is all that init knows.
type appliance struct {
	log       *logring.Ring
	disk      string     // that it was started from, such as vda
	slot      slots.Slot // of the root that runs
	options   options.Options
	told      told
	pages     int                                    // huge pages that are reserved
	cpus      string                                 // for the engine alone
	send      func(server string) context.CancelFunc // begins to send the log
	modules   loader
	times     timeline.Line
	mayBegin  chan struct{}                 // closed when vitad may look at its state
	first     atomic.Pointer[administrator] // who is to be the first one
	serving   sync.Mutex
	services  []*supervise.Runner // by their names
	names     []string            // of the services
	end       chan ending
	once      sync.Once
	data      *dataNet
	manage    atomic.Pointer[string] // the management interface's name
	ready     atomic.Bool            // vitad serves sessions, as it has said
	hurryOnce sync.Once
	hurry     chan struct{}          // closed when slow devices need not wait any more
	clock     atomic.Pointer[string] // what the time servers have said
	started   atomic.Bool            // the stored configuration is in force, for the first time
	healthy   atomic.Bool
	trial     atomic.Bool // the image has not proved good yet
}

// ending is why the machine ends.
type ending struct {
	how int // of reboot(2)
	why string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "upgrade" {
		os.Exit(runUpgrade(os.Args[2:], os.Stdin, os.Stdout))
	}
	a := newAppliance()
	if os.Getpid() != 1 {
		fmt.Println("vita-init", release, "is for process 1 of the appliance")
		os.Exit(1)
	}
	if err := a.root(); err != nil {
		// The kernel panics when process 1 ends, and reboots after a while: the
		// boot loader then counts a failed try of this image.
		fmt.Println("vita: cannot start:", err)
		os.Exit(1)
	}
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	if err := a.start(ctx, &work); err != nil {
		a.say(logring.Critical, "cannot start: %v", err)
	}
	a.wait(stop, &work)
}

func newAppliance() *appliance {
	return &appliance{
		log: logring.New(ringSize, time.Now), end: make(chan ending, 1), mayBegin: make(chan struct{}), hurry: make(chan struct{}),
		told: told{senders: make(map[string]context.CancelFunc), time: make(chan struct{}, 1)},
	}
}

// say logs a line of init's own, and shows it on the console.
func (a *appliance) say(s logring.Severity, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	a.log.Add("init", s, text)
	fmt.Println("vita: " + text)
}

// note only logs it.
func (a *appliance) note(format string, args ...any) {
	a.log.Add("init", logring.Info, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

// keep runs a function, and keeps a panic in it from ending process 1.
func (a *appliance) keep(work *sync.WaitGroup, name string, f func()) {
	work.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				a.say(logring.Critical, "%s has failed: %v", name, r)
			}
		}()
		f()
	})
}

// start brings everything up, the drivers of the cards and vitad beside the rest.
// What fails without the gateway being lost is only said.
func (a *appliance) start(ctx context.Context, work *sync.WaitGroup) (err error) {
	if err := mounts(); err != nil {
		return err
	}
	a.send = func(server string) context.CancelFunc {
		ctx, stop := context.WithCancel(ctx)
		a.keep(work, "syslog", func() { a.log.SendTo(ctx, server, a.hostname) })
		return stop
	}
	defer func() { _ = os.WriteFile("/sys/kernel/rcu_expedited", []byte("0"), 0) }() // see early
	a.keep(work, "console", func() { a.consoles(ctx) })
	a.keep(work, "kernel's log", func() { a.kernelLog(ctx) })
	a.keep(work, "orphans", func() { a.reap(ctx) })
	a.harden()
	a.control(ctx, work)
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	a.serveVitad(ctx, work, stopEngine) // it takes a while to start, and asks when it may begin
	set, err := modules.Open("/usr/lib/modules")
	if err != nil {
		return err
	}
	a.modules = set
	cards, all := a.devices(ctx, work)
	if err := a.mountState(work); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	a.times.Mark("state")
	a.sane()
	if err := a.readOptions(all); err != nil {
		a.say(logring.Warning, "options: %v", err)
	}
	a.told.setOptions(a.options)
	a.readSettings(settingsFile)
	a.hugepages()
	a.processors()
	if err := a.identity(); err != nil {
		return err
	}
	a.beginTrial() // which keeps a copy of the state, before anything of it changes
	if err := a.apply(); err != nil {
		a.say(logring.Error, "%v", err)
	}
	a.firstBoot()
	if a.data, err = newDataNet(); err != nil {
		a.say(logring.Error, "network: %v", err)
	}
	engine := a.engine()
	<-cards
	if err := a.network(ctx, work); err != nil {
		a.say(logring.Error, "network: %v", err)
	}
	a.times.Mark("network")
	// The engine goes on last: it confines itself to the devices that there are, and
	// vitad, which begins beside all this, brings it the configuration at once.
	a.serveEngine(engineCtx, work, engine)
	a.keep(work, "clock", func() { a.ntp(ctx) })
	return nil
}

// root finds the root, and what it was found on.
func (a *appliance) root() error {
	p, err := early.Root(&a.times)
	if err != nil {
		return err
	}
	a.disk = p.Disk
	a.slot, err = slots.OfPartition(p.Name)
	return err
}

// wait waits until the machine shall end, and ends it in good order.
func (a *appliance) wait(stop func(), work *sync.WaitGroup) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) // Ctrl-Alt-Del becomes SIGINT; without it, it would reboot at once
	var e ending
	select {
	case e = <-a.end:
	case s := <-signals:
		e = ending{unix.LINUX_REBOOT_CMD_RESTART, s.String()}
		if s == unix.SIGPWR || s == unix.SIGTERM {
			e.how = unix.LINUX_REBOOT_CMD_POWER_OFF
		}
	}
	a.say(logring.Notice, "ending: %s", e.why)
	stop()
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2*supervise.Grace + 5*time.Second):
		a.say(logring.Warning, "not all has ended in time")
	}
	if err := a.unmountState(); err != nil {
		a.say(logring.Warning, "state: %v", err)
	}
	unix.Sync()
	if err := unix.Reboot(e.how); err != nil {
		a.say(logring.Critical, "reboot: %v", err)
	}
	select {} // process 1 must not end
}

// finish asks for the machine's end. Only the first reason counts.
func (a *appliance) finish(how int, why string) {
	a.once.Do(func() { a.end <- ending{how, why} })
}

var errNoState = errors.New("there is no usable state: see the rescue menu")
