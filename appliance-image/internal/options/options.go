// Package options reads what an appliance is told before anybody can configure
// it over the network: who its administrator is, and how it is reached. It
// comes as words vita.KEY=VALUE of the kernel's command line, as strings of
// that form in the firmware's tables (SMBIOS type 11, which hypervisors can
// set), or as lines KEY = VALUE of the file vita.conf on a configuration drive.
// All of it is hostile until parsed.
package options

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Options is what can be told. Zero fields have not been.
type Options struct {
	Hostname      string         `key:"hostname"`       // gw1
	Admin         string         `key:"admin"`          // the administrator's name; default admin
	AdminKeys     []string       `key:"admin-key"`      // ssh-ed25519 AAAA... comment; may be given again
	AdminPassword string         `key:"admin-password"` // for RESTCONF; is not stored
	Management    string         `key:"management"`     // interface: name, MAC address, or PCI address
	Address       []netip.Prefix `key:"address"`        // 192.0.2.1/24 or dhcp, which is the default
	Gateway       []netip.Addr   `key:"gateway"`        // 192.0.2.254
	DNS           []netip.Addr   `key:"dns"`
	NTP           []string       `key:"ntp"`           // names or addresses
	Syslog        []string       `key:"syslog"`        // ADDRESS[:PORT]
	Hugepages     int            `key:"hugepages"`     // of 2 MiB
	TrialSeconds  int            `key:"trial-seconds"` // in which an upgrade must prove good; default 300
	CPUs          string         `key:"cpus"`          // for the engine, taken from all others: 2-3
}

// Most that is read of anything.
const (
	maxText   = 64 << 10
	maxValue  = 8 << 10
	maxValues = 16
)

// Prefix is what every word of the command line that is ours begins with.
const Prefix = "vita."

// set adds a value. Of keys that take one value the last one counts; that a
// value of a list is given twice is no error.
func (o *Options) set(key, value string) error {
	value = strings.ToValidUTF8(strings.TrimSpace(value), "?")
	if len(value) > maxValue || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%s: the value is too long, or has control characters", key)
	}
	var err error
	each := func(add func(v string) error) {
		for v := range strings.SplitSeq(value, ",") {
			if v = strings.TrimSpace(v); v != "" && err == nil {
				err = add(v)
			}
		}
	}
	switch key {
	case "hostname":
		o.Hostname, err = value, checkName(value)
	case "admin":
		o.Admin, err = value, checkUser(value)
	case "admin-key":
		o.AdminKeys, err = addTo(o.AdminKeys, value)
	case "admin-password":
		o.AdminPassword = value
	case "management":
		o.Management, err = value, checkWord(value)
	case "address":
		each(func(v string) error {
			if v == "dhcp" {
				o.Address = nil
				return nil
			}
			p, err := netip.ParsePrefix(v)
			if err != nil {
				return fmt.Errorf("want an address with its prefix length, as 192.0.2.1/24, or dhcp: %w", err)
			}
			o.Address, err = addTo(o.Address, p)
			return err
		})
	case "gateway":
		each(func(v string) (err error) { o.Gateway, err = addAddr(o.Gateway, v); return err })
	case "dns":
		each(func(v string) (err error) { o.DNS, err = addAddr(o.DNS, v); return err })
	case "ntp":
		each(func(v string) (err error) { o.NTP, err = addHost(o.NTP, v); return err })
	case "syslog":
		each(func(v string) (err error) { o.Syslog, err = addHost(o.Syslog, v); return err })
	case "hugepages":
		if o.Hugepages, err = strconv.Atoi(value); err == nil && (o.Hugepages < 0 || o.Hugepages > 1<<16) {
			err = errors.New("want 0..65536")
		}
	case "trial-seconds":
		if o.TrialSeconds, err = strconv.Atoi(value); err == nil && (o.TrialSeconds < 10 || o.TrialSeconds > 3600) {
			err = errors.New("want 10..3600")
		}
	case "cpus":
		if o.CPUs = value; strings.Trim(value, "0123456789,-") != "" || len(value) > 100 {
			err = errors.New("want a list, as 2-3,5")
		}
	default:
		err = errors.New("no such option")
	}
	if err != nil {
		if key == "admin-password" {
			value = "..."
		}
		return fmt.Errorf("%s = %.100q: %w", key, value, err)
	}
	return nil
}

func addTo[T comparable](list []T, v T) ([]T, error) {
	if slices.Contains(list, v) {
		return list, nil
	}
	if len(list) == maxValues {
		return list, fmt.Errorf("more than %d values", maxValues)
	}
	return append(list, v), nil
}

func addAddr(list []netip.Addr, v string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil {
		return list, err
	}
	return addTo(list, a)
}

func addHost(list []string, v string) ([]string, error) {
	if err := checkWord(v); err != nil {
		return list, err
	}
	return addTo(list, v)
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func checkName(s string) error {
	if s == "" || len(s) > 63 || strings.Trim(s, letters+"-_.") != "" || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") {
		return errors.New("want up to 63 letters, digits, - _ and dots")
	}
	return nil
}

// checkUser takes what a gateway takes as a user's name (mgmt/access).
func checkUser(s string) error {
	if s == "" || len(s) > 32 || strings.Trim(s, letters+"-_.") != "" || strings.Trim(s[:1], "-.0123456789") == "" {
		return errors.New("want up to 32 letters, digits, - _ and dots, a letter or _ first")
	}
	return nil
}

func checkWord(s string) error {
	if s == "" || len(s) > 255 || strings.Trim(s, letters+"-_.:[]%@") != "" {
		return errors.New("want a name or an address")
	}
	return nil
}

// CommandLine takes the words of a command line that begin with vita., in
// double quotes where they have spaces. Words of others, and vita.root, which
// is for what comes before, stay aside. It takes all that is good, and returns
// what is not as an error.
func (o *Options) CommandLine(line string) error {
	var errs []error
	for _, word := range words(line) {
		key, value, ok := strings.Cut(strings.ReplaceAll(word, `"`, ""), "=")
		if key, ours := strings.CutPrefix(key, Prefix); ours && key != "root" {
			if !ok {
				errs = append(errs, fmt.Errorf("%s: no value", key))
				continue
			}
			errs = append(errs, o.set(key, value))
		}
	}
	return errors.Join(errs...)
}

// words parts a line at spaces outside of double quotes, as the kernel does.
func words(line string) []string {
	quoted := false
	return strings.FieldsFunc(line[:min(len(line), maxText)], func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
}

// Strings takes strings vita.KEY=VALUE, such as those of the firmware. Others
// stay aside.
func (o *Options) Strings(all []string) error {
	var errs []error
	for _, s := range all {
		if rest, ours := strings.CutPrefix(s, Prefix); ours {
			key, value, _ := strings.Cut(rest, "=")
			errs = append(errs, o.set(key, value))
		}
	}
	return errors.Join(errs...)
}

// OEMStrings returns the strings of a table of SMBIOS type 11 (its section
// 7.12), as /sys/firmware/dmi/entries/11-*/raw has it: a header whose second
// byte is its length, and strings that end with zeros.
func OEMStrings(raw []byte) []string {
	if len(raw) < 5 || raw[0] != 11 || int(raw[1]) > len(raw) || len(raw) > maxText {
		return nil
	}
	var out []string
	for s := range strings.SplitSeq(string(raw[raw[1]:]), "\x00") {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// File takes lines KEY = VALUE. Empty lines, and lines that begin with #, are
// nothing. A byte order mark and the line ends of Windows are no harm.
func (o *Options) File(r io.Reader) error {
	lines := bufio.NewScanner(io.LimitReader(r, maxText))
	lines.Buffer(nil, maxText)
	var errs []error
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("line %d: want KEY = VALUE", n))
			continue
		}
		if err := o.set(strings.TrimPrefix(strings.TrimSpace(key), Prefix), strings.TrimSpace(value)); err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", n, err))
		}
	}
	return errors.Join(append(errs, lines.Err())...)
}

// Text returns the options as File reads them, without the password.
func (o *Options) Text() string {
	var b strings.Builder
	v := reflect.ValueOf(*o)
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("key")
		f := v.Field(i)
		switch {
		case f.IsZero() || key == "admin-password":
		case f.Kind() == reflect.Slice:
			for j := range f.Len() {
				fmt.Fprintf(&b, "%s = %v\n", key, f.Index(j))
			}
		default:
			fmt.Fprintf(&b, "%s = %v\n", key, f)
		}
	}
	return b.String()
}
