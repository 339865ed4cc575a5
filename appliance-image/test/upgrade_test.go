package test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vita/appliance-image/internal/bundle"

	"aead.dev/minisign"
)

const (
	goodVersion = "999.0.1"
	badVersion  = "999.0.0"
)

// made is where the image of a higher version is, once it is built.
var made struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(made.dir); err != nil { // nothing, where none was built
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// newer builds an image of a higher version and returns what upgrades to it.
func newer(t testing.TB) (file string) {
	t.Helper()
	made.Do(func() {
		if made.dir, made.err = os.MkdirTemp("", "newer"); made.err == nil {
			made.err = buildNewer(t, made.dir)
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return filepath.Join(made.dir, "vita.upgrade")
}

func buildNewer(t testing.TB, out string) error {
	t.Helper()
	build := exec.Command("go", "run", "./appliance-image/build", "-out", out, "-version", goodVersion, "-key", signingKeyFile(t))
	build.Dir = "../.."
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// signingKeyFile is the key that make image has used.
func signingKeyFile(t testing.TB) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("../../build", "upgrade.key"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func signingKey(t testing.TB) (public minisign.PublicKey, private minisign.PrivateKey) {
	t.Helper()
	text, err := os.ReadFile(signingKeyFile(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := private.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	public, ok := private.Public().(minisign.PublicKey)
	if !ok {
		t.Fatal("no public key")
	}
	return public, private
}

// broken makes an upgrade of a good one that its vendor has signed, and whose
// kernel cannot start: its command line has two roots.
func broken(t testing.TB, good string) (file string) {
	t.Helper()
	_, private := signingKey(t)
	r := unpack(t, good)
	kernel, err := r.Kernel()
	if err != nil {
		t.Fatal(err)
	}
	var root, out bytes.Buffer
	if err := r.Root(&root); err != nil {
		t.Fatal(err)
	}
	word := []byte("vsyscall=none slab_nomerge")
	if bytes.Count(kernel, word) != 1 {
		t.Fatal("the command line is not what it was")
	}
	kernel = bytes.Replace(kernel, word, []byte("vita.root=none           " + " ")[:len(word)], 1)
	if err := bundle.Write(&out, badVersion, kernel, root.Bytes(), private); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "broken.upgrade")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// vitactl runs the operator's tool against a gateway.
func (s *site) vitactl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	c, err := tls.Dial("tcp", s.HTTPS, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it asks whom to trust
	if err != nil {
		return "", err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ConnectionState().PeerCertificates[0].Raw})
	if err := c.Close(); err != nil {
		return "", err
	}
	for name, data := range map[string][]byte{"ca": ca, "password": []byte(password + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("../../build/vitactl", append([]string{
		"--server", "https://" + s.HTTPS, "--ca", filepath.Join(dir, "ca"),
		"--user", "admin", "--password-file", filepath.Join(dir, "password"),
	}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// password is the administrator's, for RESTCONF.
const password = "not so secret"

// must is vitactl where nothing may go wrong.
func (s *site) must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.vitactl(t, args...)
	if err != nil {
		t.Fatalf("vitactl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// refused runs vitactl upgrade, which must fail with some words.
func (s *site) refused(t testing.TB, file, want string) {
	t.Helper()
	if out, err := s.vitactl(t, "upgrade", file); err == nil || !strings.Contains(out, want) {
		t.Errorf("upgrade with %s: %v\n%s\nwant: %s", filepath.Base(file), err, out, want)
	}
}

// unpack opens an upgrade.
func unpack(t testing.TB, file string) *bundle.Reader {
	t.Helper()
	public, _ := signingKey(t)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	r, err := bundle.Open(f, public)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// configured returns the running configuration.
func (s *site) configured(t testing.TB) string {
	t.Helper()
	n := s.admin.Dial(t, s.SSH, bootTime)
	defer n.Close()
	return n.Must(t, `<get-config><source><running/></source></get-config>`)
}

// status is what vitactl says of upgrades, which must have some words.
func (s *site) status(t testing.TB, words ...string) {
	t.Helper()
	out := s.must(t, "upgrade")
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in: %s", w, out)
		}
	}
}

// TestUpgrade: two gateways forward; one of them refuses what is damaged or old,
// comes back by itself from an upgrade that does not start, and from one whose
// tunnel does not come up, with the configuration that it had; then it takes a
// good one and keeps it.
// Traffic goes on all the time: nothing is lost but during a restart.
func TestUpgrade(t *testing.T) {
	good, old := newer(t), filepath.Join(*imageDir, "vita.upgrade")
	bad := broken(t, good)
	now := unpack(t, old).Manifest.Version
	both := sites(t, ofKernel)
	s, a, b := both[0], both[0].host, both[1].host
	untilFlows(t, a, b, 1<<20, time.Minute)
	untilFlows(t, b, a, 1<<20, time.Minute)
	streams := []*Stream{NewStream(a, b, 2<<20), NewStream(b, a, 2<<20)}
	defer func() {
		for _, s := range streams {
			s.Close()
		}
	}()
	whole := func(from time.Time, what string) {
		t.Helper()
		to := time.Now()
		for _, s := range streams {
			if lost, sent := s.Lost(from, to, 10*time.Second); lost != 0 || sent == 0 {
				t.Errorf("%s: %d of %d packets were lost", what, lost, sent)
			}
		}
	}

	began := time.Now()
	start := began
	passed := func(what string) { t.Logf("%4.0f s: %s", time.Since(start).Seconds(), what) }
	damaged := filepath.Join(t.TempDir(), "damaged.upgrade")
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-len(data)/3] ^= 4
	if err := os.WriteFile(damaged, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.refused(t, damaged, "the upgrade is damaged")
	s.refused(t, old, "is not newer than")
	s.refused(t, filepath.Join(*imageDir, "vita.spdx.json"), "no upgrade of an appliance")
	s.status(t, now+" runs, in slot a")
	if out := s.must(t, "upgrade"); strings.Contains(out, "last upgrade") {
		t.Errorf("after refusals: %s", out)
	}
	whole(began, "while upgrades were refused")

	passed("refused what is not to be taken")

	// One that does not start.
	t.Log(strings.TrimSpace(s.must(t, "upgrade", bad)))
	s.Expect(t, `cannot start: .*root "none"`, 2*bootTime)
	s.Expect(t, `the upgrade to version `+badVersion+` has failed`, 2*bootTime)
	s.Expect(t, `netconf ready`, bootTime)
	untilFlows(t, a, b, 3<<20, time.Minute)
	s.status(t, "in slot a", badVersion+", returned")

	passed("back from one that does not start")

	// A good one that cannot prove it: the other end of the tunnel is away. It
	// comes from a server, by the operation over NETCONF. What is configured
	// while it is on trial goes with it.
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(good))))
	defer server.Close()
	both[1].Kill()
	n := s.admin.Dial(t, s.SSH, bootTime)
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	out := n.Must(t, `<upgrade xmlns="vita:esp-gateway-ext"><url>http://10.0.2.2:`+port+`/vita.upgrade</url></upgrade>`)
	if !strings.Contains(out, goodVersion) {
		t.Errorf("the operation answers %s", out)
	}
	n.Close()
	s.Expect(t, `version `+goodVersion+` is on trial`, 2*bootTime)
	s.Expect(t, `netconf ready`, bootTime)
	n = s.admin.Dial(t, s.SSH, bootTime)
	n.Configure(t, strings.ReplaceAll(config(1, 2), "192.168.2.0/24", "10.99.0.0/16"))
	n.Close()
	s.refused(t, good, "still on trial")
	s.Expect(t, `the new version has not proved good`, trial+bootTime)
	s.Expect(t, `the upgrade to version `+goodVersion+` has failed`, 2*bootTime)
	s.Expect(t, `netconf ready`, bootTime)
	s.status(t, "in slot a", goodVersion+", returned")
	if got := s.configured(t); !strings.Contains(got, "192.168.2.0/24") || strings.Contains(got, "10.99.0.0/16") {
		t.Errorf("the configuration is not the one before the trial: %s", got)
	}
	both[1].Machine = Start(t, both[1].options)
	both[1].Expect(t, `netconf ready`, 2*bootTime)
	untilFlows(t, a, b, 4<<20, time.Minute)
	untilFlows(t, b, a, 4<<20, time.Minute)

	passed("back from one that could not prove good")

	// And with the other end there.
	began = time.Now()
	t.Log(strings.TrimSpace(s.must(t, "upgrade", good)))
	whole(began, "while the upgrade was installed")
	s.Expect(t, `ending: asked for over the network`, time.Minute)
	ending := time.Now()
	s.Expect(t, `version `+goodVersion+` is on trial`, 2*bootTime)
	s.Expect(t, `netconf ready`, bootTime)
	ready := time.Now()
	s.Expect(t, `version `+goodVersion+` has proved good`, bootTime)
	untilFlows(t, a, b, 5<<20, time.Minute)
	untilFlows(t, b, a, 5<<20, time.Minute)
	for _, stream := range streams {
		from, to := stream.Quiet(began)
		t.Logf("the restart took %.1f s, nothing arrived for %.1f s, from %.1f s after its beginning on", ready.Sub(ending).Seconds(), to.Sub(from).Seconds(), from.Sub(ending).Seconds())
		if from.Before(ending.Add(-time.Second)) {
			t.Errorf("forwarding has ended %s before the restart", ending.Sub(from))
		}
		if to.After(ready.Add(20 * time.Second)) {
			t.Errorf("forwarding has begun %s after the restart", to.Sub(ready))
		}
	}
	s.status(t, goodVersion+" runs, in slot b", goodVersion+", confirmed")
	if got := s.configured(t); !strings.Contains(got, "192.168.2.0/24") {
		t.Errorf("the configuration is lost: %s", got)
	}
	passed("upgraded")
}

// TestWayBack: after an upgrade the version before is still there, by its file on
// request, or in the other slot by the console.
func TestWayBack(t *testing.T) {
	good, old := newer(t), filepath.Join(*imageDir, "vita.upgrade")
	now := unpack(t, old).Manifest.Version
	s := alone(t)
	is := func(version, slot string) {
		t.Helper()
		s.Expect(t, `version `+version+` has proved good`, 2*bootTime)
		s.status(t, version+" runs, in slot "+slot, version+", confirmed")
		if got := s.configured(t); !strings.Contains(got, "192.168.2.0/24") {
			t.Errorf("the configuration is lost: %s", got)
		}
	}

	t.Log(strings.TrimSpace(s.must(t, "upgrade", good)))
	is(goodVersion, "b")
	s.refused(t, old, "is not newer than "+goodVersion)
	t.Log(strings.TrimSpace(s.must(t, "upgrade", "--downgrade", old)))
	is(now, "a")
	s.Type(t, "other")
	is(goodVersion, "b")
	s.Type(t, "reboot") // which is no trial any more
	s.Expect(t, `netconf ready`, bootTime)
	s.status(t, goodVersion+" runs, in slot b")
	if out := s.must(t, "upgrade"); strings.Contains(out, "trial") {
		t.Errorf("after a restart: %s", out)
	}
}
