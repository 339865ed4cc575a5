package test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
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
	public, private := signingKey(t)
	f, err := os.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := bundle.Open(f, public)
	if err != nil {
		t.Fatal(err)
	}
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

// TestUpgrade: two gateways forward; one of them refuses what is damaged or old,
// comes back by itself from an upgrade that does not start, and from one whose
// tunnel does not come up, and then takes a good one and keeps it. Each time
// traffic flows again without anybody's help.
func TestUpgrade(t *testing.T) {
	good := newer(t)
	bad := broken(t, good)
	both := sites(t, ofKernel)
	s, a, b := both[0], both[0].host, both[1].host
	untilFlows(t, a, b, 1<<20, time.Minute)

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
	s.refused(t, filepath.Join(*imageDir, "vita.upgrade"), "is not newer than")
	s.refused(t, filepath.Join(*imageDir, "vita.spdx.json"), "no upgrade of an appliance")
	if out := s.must(t, "upgrade"); strings.Contains(out, "last upgrade") || !strings.Contains(out, "in slot a") {
		t.Errorf("after refusals: %s", out)
	}
	if n := flow(t, a, b, 1, 50); n != 50 {
		t.Errorf("%d of 50 packets after refusals", n)
	}

	// One that does not start.
	t.Log(strings.TrimSpace(s.must(t, "upgrade", bad)))
	s.Expect(t, `cannot start: .*root "none"`, 2*bootTime)
	s.Expect(t, `the upgrade to version `+badVersion+` has failed`, 2*bootTime)
	s.Expect(t, `netconf ready`, bootTime)
	untilFlows(t, a, b, 2<<20, time.Minute)
	if out := s.must(t, "upgrade"); !strings.Contains(out, "in slot a") || !strings.Contains(out, badVersion+", returned") {
		t.Errorf("after an upgrade that does not start: %s", out)
	}

	// A good one that cannot prove it: the other end of the tunnel is away.
	both[1].Kill()
	t.Log(strings.TrimSpace(s.must(t, "upgrade", good)))
	s.Expect(t, `version `+goodVersion+` is on trial`, 2*bootTime)
	s.Expect(t, `the new version has not proved good`, trial+bootTime)
	s.Expect(t, `the upgrade to version `+goodVersion+` has failed`, 2*bootTime)
	s.Expect(t, `netconf ready`, bootTime)
	both[1].Machine = Start(t, both[1].options)
	both[1].Expect(t, `netconf ready`, 2*bootTime)
	untilFlows(t, a, b, 4<<20, time.Minute)

	// And with the other end there.
	stopped := time.Now()
	t.Log(strings.TrimSpace(s.must(t, "upgrade", good)))
	s.Expect(t, `version `+goodVersion+` is on trial`, 2*bootTime)
	s.Expect(t, `version `+goodVersion+` has proved good`, bootTime)
	untilFlows(t, a, b, 3<<20, time.Minute)
	t.Logf("forwarding again %.1f s after the upgrade began", time.Since(stopped).Seconds())
	if out := s.must(t, "upgrade"); !strings.Contains(out, "version "+goodVersion+" runs, in slot b") || !strings.Contains(out, goodVersion+", confirmed") {
		t.Errorf("after an upgrade: %s", out)
	}
	n := s.admin.Dial(t, s.SSH, bootTime)
	if got := n.Must(t, `<get-config><source><running/></source></get-config>`); !strings.Contains(got, "192.168.2.0/24") {
		t.Errorf("the configuration is lost: %s", got)
	}
	n.Close()
	s.Type(t, "reboot")
	s.Expect(t, `netconf ready`, 2*bootTime)
	if out := s.must(t, "upgrade"); !strings.Contains(out, "version "+goodVersion+" runs, in slot b") || strings.Contains(out, "trial") {
		t.Errorf("after a restart: %s", out)
	}
}
