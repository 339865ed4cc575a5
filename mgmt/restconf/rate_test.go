package restconf

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vita/mgmt/access"
	"vita/mgmt/datastore"
)

// TestRate has one user who sends too much, and another who is served meanwhile.
func TestRate(t *testing.T) {
	d, err := datastore.Open(datastore.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	users := access.NewUsers()
	hash, err := access.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wild", "good"} {
		if err := users.Add(access.User{Name: name, PasswordHash: hash}); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Options{Datastore: d, Users: users, MaxRate: 5})
	h := s.handler()
	ask := func(user string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/restconf/yang-library-version", nil)
		r.SetBasicAuth(user, password)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	ask("wild") // the first log-in takes as long as its hash
	time.Sleep(time.Second)
	served, refused := 0, 0
	for start := time.Now(); time.Since(start) < 100*time.Millisecond || refused == 0; {
		switch w := ask("wild"); w.Code {
		case http.StatusOK:
			served++
		case http.StatusTooManyRequests:
			refused++
			if w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "resource-denied") {
				t.Fatalf("%v\n%s", w.Header(), w.Body)
			}
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if served > 1000 {
			t.Fatal("nothing is refused")
		}
	}
	if served < 5 {
		t.Errorf("%d served before one was refused, want 5 at least", served)
	}
	if w := ask("good"); w.Code != http.StatusOK {
		t.Errorf("another user: %d %s", w.Code, w.Body)
	}
	s.expel([]string{"wild"})
	if w := ask("wild"); w.Code != http.StatusOK {
		t.Errorf("a user of that name who is new: %d %s", w.Code, w.Body)
	}
}
