package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"vita/test/qemu"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestManual pastes every block of docs/operator/install.md and upgrade.md into
// a shell, in their order. What is changed is where QEMU is, that it has no KVM
// here, and which ports of this machine are free.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	path := tools(t, dir)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// The folder in which an operator works, with what make has left.
	for link, to := range map[string]string{"build": filepath.Join(root, "build"), "new/vita.upgrade": newer(t)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, link)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	ssh, https, err := twoPorts()
	if err != nil {
		t.Fatal(err)
	}
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	tree, err := qemu.DefaultTree()
	if err != nil {
		t.Fatal(err)
	}
	local := strings.NewReplacer("-accel kvm", "-accel tcg,thread=multi", ":8300", ":"+port(ssh), " 8300", " "+port(ssh), ":8443", ":"+port(https), "/usr/share/OVMF", filepath.Join(string(tree), "usr/share/OVMF"))
	t.Cleanup(func() {
		b, err := os.ReadFile(filepath.Join(dir, "gw1.pid"))
		if pid, convErr := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && convErr == nil {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		if b, err := os.ReadFile(filepath.Join(dir, "gw1.console")); err == nil && t.Failed() {
			t.Logf("console:\n%s", b)
		}
	})
	exports := ""
	for _, c := range []struct {
		doc  string
		want []string // what the blocks print
	}{
		{"install.md", []string{"", "", "host key SHA256:", "netconf:base:1.1", "in slot a", "enp0s3", "gw1.example.net"}},
		{"upgrade.md", []string{"in slot a", goodVersion + " is installed", goodVersion + " runs, in slot b"}},
	} {
		text, err := os.ReadFile(filepath.Join(root, "docs/operator", c.doc))
		if err != nil {
			t.Fatal(err)
		}
		blocks := shellBlock.FindAllStringSubmatch(string(text), -1)
		if len(blocks) != len(c.want) {
			t.Fatalf("%s: %d blocks, %d expected", c.doc, len(blocks), len(c.want))
		}
		for i, m := range blocks {
			code := local.Replace(m[1])
			shell := exec.Command("bash", "-c", "set -eu\n"+exports+code)
			shell.Dir = dir
			shell.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
			out, err := shell.CombinedOutput()
			t.Logf("%s\n%s", code, out)
			if err != nil || !strings.Contains(string(out), c.want[i]) {
				t.Fatalf("%s, block %d: %v; want %q", c.doc, i, err, c.want[i])
			}
			for line := range strings.Lines(code) { // the same shell
				if strings.HasPrefix(line, "export ") {
					exports += line
				}
			}
		}
	}
}

// tools makes a folder with QEMU, as if it were installed.
func tools(t testing.TB, dir string) (path string) {
	t.Helper()
	tree, err := qemu.DefaultTree()
	if err != nil {
		t.Fatal(err)
	}
	words, err := tree.Command("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "bin")
	share := filepath.Join(string(tree), "usr/share")
	script := "#!/bin/sh\nQEMU_MODULE_DIR=" + filepath.Join(string(tree), "usr/lib/x86_64-linux-gnu/qemu") + " exec '" + strings.Join(words, "' '") + "' -L " + share + "/qemu -L " + share + "/seabios \"$@\"\n"
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "qemu-system-x86_64"), []byte(script), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	return path
}
