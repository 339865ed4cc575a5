package appliance

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const everything = `{"hostname":"gw1.example.net","dns":["192.0.2.53","fe80::1%enp0s2"],"search":["example.net","example.org."],"timeout":2,"attempts":3,` +
	`"ntp":["ntp.example.net:123","[2001:db8::7]:1123"],"no-ntp":true,"syslog":["192.0.2.5:514"],"hugepages":64,"cpus":"1,3-4"}`

func TestParseSettings(t *testing.T) {
	for _, good := range []string{everything, "{}", ` {"hugepages":0} `, `{"hostname":"` + strings.Repeat("a", maxName) + `"}`} {
		s, err := ParseSettings([]byte(good))
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		b, err := json.Marshal(s)
		if err != nil || string(b) != strings.TrimSpace(good) {
			t.Errorf("%s becomes %s, %v", good, b, err)
		}
	}
	many := func(n int, format string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	for bad, says := range map[string]string{
		``:                  "settings",
		`[]`:                "settings",
		`{} {}`:             "follows",
		`{"shell":"sh"}`:    "unknown field",
		`{"hostname":"a b"`: "settings",
		`{"hostname":"a` + `\n` + `nameserver 192.0.2.66"}`:     "host name",
		`{"hostname":"` + strings.Repeat("a", maxName+1) + `"}`: "at most 63",
		`{"hostname":"a..b"}`:                                    "host name",
		`{"hostname":"a."}`:                                      "host name",
		`{"hostname":"-a"}`:                                      "host name",
		`{"dns":["ns.example.net"]}`:                             "settings",
		`{"dns":[""]}`:                                           "want an address",
		`{"dns":["fe80::1%a` + `\n` + `b"]}`:                     "interface",
		`{"dns":["fe80::1%abcdefghijklmnop"]}`:                   "interface",
		`{"dns":` + many(MaxDNS+1, `"192.0.2.%d"`) + `}`:         "too many",
		`{"search":["a b"]}`:                                     "domain",
		`{"search":["` + strings.Repeat("a.", 127) + `"]}`:       "at most 253",
		`{"search":` + many(MaxSearch+1, `"d%d"`) + `}`:          "too many",
		`{"timeout":256}`:                                        "at most 255",
		`{"attempts":-1}`:                                        "at most 255",
		`{"ntp":["192.0.2.1"]}`:                                  "HOST:PORT",
		`{"ntp":["192.0.2.1:0"]}`:                                "want a port",
		`{"ntp":["192.0.2.1:ntp"]}`:                              "want a port",
		`{"ntp":["a b:123"]}`:                                    "time server",
		`{"ntp":[":123"]}`:                                       "time server",
		`{"ntp":` + many(MaxNTP+1, `"192.0.2.%d:123"`) + `}`:     "too many",
		`{"syslog":["[fe80::1%` + `\t` + `]:514"]}`:              "interface",
		`{"syslog":["a:65536"]}`:                                 "want a port",
		`{"syslog":` + many(MaxSyslog+1, `"192.0.2.%d:1"`) + `}`: "too many",
		`{"hugepages":-1}`:                                       "huge pages",
		`{"hugepages":65537}`:                                    "huge pages",
		`{"cpus":"all"}`:                                         "processors",
		`{"cpus":"3-1"}`:                                         "processors",
		`{"cpus":"1,"}`:                                          "processors",
		`{"cpus":"0-9999"}`:                                      "processors",
		`{"cpus":"` + strings.Repeat("1,", maxCPUs/2) + `1"}`:    "at most 100",
		`{"hostname":"` + strings.Repeat(" ", MaxLine) + `"}`:    "too long",
	} {
		if s, err := ParseSettings([]byte(bad)); err == nil || !strings.Contains(err.Error(), says) || !reflect.DeepEqual(s, Settings{}) {
			t.Errorf("%.80s: %v, %+v", bad, err, s)
		}
	}
}

func TestParseRequest(t *testing.T) {
	q, err := ParseRequest([]byte(`{"do":"configure","settings":` + everything + `}`))
	if err != nil || q.Do != Configure || q.Settings.Hostname != "gw1.example.net" {
		t.Errorf("%+v, %v", q, err)
	}
	for _, bad := range []string{`{"do":"configure","settings":{"hostname":"a b"}}`, `{"do":"status","else":1}`, `{"do":"status"}{}`, `"status"`} {
		if q, err := ParseRequest([]byte(bad)); err == nil || q != (Request{}) {
			t.Errorf("%s: %+v, %v", bad, q, err)
		}
	}
}

// TestLongest: the most that can be configured fits a request.
func TestLongest(t *testing.T) {
	host := strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 62)+".", 5)[:maxHost], ".")
	pages := 1 << 16
	s := Settings{Hostname: strings.Repeat("a", maxName), Timeout: 255, Attempts: 255, NoNTP: true, Hugepages: &pages, CPUs: strings.TrimSuffix(strings.Repeat("1,", maxCPUs/2), ",")}
	for range MaxSearch {
		s.Search = append(s.Search, host)
	}
	for range MaxNTP {
		s.NTP = append(s.NTP, host+":65535")
	}
	for range MaxSyslog {
		s.Syslog = append(s.Syslog, host+":65535")
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(Request{Do: Configure, Settings: &s})
	if err != nil || len(b)+200 > MaxLine { // 200: name servers
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestCPUs(t *testing.T) {
	if all, err := CPUs("5,2-3,3"); err != nil || !reflect.DeepEqual(all, []int{2, 3, 5}) {
		t.Error(all, err)
	}
}

// FuzzParseSettings: what is taken is within its bounds, has nothing that would be
// a line of its own in a file of the system, and is read again as the same.
func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"hostname":"a\nb"}`))
	f.Add([]byte(`{"dns":["::ffff:192.0.2.1","fe80::1%0"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSettings(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil || len(out) > MaxLine {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
		again, err := ParseSettings(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if b, err := json.Marshal(again); err != nil || string(b) != string(out) {
			t.Fatalf("%s becomes %s, %v", out, b, err)
		}
		words := append(append(append([]string{s.Hostname, s.CPUs}, s.Search...), s.NTP...), s.Syslog...)
		for _, a := range s.DNS {
			words = append(words, a.String())
		}
		for _, w := range words {
			if len(w) > maxHost+10 || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' || r == ';' }) {
				t.Fatalf("%q", w)
			}
		}
	})
}
