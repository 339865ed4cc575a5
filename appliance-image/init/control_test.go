package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ctl "vita/internal/appliance"
)

func TestReadRequest(t *testing.T) {
	r := strings.NewReader(`{"do":"upgrade","downgrade":true}` + "\nthe bundle")
	q, err := readRequest(r)
	if err != nil || q != (ctl.Request{Do: ctl.Upgrade, Downgrade: true}) {
		t.Error(q, err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "the bundle" {
		t.Errorf("what follows: %q, %v", rest, err)
	}
	for _, bad := range []string{"", "no end", "no JSON\n", strings.Repeat(" ", ctl.MaxLine+1) + "\n"} {
		if _, err := readRequest(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q", bad)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(`{"do":"status"}` + "\nrest")
	f.Fuzz(func(t *testing.T, s string) {
		r := strings.NewReader(s)
		if _, err := readRequest(r); err == nil && s[len(s)-r.Len()-1] != '\n' {
			t.Error("it did not stop at the line's end")
		}
	})
}

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
