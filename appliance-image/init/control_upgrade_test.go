package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ctl "vita/internal/appliance"
)

// TestMain is the process that installs an upgrade, where init starts it as that.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "upgrade" {
		switch os.Args[2] { // the disk
		case "refuses":
			fmt.Println(`{"error":"the upgrade is damaged"}`)
			time.Sleep(200 * time.Millisecond) // it takes leave
			os.Exit(1)
		case "floods":
			for {
				if _, err := fmt.Println(`{"version":"2"}` + strings.Repeat(" ", 1000)); err != nil {
					os.Exit(1)
				}
			}
		case "dies":
			os.Exit(3)
		}
		fmt.Println(`{"version":"2"}`)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestUpgradeAgain: who has the answer about one upgrade may ask for the next at
// once, and gets one however the process ends that installs it.
func TestUpgradeAgain(t *testing.T) {
	a := newAppliance()
	socket := filepath.Join(t.TempDir(), "control")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if q, err := readRequest(c); err == nil {
					a.upgrade(t.Context(), c, q)
				}
			}()
		}
	}()
	for _, x := range []struct{ disk, want string }{
		{"refuses", "the upgrade is damaged"},
		{"dies", "the upgrade was not installed: exit status 3"},
		{"floods", "the upgrade was not installed"},
		{"installs", ""},
		{"installs", ""},
	} {
		a.disk = x.disk
		an, err := ctl.Client{Socket: socket}.Ask(t.Context(), ctl.Request{Do: ctl.Upgrade}, strings.NewReader("bundle"))
		if x.want == "" {
			if err != nil || an.Version != "2" {
				t.Errorf("%s: %+v, %v", x.disk, an, err)
			}
		} else if err == nil || !strings.HasPrefix(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", x.disk, err, x.want)
		}
	}
}
