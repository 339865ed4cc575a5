package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"vita/appliance-image/internal/logring"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"
)

// watchdogTime is after how long without a sign of life the machine is reset.
// Intel's chipsets count it twice.
const watchdogTime = 30

// watchdog keeps the hardware's watchdog quiet, as long as this process gets
// anywhere. Where the machine has none, the kernel's own serves, which at least
// sees that processes do not run any more.
func (a *appliance) watchdog(ctx context.Context) {
	f, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err = a.modules.Load("softdog"); err == nil {
			f, err = os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
		}
	}
	if err != nil {
		a.say(logring.Warning, "no watchdog: %v", err)
		return
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, watchdogTime); err != nil {
		a.note("watchdog: its time stays: %v", err)
	}
	// It runs on while the machine ends: an end that hangs is cut short, too.
	for {
		if err := unix.IoctlWatchdogKeepalive(int(f.Fd())); err != nil {
			a.say(logring.Error, "watchdog: %v", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchdogTime / 6 * time.Second):
		}
	}
}

// powerButton ends the machine when its power button is pressed, which is how
// hypervisors ask a guest to end.
func (a *appliance) powerButton(ctx context.Context) {
	found, _ := filepath.Glob("/sys/class/input/event*/device/name") // the pattern is good
	n := 0
	for _, name := range found {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(b, []byte("Power Button")) {
			continue
		}
		f, err := os.Open("/dev/input/" + filepath.Base(filepath.Dir(filepath.Dir(name))))
		if err != nil {
			a.note("power button: %v", err)
			continue
		}
		n++
		context.AfterFunc(ctx, func() { _ = f.Close() }) // which ends Read
		go func() {
			b := make([]byte, 24*16)
			for {
				n, err := f.Read(b)
				if err != nil {
					return
				}
				if pressed(b[:n]) {
					a.finish(unix.LINUX_REBOOT_CMD_POWER_OFF, "power button")
				}
			}
		}()
	}
	if n == 0 {
		a.note("the machine has no power button")
	}
}

// pressed looks for the press of the key KEY_POWER in events of struct
// input_event.
func pressed(b []byte) bool {
	const size, evKey, keyPower = 24, 1, 116
	for ; len(b) >= size; b = b[size:] {
		e := b[16:]
		if binary.LittleEndian.Uint16(e) == evKey && binary.LittleEndian.Uint16(e[2:]) == keyPower && binary.LittleEndian.Uint32(e[4:]) == 1 {
			return true
		}
	}
	return false
}

// How the clock is kept.
const (
	ntpPeriod = 17 * time.Minute
	ntpRetry  = 30 * time.Second
	maxSlew   = 400 * time.Millisecond // more is a step
)

// ntp keeps the clock by the time servers, and notes the time on the disk now and
// then.
func (a *appliance) ntp(ctx context.Context) {
	for {
		select {
		case <-a.told.time: // they are looked at now
		default:
		}
		wait := ntpPeriod
		if servers := a.told.wish().ntp; len(servers) > 0 && !a.askTime(servers) {
			wait = ntpRetry
		}
		if err := touch(clockFile); err != nil {
			a.note("%v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.told.time: // there may be other servers
		case <-time.After(wait):
		}
	}
}

// askTime asks the servers in turn, until one answers.
func (a *appliance) askTime(servers []string) bool {
	for _, server := range servers {
		r, err := ntp.Query(server)
		if err == nil {
			err = r.Validate()
		}
		if err != nil {
			a.note("NTP server %s: %v", server, err)
			a.clock.Store(new(fmt.Sprintf("%s has not answered: %v", server, err)))
			continue
		}
		a.clock.Store(new(fmt.Sprintf("%s was off by %s at %s", server, -r.ClockOffset, time.Now().Add(r.ClockOffset).UTC().Format(time.RFC3339))))
		if o := r.ClockOffset; o.Abs() > maxSlew {
			a.say(logring.Notice, "the clock is off by %s: set by %s", -o, server)
			a.setClock(time.Now().Add(o))
		} else {
			t := unix.Timex{Modes: unix.ADJ_OFFSET | unix.ADJ_STATUS | unix.ADJ_NANO, Status: unix.STA_PLL | unix.STA_NANO, Offset: o.Nanoseconds(), Constant: 6}
			if _, err := unix.Adjtimex(&t); err != nil {
				a.note("adjust the clock: %v", err)
			}
		}
		return true
	}
	return false
}

func touch(name string) error {
	now := time.Now()
	err := os.Chtimes(name, now, now)
	if errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(name, nil, 0o600)
	}
	return err
}
