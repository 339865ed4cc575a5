package appliance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Settings are those of the machine that the configuration has. Zero fields are
// not set there: the machine has been told them at its first start, or not at
// all. vitad sends them with each change, all of them; init, which may do more
// than vitad, takes nothing for granted.
type Settings struct {
	Hostname  string       `json:"hostname,omitempty"`
	DNS       []netip.Addr `json:"dns,omitempty"`
	Search    []string     `json:"search,omitempty"`   // domains
	Timeout   int          `json:"timeout,omitempty"`  // of a question to a name server, in seconds
	Attempts  int          `json:"attempts,omitempty"` // at all name servers
	NTP       []string     `json:"ntp,omitempty"`      // HOST:PORT, in the order in which they are asked
	NoNTP     bool         `json:"no-ntp,omitempty"`   // nobody is asked
	Syslog    []string     `json:"syslog,omitempty"`   // HOST:PORT
	Hugepages *int         `json:"hugepages,omitempty"`
	CPUs      string       `json:"cpus,omitempty"`
}

// Most that is taken of anything.
const (
	MaxDNS    = 3 // what resolvers ask
	MaxSearch = 6
	MaxNTP    = 8
	MaxSyslog = 8

	maxName = 63
	maxHost = 253
	maxCPU  = 8191
	maxCPUs = 100 // characters
)

// ParseSettings reads settings as they are written, whoever has.
func ParseSettings(b []byte) (s Settings, err error) {
	if len(b) > MaxLine {
		return s, errors.New("the settings are too long")
	}
	if err := decode(b, &s); err != nil {
		return Settings{}, fmt.Errorf("the settings: %w", err)
	}
	if err := s.Check(); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// ParseRequest reads a request's line. What it asks for is not looked at.
func ParseRequest(b []byte) (q Request, err error) {
	if err := decode(b, &q); err != nil {
		return Request{}, fmt.Errorf("the request: %w", err)
	}
	if q.Settings != nil {
		if err := q.Settings.Check(); err != nil {
			return Request{}, err
		}
	}
	return q, nil
}

// decode reads one value of JSON, without members that are not known.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows")
	}
	return nil
}

// Check says what of the settings cannot be.
func (s *Settings) Check() error {
	if s.Hostname != "" {
		if err := checkName(s.Hostname, maxName); err != nil {
			return fmt.Errorf("host name %.100q: %w", s.Hostname, err)
		}
	}
	if len(s.DNS) > MaxDNS || len(s.Search) > MaxSearch || len(s.NTP) > MaxNTP || len(s.Syslog) > MaxSyslog {
		return fmt.Errorf("too many values: at most %d name servers, %d domains, %d time servers and %d servers for the log", MaxDNS, MaxSearch, MaxNTP, MaxSyslog)
	}
	for _, a := range s.DNS {
		if err := checkAddr(a); err != nil {
			return fmt.Errorf("name server %.100q: %w", a.String(), err)
		}
	}
	for _, d := range s.Search {
		if err := checkName(d, maxHost); err != nil {
			return fmt.Errorf("domain %.100q: %w", d, err)
		}
	}
	if s.Timeout < 0 || s.Timeout > 255 || s.Attempts < 0 || s.Attempts > 255 {
		return errors.New("time and attempts of questions to name servers are at most 255")
	}
	for _, h := range s.NTP {
		if err := checkHostPort(h); err != nil {
			return fmt.Errorf("time server %.100q: %w", h, err)
		}
	}
	for _, h := range s.Syslog {
		if err := checkHostPort(h); err != nil {
			return fmt.Errorf("server for the log %.100q: %w", h, err)
		}
	}
	if s.Hugepages != nil && (*s.Hugepages < 0 || *s.Hugepages > 1<<16) {
		return fmt.Errorf("huge pages: want at most %d, not %d", 1<<16, *s.Hugepages)
	}
	if s.CPUs != "" {
		if _, err := CPUs(s.CPUs); err != nil {
			return fmt.Errorf("processors %.100q: %w", s.CPUs, err)
		}
	}
	return nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// checkName checks a name of a host or of a domain: labels with dots between them,
// one dot more at the end of a domain.
func checkName(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("want at most %d characters", most)
	}
	if most > maxName {
		s = strings.TrimSuffix(s, ".")
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, letters+"-_") != "" || strings.HasPrefix(label, "-") {
			return errors.New("want letters, digits, - and _, with dots between them")
		}
	}
	return nil
}

func checkAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("want an address")
	case strings.Trim(a.Zone(), letters+"-_.") != "" || len(a.Zone()) > 15:
		return errors.New("want the name of an interface behind %")
	}
	return nil
}

// checkHostPort checks an address or a name with a port.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("want HOST:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("want a port of 1 to 65535")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return checkAddr(a)
	}
	return checkName(host, maxHost)
}

// CPUs reads a list of processors, as 2-3,5, and returns their numbers in order.
func CPUs(list string) (all []int, err error) {
	if len(list) > maxCPUs {
		return nil, fmt.Errorf("want at most %d characters", maxCPUs)
	}
	bad := errors.New("want numbers, as 2-3,5")
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, bad
		}
		to, err := strconv.ParseUint(high, 10, 16)
		if err != nil || to < from || to > maxCPU {
			return nil, bad
		}
		for n := from; n <= to; n++ {
			all = append(all, int(n))
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
