package options

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBase64 me@work"

func TestSources(t *testing.T) {
	want := Options{
		Hostname: "gw1", Admin: "ann", AdminKeys: []string{key}, Management: "52:54:00:12:34:56",
		Address: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
		Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.254")}, DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")},
		NTP: []string{"ntp.example.net"}, Syslog: []string{"192.0.2.5:514"}, Hugepages: 64, TrialSeconds: 600, CPUs: "1-3,5",
	}
	sources := map[string]func(o *Options) error{
		"command line": func(o *Options) error {
			return o.CommandLine(`console=ttyS0 vita.root=00:1 "vita.admin-key=` + key + `" vita.admin=ann vita.hostname=gw1 vita.management=52:54:00:12:34:56 ` +
				"vita.address=192.0.2.1/24,2001:db8::1/64 vita.gateway=192.0.2.254 vita.dns=192.0.2.53 vita.ntp=ntp.example.net vita.syslog=192.0.2.5:514 vita.hugepages=64 vita.trial-seconds=600 vita.cpus=1-3,5 quiet\n")
		},
		"quotes behind =": func(o *Options) error {
			if err := o.CommandLine(`vita.admin-key="` + key + `"`); err != nil {
				return err
			}
			return o.Strings([]string{
				"other=1", "vita.admin=ann", "vita.hostname=gw1", "vita.management=52:54:00:12:34:56", "vita.address=192.0.2.1/24", "vita.address=2001:db8::1/64",
				"vita.gateway=192.0.2.254", "vita.dns=192.0.2.53", "vita.ntp=ntp.example.net", "vita.syslog=192.0.2.5:514", "vita.hugepages=64", "vita.trial-seconds=600", "vita.cpus=1-3,5",
			})
		},
		"file": func(o *Options) error { return o.File(strings.NewReader("\ufeff# made by hand\r\n\r\n" + want.Text())) },
	}
	for name, read := range sources {
		var o Options
		if err := read(&o); err != nil || !reflect.DeepEqual(o, want) {
			t.Errorf("%s: %v\n%+v", name, err, o)
		}
	}
}

// TestWhatIsWrong: what cannot be taken is named, and the rest is taken.
func TestWhatIsWrong(t *testing.T) {
	for _, bad := range []string{
		"address = 192.0.2.1", "address = dhcp6", "gateway = none", "dns = 1.2.3", "hostname = a b", "hostname = -x", "hugepages = -1", "hugepages = many", "trial-seconds = 9", "trial-seconds = 1h",
		"cpus = all", "ntp = a b", "unknown = 1", "no value", "management = ../x", "admin = ", "admin = 1ann", "admin = .ann", "admin = " + strings.Repeat("a", 33), "admin-key = a\x01b", "admin-key = " + strings.Repeat("x", maxValue+1),
	} {
		var o Options
		err := o.File(strings.NewReader(bad + "\nadmin-key = " + key))
		word, _, _ := strings.Cut(bad, " ")
		if err == nil || !strings.Contains(err.Error(), "line 1") || word != "no" && !strings.Contains(err.Error(), word) {
			t.Errorf("%.40q: %v", bad, err)
		}
		if len(o.AdminKeys) != 1 {
			t.Errorf("%.40q: the rest is lost", bad)
		}
	}
	var o Options
	if err := o.CommandLine("vita.admin"); err == nil {
		t.Error("a word without a value")
	}
	if err := o.Strings([]string{"vita.admin-password=secret\x01"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a password: %v", err)
	}
	many := strings.Repeat("x", 1)
	for i := range maxValues + 1 {
		many += ",h" + strings.Repeat("x", i)
	}
	if err := o.Strings([]string{"vita.ntp=" + many}); err == nil {
		t.Error("too many values")
	}
}

func TestText(t *testing.T) {
	o := Options{Admin: "ann", AdminPassword: "secret", Hugepages: 2}
	if got := o.Text(); got != "admin = ann\nhugepages = 2\n" {
		t.Errorf("%q", got)
	}
}

func TestOEMStrings(t *testing.T) {
	raw := []byte("\x0b\x05\x00\x11\x02vita.admin=ann\x00other\x00\x00")
	if got := OEMStrings(raw); !reflect.DeepEqual(got, []string{"vita.admin=ann", "other"}) {
		t.Errorf("%q", got)
	}
	for _, bad := range []string{"", "\x0b", "\x0a\x05\x00\x11\x02x\x00\x00", "\x0b\xff\x00\x11\x02x\x00\x00"} {
		if got := OEMStrings([]byte(bad)); got != nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

// FuzzOptions: whatever comes, what has been taken is written and read again
// as the same.
func FuzzOptions(f *testing.F) {
	f.Add([]byte("admin = ann\naddress = 192.0.2.1/24\n"), uint8(0))
	f.Add([]byte(`vita.admin-key="ssh-ed25519 AAAA x" vita.address=dhcp`), uint8(1))
	f.Add([]byte("\x0b\x05\x00\x11\x02vita.admin=ann\x00vita.hugepages=7\x00\x00"), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, source uint8) {
		var o, again Options
		var err error
		switch source % 3 {
		case 0:
			err = o.File(strings.NewReader(string(b)))
		case 1:
			err = o.CommandLine(string(b))
		case 2:
			err = o.Strings(OEMStrings(b))
		}
		if err != nil {
			return
		}
		if err := again.File(strings.NewReader(o.Text())); err != nil {
			t.Fatalf("%v\n%s", err, o.Text())
		}
		o.AdminPassword = ""
		if o.Text() != again.Text() {
			t.Fatalf("%q becomes %q", o.Text(), again.Text())
		}
	})
}
