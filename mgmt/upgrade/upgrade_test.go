package upgrade

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/internal/appliance"
)

// fakeInit answers at a socket as an appliance's init does, and tells what it
// was asked.
func fakeInit(t *testing.T, refuse string) (socket string, asked <-chan string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "init")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	got := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			line, _ := r.ReadString('\n')
			var q appliance.Request
			_ = json.Unmarshal([]byte(line), &q)
			a := appliance.Answer{Version: "1.2.3", Error: refuse}
			word := q.Do
			if q.Downgrade {
				word += " downgrade"
			}
			if q.Do == appliance.Upgrade && refuse == "" {
				body, _ := io.ReadAll(r)
				word += " " + string(body)
			}
			b, _ := json.Marshal(a)
			_, _ = c.Write(append(b, '\n'))
			_ = c.Close()
			got <- word
		}
	}()
	return socket, got
}

func TestInstall(t *testing.T) {
	socket, asked := fakeInit(t, "")
	u := &Upgrader{Init: appliance.Client{Socket: socket}}
	version, err := u.Install(t.Context(), strings.NewReader("the image"), Options{Downgrade: true})
	if err != nil || version != "1.2.3" || <-asked != "upgrade downgrade the image" {
		t.Error(version, err)
	}
	if _, err := u.Install(t.Context(), strings.NewReader("x"), Options{Restart: true}); err != nil {
		t.Fatal(err)
	}
	<-asked
	select {
	case word := <-asked:
		if word != "restart" {
			t.Error(word)
		}
	case <-time.After(restartAfter + 10*time.Second):
		t.Error("no restart")
	}
	if a, err := u.Status(t.Context()); err != nil || a.Version != "1.2.3" || <-asked != "status" {
		t.Error(a, err)
	}
}

// TestRefused: init's word reaches the client, however much of the image has not
// been read.
func TestRefused(t *testing.T) {
	socket, _ := fakeInit(t, "the signature is another")
	u := &Upgrader{Init: appliance.Client{Socket: socket}}
	_, err := u.Install(t.Context(), io.LimitReader(zeros{}, 20<<20), Options{Restart: true})
	if err == nil || err.Error() != "the signature is another" {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestTooBig(t *testing.T) {
	l := &limited{r: zeros{}, left: 1000}
	if n, err := io.Copy(io.Discard, l); n != 1000 || !errors.Is(err, errTooBig) {
		t.Error(n, err)
	}
}

func TestFetch(t *testing.T) {
	socket, asked := fakeInit(t, "")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/vita.upgrade" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "fetched")
	}))
	defer s.Close()
	u := &Upgrader{Init: appliance.Client{Socket: socket}}
	if v, err := u.Fetch(t.Context(), s.URL+"/vita.upgrade", Options{}); err != nil || v != "1.2.3" || <-asked != "upgrade fetched" {
		t.Error(v, err)
	}
	for from, want := range map[string]string{s.URL + "/other": "404", "ftp://host/x": "https://HOST/FILE", "https://": "https://HOST/FILE", "http://127.0.0.1:1/x": "fetch the upgrade", ":": "https://HOST"} {
		if _, err := u.Fetch(t.Context(), from, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", from, err)
		}
	}
}

func TestNoAppliance(t *testing.T) {
	u := new(Upgrader)
	if _, err := u.Fetch(t.Context(), "https://host/x", Options{}); !errors.Is(err, appliance.ErrNone) {
		t.Error(err)
	}
	if _, err := u.Status(t.Context()); !errors.Is(err, appliance.ErrNone) {
		t.Error(err)
	}
	u.Init.Socket = filepath.Join(t.TempDir(), "none")
	if _, err := u.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "init") {
		t.Error(err)
	}
	// A socket where nobody answers ends with the caller's patience.
	l, err := net.Listen("unix", u.Init.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := u.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
