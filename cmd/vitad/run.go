package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"vita/forwarding/client"
	"vita/internal/appliance"
	"vita/internal/atrest"
	"vita/keying/keeper"
	"vita/keying/ske"
	"vita/mgmt/access"
	"vita/mgmt/capture"
	"vita/mgmt/datastore"
	"vita/mgmt/host"
	"vita/mgmt/monitor"
	"vita/mgmt/nacm"
	"vita/mgmt/netconf"
	"vita/mgmt/notify"
	"vita/mgmt/operation"
	"vita/mgmt/restconf"
	"vita/mgmt/setup"
	"vita/mgmt/state"
	"vita/mgmt/translate"
	"vita/mgmt/upgrade"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

type runCmd struct {
	StateDir     string `required:"" type:"path" help:"Directory that vitad init has set up." placeholder:"DIR"`
	Netconf      string `default:"127.0.0.1:830" help:"Address and port of the NETCONF server." placeholder:"ADDR:PORT"`
	Restconf     string `default:"127.0.0.1:443" help:"Address and port of the RESTCONF server." placeholder:"ADDR:PORT"`
	Cpus         string `help:"Cores for the engine's workers, as 2,4-7. Default: any." placeholder:"LIST"`
	Startup      bool   `help:"Begin with the startup configuration, which clients save by copy-config. Default: with the one that was running."`
	KeepEngine   bool   `help:"Leave the engine forwarding when vitad ends."`
	Engine       string `help:"The vita-engine program. Default: the one beside vitad, then the one in PATH." placeholder:"FILE"`
	Confine      string `default:"on" enum:"on,off" help:"Whether vitad keeps nothing but the files and system calls that it needs: on or off." placeholder:"on|off"`
	Recovery     string `help:"Unix socket at which this machine's root has RESTCONF without password and rules. Default: recovery.sock in the state directory." placeholder:"FILE"`
	EngineSocket string `help:"Socket of the engine. Default: engine.sock in the state directory." placeholder:"FILE"`
	Appliance    string `help:"Unix socket of the init of an appliance, which installs upgrades, starts the engine and looks after the machine. Default: this is no appliance." placeholder:"FILE"`
	LogLevel     level  `default:"info" help:"Lowest level that is logged: debug, info, warn or error." placeholder:"L"`
}

var errEngineGone = errors.New("the engine has ended: start vitad again")

// Run is the control process from start to SIGTERM.
func (c *runCmd) Run() error {
	log, err := c.LogLevel.logger()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	if err := c.begin(ctx, log); err != nil {
		return unlessCanceled(err)
	}
	hostKey, cert, err := c.identity()
	if err != nil {
		return err
	}
	clientCA, err := access.ClientCA(c.StateDir)
	if err != nil {
		return err
	}
	nc, err := net.Listen("tcp", c.Netconf)
	if err != nil {
		return fmt.Errorf("--netconf: %w", err)
	}
	defer nc.Close()
	rc, err := net.Listen("tcp", c.Restconf)
	if err != nil {
		return fmt.Errorf("--restconf: %w", err)
	}
	defer rc.Close()
	recovery, err := restconf.ListenLocal(c.recovery())
	if err != nil {
		return fmt.Errorf("--recovery: %w", err)
	}
	defer recovery.Close()

	engine := client.New()
	defer func() { _ = engine.Close() }() // the engine goes on or has ended; its socket goes either way
	wait, ended, err := c.attach(ctx, engine, log)
	if err != nil {
		return err
	}
	if err := c.confine(log); err != nil { // from here on: what a stranger sends is read after it
		return err
	}

	events := notify.New(0)
	keys := keeper.New(keeper.Options{Engine: engine, Protocol: ske.Protocol{}, Log: log, Event: state.KeyEvent(events)})
	applier := translate.NewApplier(engine, keys, log)
	counters, clearCounters := state.Clearable(state.Fill(engine, keys))
	users := access.NewUsers()
	process1 := appliance.Client{Socket: c.Appliance}
	machine := host.New(process1, log)
	store, err := datastore.Open(datastore.Options{
		Dir: c.StateDir, Applier: applier, Log: log, State: counters, Events: notify.Configuration{Hub: events},
		Access: &nacm.Control{}, Startup: c.Startup, Seal: access.Seal,
		Followers: append(machine.Followers(), datastore.Follower{Module: access.Module, Name: access.Node, Prepare: users.Prepare}),
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Error("close the database", "error", err)
		}
	}()

	if n, err := setup.Migrate(ctx, store, c.StateDir); err != nil {
		return err
	} else if n > 0 {
		log.Warn("users are in the configuration now, all of them administrators", "users", n)
	}
	if users.Len() == 0 {
		log.Warn("no user exists: nobody can log in but root at the recovery socket", "socket", c.recovery())
	}
	upgrades := &upgrade.Upgrader{Init: process1}
	operations, err := operation.Gateway{Store: store, Rekey: keys.Rekey, Clear: clearCounters, Shutdown: stop, Upgrade: upgrades}.Operations()
	if err != nil {
		return err
	}
	watch := monitor.New(store)
	watch.Add(restconf.Streams(events))
	g, ctx := errgroup.WithContext(ctx)
	go atrest.FreeMemory(ctx, 5*time.Second)
	attached := !wait
	if wait {
		g.Go(func() error {
			err := c.await(ctx, engine, ended, log)
			if attached = err == nil; !attached {
				context.AfterFunc(ctx, func() { _ = engine.Close() }) // lets go who waits for it
			}
			return unlessEnding(ctx, err)
		})
	}
	g.Go(func() error { return machine.Run(ctx) })
	g.Go(func() error { return unlessCanceled(keys.Run(ctx)) })
	g.Go(func() error { return unlessEnding(ctx, engine.Receive(ctx, keys.Handle)) })
	g.Go(func() error { return unlessCanceled(state.Watch(ctx, engine, events)) })
	g.Go(func() error {
		if err := c.apply(ctx, store, log); err != nil || ctx.Err() != nil {
			return err
		}
		if state.WaitForRoutes(ctx, c.routesUp(), keys.SAs) == nil {
			sdNotify(log, "X_VITA_HEALTH=1") // to the init of an appliance, which has waited for it to keep an upgrade
		}
		return nil
	})
	g.Go(func() error {
		return netconf.New(netconf.Options{Datastore: store, Monitor: watch, Events: events, Operations: operations, Users: users, HostKey: hostKey, Log: log}).Serve(ctx, nc)
	})
	rest := restconf.New(restconf.Options{Datastore: store, Monitor: watch, Events: events, Operations: operations, Users: users, Certificate: cert, ClientCA: clientCA, Log: log, Captures: capture.New(engine), Upgrades: upgrades})
	g.Go(func() error { return rest.Serve(ctx, rc) })
	g.Go(func() error { return rest.ServeLocal(ctx, recovery) })
	g.Go(func() error {
		select {
		case <-engine.Done():
			return unlessEnding(ctx, errEngineGone)
		case <-ctx.Done():
			return nil
		}
	})
	sdNotify(log, "X_VITA_NETCONF=1") // to the same: whoever manages the gateway need not wait for its network cards
	err = g.Wait()
	if !attached {
		return err
	}
	if err := state.SaveRoutes(c.routesUp(), keys.SAs()); err != nil {
		log.Warn("at the end", "error", err)
	}
	sdNotify(log, daemon.SdNotifyStopping)
	applier.Wait()
	if !c.KeepEngine && !errors.Is(err, errEngineGone) {
		grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, engine.Shutdown(grace))
	}
	log.Info("vitad ends", "engine kept", c.KeepEngine)
	return err
}

func (c *runCmd) identity() (ssh.Signer, tls.Certificate, error) {
	host, err := access.HostKey(c.StateDir)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	cert, err := access.Certificate(c.StateDir)
	return host, cert, err
}

// apply makes the stored configuration live and tells the service manager that
// the gateway is ready. Where the configuration cannot be applied, as when an
// interface is missing, the gateway is managed all the same and keeps trying.
func (c *runCmd) apply(ctx context.Context, store *datastore.Datastore, log *slog.Logger) error {
	for try := 0; ; try++ {
		err := store.Start(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			log.Error("the stored configuration cannot be applied yet", "error", err)
		}
		if try == 0 {
			log.Info("ready", "netconf", c.Netconf, "restconf", c.Restconf)
			sdNotify(log, daemon.SdNotifyReady)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
		}
	}
}

func sdNotify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("sd_notify", "error", err)
	}
}

func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func unlessEnding(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *runCmd) recovery() string {
	if c.Recovery != "" {
		return c.Recovery
	}
	return filepath.Join(c.StateDir, "recovery.sock")
}

// routesUp is the file with the routes that could be sent over when vitad ended.
func (c *runCmd) routesUp() string { return filepath.Join(c.StateDir, "routes.up") }

// socket returns where the engine listens.
func (c *runCmd) socket() string {
	if c.EngineSocket != "" {
		return c.EngineSocket
	}
	return filepath.Join(c.StateDir, "engine.sock")
}

var _ keeper.Engine = (*client.Client)(nil)
