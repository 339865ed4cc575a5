package mgmt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Clients that mean harm, against the real servers over loopback. Whatever they
// do is refused within limits, and a good client is served meanwhile.

const (
	mediaXML  = "application/yang-data+xml"
	mediaJSON = "application/yang-data+json"
)

// session is a NETCONF session of whose bytes the test is master.
type session struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

const hello = `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.1</capability></capabilities></hello>]]>]]>`

func (s *servers) session() (*session, error) {
	conn, err := ssh.Dial("tcp", s.netconf, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(s.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { conn.Close() })
	c, err := conn.NewSession()
	if err != nil {
		return nil, err
	}
	n := &session{t: s.t}
	if n.in, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.out = bufio.NewReader(out)
	if err := c.RequestSubsystem("netconf"); err != nil {
		return nil, err
	}
	if _, err := n.in.Write([]byte(hello)); err != nil {
		return nil, err
	}
	_, err = n.until("]]>]]>")
	return n, err
}

func (n *session) until(mark string) (string, error) {
	var b []byte
	for !bytes.HasSuffix(b, []byte(mark)) {
		c, err := n.out.ReadByte()
		if err != nil {
			return string(b), err
		}
		b = append(b, c)
	}
	return string(b), nil
}

// ask sends one message and returns the answer, with its framing.
func (n *session) ask(message string) (string, error) {
	if _, err := fmt.Fprintf(n.in, "\n#%d\n%s\n##\n", len(message), message); err != nil {
		return "", err
	}
	return n.until("\n##\n")
}

// web is an HTTP client of its own connection.
func (s *servers) web(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: s.tls("h2", "http/1.1"), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func (s *servers) tls(protocols ...string) *tls.Config {
	// What is tested here is the server's patience, not its certificate.
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, MinVersion: tls.VersionTLS13}
}

func (s *servers) web1(c *http.Client, method, path, media, body string) (int, string, error) {
	r, err := http.NewRequest(method, s.restconf+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.SetBasicAuth(user, password)
	r.Header.Set("Content-Type", media)
	a, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	return a.StatusCode, string(b), err
}

// goodClientsWork checks that new clients of both servers are served in two
// seconds; a busy machine has three tries.
func (s *servers) goodClientsWork(t *testing.T) {
	t.Helper()
	var why error
	for range 3 {
		begun := time.Now()
		why = func() error {
			n, err := s.session()
			if err != nil {
				return fmt.Errorf("netconf: %w", err)
			}
			a, err := n.ask(`<rpc message-id="1" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><get-config><source><running/></source></get-config></rpc>`)
			if err != nil || !strings.Contains(a, "<data>") {
				return fmt.Errorf("netconf: %w %.200s", err, a)
			}
			code, _, err := s.web1(s.web(t), http.MethodGet, "/restconf/data?content=config", mediaJSON, "")
			if err != nil || code != http.StatusOK {
				return fmt.Errorf("restconf: %w, status %d", err, code)
			}
			if took := time.Since(begun); took > 2*time.Second {
				return fmt.Errorf("served only after %v", took)
			}
			return nil
		}()
		if why == nil {
			return
		}
	}
	t.Error("a good client: ", why)
}

// bomb is the billion laughs.
func bomb() string {
	var b strings.Builder
	b.WriteString(`<!DOCTYPE l [<!ENTITY l0 "lol">`)
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, `<!ENTITY l%d "%s">`, i, strings.Repeat(fmt.Sprintf("&l%d;", i-1), 10))
	}
	return b.String() + `]>`
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ` a%d=""`, i)
	}
	return b.String()
}

func declarations(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ` xmlns:p%d="p"`, i)
	}
	return b.String()
}

const deep = 100_000

// hostileXML are documents around or in <mtu>, and a word of the answer.
var hostileXML = map[string]struct{ prolog, content, says string }{
	"entity bomb":        {bomb(), `<mtu xmlns="vita:esp-gateway">&l9;</mtu>`, "document type"},
	"external entity":    {`<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>`, `<mtu xmlns="vita:esp-gateway">&x;</mtu>`, "document type"},
	"undeclared entity":  {"", `<mtu xmlns="vita:esp-gateway">&x;</mtu>`, "entity"},
	"nesting":            {"", strings.Repeat("<a>", deep) + strings.Repeat("</a>", deep), "levels"},
	"nesting in a leaf":  {"", `<mtu xmlns="vita:esp-gateway">` + strings.Repeat("<a>", deep) + strings.Repeat("</a>", deep) + "</mtu>", "levels"},
	"attributes":         {"", `<mtu xmlns="vita:esp-gateway"` + attributes(300_000) + `>1400</mtu>`, "attributes"},
	"declarations":       {"", `<mtu xmlns="vita:esp-gateway"` + declarations(300_000) + `>1400</mtu>`, "attributes"},
	"a long name":        {"", "<" + strings.Repeat("n", 1<<20) + ` xmlns="vita:esp-gateway"/>`, "unknown-element"},
	"a giant number":     {"", `<mtu xmlns="vita:esp-gateway">` + strings.Repeat("9", 1<<20) + `</mtu>`, "invalid-value"},
	"a giant list key":   {"", `<route4 xmlns="vita:esp-gateway"><id>` + strings.Repeat("k", 1<<20) + `</id></route4>`, "data-missing"},
	"cut in the middle":  {"", `<mtu xmlns="vita:esp-gateway">14`, "malformed-message"},
	"nulls":              {"", "<mtu xmlns=\"vita:esp-gateway\">\x00\x00</mtu>", "malformed-message"},
	"another encoding":   {`<?xml version="1.0" encoding="utf-7"?>`, `<mtu xmlns="vita:esp-gateway">1400</mtu>`, "UTF-8"},
	"an endless comment": {"", "<!--" + strings.Repeat("- ", 1<<19), "malformed-message"},
}

func TestHostileXML(t *testing.T) {
	s := start(t)
	n, err := s.session()
	check(t, err)
	c := s.web(t)
	for what, h := range hostileXML {
		t.Run(what, func(t *testing.T) {
			const ns = "urn:ietf:params:xml:ns:netconf:base:1.0"
			begun := time.Now()
			// An answer does not give back what was sent, megabytes of it.
			const most = 8 << 10
			answer, err := n.ask(h.prolog + `<rpc message-id="1" xmlns="` + ns + `"><edit-config><target><running/></target><config>` + h.content + `</config></edit-config></rpc>`)
			if err != nil || !strings.Contains(answer, "<rpc-error>") || !strings.Contains(answer, h.says) || len(answer) > most {
				t.Errorf("NETCONF: %v %.300s\nwant %s", err, answer, h.says)
			}
			code, answer, err := s.web1(c, http.MethodPatch, "/restconf/data", mediaXML, h.prolog+`<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf">`+h.content+`</data>`)
			if err != nil || code != http.StatusBadRequest && code != http.StatusConflict || !strings.Contains(answer, h.says) || len(answer) > most {
				t.Errorf("RESTCONF: %v %d %.300s\nwant %s", err, code, answer, h.says)
			}
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	s.goodClientsWork(t)
	if _, body := s.curl(s.restconf + "/restconf/data?content=config"); strings.Contains(body, "mtu") || strings.Contains(body, "route4") {
		t.Error("something was changed: ", body)
	}
}

func TestHostileJSON(t *testing.T) {
	s := start(t)
	c := s.web(t)
	for what, h := range map[string]struct{ body, says string }{
		"arrays":           {strings.Repeat("[", deep), "malformed-message"},
		"objects":          {strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep), "levels"},
		"a giant number":   {`{"vita-esp-gateway:mtu":` + strings.Repeat("9", 1<<20) + `}`, "invalid-value"},
		"a giant exponent": {`{"vita-esp-gateway:mtu":1e999999999}`, "invalid-value"},
		"a long name":      {`{"vita-esp-gateway:` + strings.Repeat("n", 1<<20) + `":1}`, "unknown-element"},
		"a name twice":     {`{"vita-esp-gateway:mtu":1400,"vita-esp-gateway:mtu":1400}`, "twice"},
		"half a surrogate": {`{"vita-esp-gateway:mtu":"\ud800"}`, "invalid-value"},
		"no UTF-8":         {"{\"vita-esp-gateway:mtu\":\"\xff\xfe\"}", "invalid-value"},
		"nothing":          {"", "malformed-message"},
		"cut":              {`{"vita-esp-gateway:mtu":14`, "malformed-message"},
		"many values":      {`{"ietf-restconf:data":[` + strings.Repeat("1,", 5<<20) + `1]}`, "too many values"},
	} {
		t.Run(what, func(t *testing.T) {
			body := h.body
			if rest, ok := strings.CutPrefix(body, `{"vita`); ok {
				body = `{"ietf-restconf:data":{"vita` + rest + "}"
			}
			code, answer, err := s.web1(c, http.MethodPatch, "/restconf/data", mediaJSON, body)
			if err != nil || code != http.StatusBadRequest || !strings.Contains(answer, h.says) {
				t.Errorf("%v %d %.300s\nwant %s", err, code, answer, h.says)
			}
			if len(answer) > 8<<10 {
				t.Errorf("an answer of %d bytes", len(answer))
			}
		})
	}
	s.goodClientsWork(t)
}

// TestTooMuch sends more than the servers take, at each place where there is a
// limit.
func TestTooMuch(t *testing.T) {
	s := start(t)
	blanks := func(n int) string {
		file := filepath.Join(t.TempDir(), "body")
		check(t, os.WriteFile(file, bytes.Repeat([]byte(" "), n), 0o600))
		return "@" + file
	}
	file := blanks(64<<20 + 1)
	data := s.restconf + "/restconf/data"
	for what, args := range map[string][]string{
		"PATCH":       {"-X", "PATCH", "--data-binary", file, data},
		"in chunks":   {"-X", "PUT", "--http1.1", "-H", "Transfer-Encoding: chunked", "--data-binary", file, data},
		"rpc":         {"-X", "POST", "--data-binary", blanks(1000), s.restconf + "/restconf/operations/ietf-netconf:commit"},
		"our own rpc": {"-X", "POST", "--data-binary", blanks(64<<10 + 1), s.restconf + "/restconf/operations/vita-esp-gateway-ext:rekey"},
	} {
		status, body := s.curl(append([]string{"-H", "Expect:", "-H", "Content-Type: " + mediaJSON}, args...)...)
		if status != "413" || !strings.Contains(body, `"too-big"`) {
			t.Errorf("%s: %s %.300s", what, status, body)
		}
	}
	c := s.web(t)
	long := strings.Repeat("x", 100<<10)
	r, err := http.NewRequest(http.MethodGet, data, nil)
	check(t, err)
	r.Header.Set("X-Long", long)
	if a, err := c.Do(r); err == nil {
		a.Body.Close()
		if a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("long header: %s", a.Status)
		}
	}
	for _, path := range []string{"/restconf/data/" + strings.Repeat("a/", 8000), "/restconf/data?fields=" + strings.Repeat("a(", 8000), "/restconf/data?depth=" + strings.Repeat("9", 10000)} {
		if code, body, err := s.web1(c, http.MethodGet, path, mediaJSON, ""); err != nil || code < 400 || code > 404 || len(body) > 40<<10 {
			t.Errorf("%.40s…: %v %d, %d bytes", path, err, code, len(body))
		}
	}
	s.goodClientsWork(t)
}

// TestIdleConnections opens 200 connections to each server and says nothing: the
// first of them have to go before their time, which is 10 s at least.
func TestIdleConnections(t *testing.T) {
	s := start(t)
	begun := time.Now()
	var first []net.Conn
	for _, addr := range []string{s.netconf, strings.TrimPrefix(s.restconf, "https://")} {
		for i := range 200 {
			c, err := net.Dial("tcp", addr)
			check(t, err)
			t.Cleanup(func() { c.Close() })
			if i == 0 {
				first = append(first, c)
			}
		}
	}
	s.goodClientsWork(t)
	for _, c := range first {
		closes(t, c, max(2*time.Second, time.Until(begun.Add(9*time.Second))))
	}
}

// closes checks that the server ends the connection in time.
func closes(t *testing.T, c net.Conn, within time.Duration) {
	t.Helper()
	check(t, c.SetReadDeadline(time.Now().Add(within)))
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still there after %v", within)
	}
}

// TestSlowHeaders sends a request's headers byte by byte.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	s := start(t)
	addr := strings.TrimPrefix(s.restconf, "https://")
	for what, dial := range map[string]func() (net.Conn, error){
		"TLS hello": func() (net.Conn, error) { return net.Dial("tcp", addr) },
		"HTTP":      func() (net.Conn, error) { return tls.Dial("tcp", addr, s.tls("http/1.1")) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c, err := dial()
			check(t, err)
			defer c.Close()
			text := "GET /restconf/data HTTP/1.1\r\nHost: a\r\nX: "
			if what != "HTTP" {
				text = "\x16\x03\x01\x10\x00\x01"
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for i := 0; ctx.Err() == nil; i++ {
					b := byte('x')
					if i < len(text) {
						b = text[i]
					}
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			}()
			closes(t, c, 14*time.Second)
			s.goodClientsWork(t)
		})
	}
}

func frame(kind, flags byte, stream uint32, payload string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return string(b) + payload
}

// TestMalformedTransport breaks the rules of TLS, HTTP and HTTP/2.
func TestMalformedTransport(t *testing.T) {
	s := start(t)
	addr := strings.TrimPrefix(s.restconf, "https://")
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings := frame(4, 0, 0, "")
	many := func(f func(i uint32) string) string {
		var b strings.Builder
		for i := range uint32(100_000) {
			b.WriteString(f(i))
		}
		return preface + settings + b.String()
	}
	for what, c := range map[string]struct{ protocol, bytes string }{
		"no TLS":                     {"", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		"TLS record too long":        {"", "\x16\x03\x01\xff\xff" + strings.Repeat("\x01", 70_000)},
		"TLS hello of nothing":       {"", "\x16\x03\x01\x00\x04\x01\x00\x00\x00"},
		"TLS alert first":            {"", "\x15\x03\x03\x00\x02\x02\x28"},
		"SSH":                        {"", "SSH-2.0-x\r\n"},
		"no HTTP":                    {"http/1.1", "\x00\x01\x02\r\n\r\n"},
		"two lengths":                {"http/1.1", "PUT /restconf/data HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"},
		"negative length":            {"http/1.1", "PUT /restconf/data HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"},
		"no preface":                 {"h2", strings.Repeat("\x00", 64)},
		"frame too long":             {"h2", preface + settings + frame(1, 4, 1, strings.Repeat("x", 1<<20))},
		"broken header block":        {"h2", preface + settings + frame(1, 5, 1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")},
		"data on a stream of nobody": {"h2", preface + settings + frame(0, 0, 7, "x")},
		"even stream":                {"h2", preface + settings + frame(1, 5, 2, "\x82")},
		"window overflow":            {"h2", preface + settings + frame(8, 0, 0, "\x7f\xff\xff\xff")},
		"endless continuation":       {"h2", preface + settings + frame(1, 0, 1, "\x82") + strings.Repeat(frame(9, 0, 1, strings.Repeat("\x82", 1000)), 5000)},
		"ping flood":                 {"h2", many(func(uint32) string { return frame(6, 0, 0, "12345678") })},
		"settings flood":             {"h2", many(func(uint32) string { return settings })},
		"rapid reset": {"h2", many(func(i uint32) string {
			return frame(1, 5, 2*i+1, "\x82\x87\x84") + frame(3, 0, 2*i+1, "\x00\x00\x00\x08")
		})},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var conn net.Conn
			var err error
			if c.protocol == "" {
				conn, err = net.Dial("tcp", addr)
			} else {
				conn, err = tls.Dial("tcp", addr, s.tls(c.protocol))
			}
			check(t, err)
			defer conn.Close()
			check(t, conn.SetDeadline(time.Now().Add(15*time.Second)))
			go func() { _, _ = io.WriteString(conn, c.bytes) }() // until the server has enough
			if strings.HasSuffix(what, "flood") || what == "rapid reset" {
				// It is answered, or ended; within the rules it may go on.
				check(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
				_, _ = io.Copy(io.Discard, conn)
			} else {
				closes(t, conn, 12*time.Second)
			}
			s.goodClientsWork(t)
		})
	}
	for what, text := range map[string]string{
		"no SSH":            "GET / HTTP/1.1\r\n\r\n",
		"endless version":   strings.Repeat("SSH-2.0-x", 100_000),
		"packet too long":   "SSH-2.0-x\r\n\xff\xff\xff\xff\x00" + strings.Repeat("x", 1000),
		"packet of nothing": "SSH-2.0-x\r\n\x00\x00\x00\x00\x00",
	} {
		t.Run("NETCONF, "+what, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", s.netconf)
			check(t, err)
			defer conn.Close()
			go func() { _, _ = io.WriteString(conn, text) }()
			if what != "no SSH" { // lines before the version are allowed, and awaited for the time of a log-in
				closes(t, conn, 12*time.Second)
			}
			s.goodClientsWork(t)
		})
	}
}
