package confine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// A test that confines itself would confine the ones after it: it runs in a child.
const childOf = "CONFINE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childOf); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestConfined confines a process and tries what it can still do.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"read", "write", "other", "remove"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, d, "file"), []byte(d), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childOf+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// child confines itself in front of threads that are there already.
func child(dir string) error {
	path := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	stop, threads := make(chan struct{}), make(chan struct{})
	for range 4 {
		go func() {
			runtime.LockOSThread()
			threads <- struct{}{}
			<-stop
		}()
		<-threads
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	missing, err := Apply(Needs{
		Capabilities: []cap.Value{cap.NET_RAW},
		Read:         []string{path("read"), "/proc", path("no-such-folder")},
		Write:        []string{path("write")},
		Remove:       []string{path("remove")},
	})
	if err != nil {
		return err
	}
	for _, m := range missing {
		// An older kernel lacks the one that came with Linux 6.3.
		if !strings.HasPrefix(m, "memory") {
			return fmt.Errorf("this kernel confines but in part: %s", m)
		}
	}
	var errs []error
	check := func(what string, err, want error) {
		if !errors.Is(err, want) {
			errs = append(errs, fmt.Errorf("%s: %s, want %s", what, fmt.Sprint(err), fmt.Sprint(want)))
		}
	}
	read := func(name string) error {
		_, err := os.ReadFile(name)
		return err
	}
	write := func(name string) error { return os.WriteFile(name, []byte("new"), 0o600) }
	check("read what may be read", read(path("read", "file")), nil)
	check("read what may be written", read(path("write", "file")), nil)
	check("read another file", read(path("other", "file")), os.ErrPermission)
	check("write what may be read", write(path("read", "file")), os.ErrPermission)
	check("write what may be written", write(path("write", "file")), nil)
	check("make a file", write(path("write", "new")), nil)
	check("make a file elsewhere", write(path("other", "new")), os.ErrPermission)
	check("make a file where one may be removed", write(path("remove", "new")), os.ErrPermission)
	check("remove one", os.Remove(path("remove", "file")), nil)
	check("remove another", os.Remove(path("other", "file")), os.ErrPermission)
	check("start a program", exec.Command("/bin/true").Run(), os.ErrPermission)
	check("trace a process", unix.PtraceAttach(os.Getppid()), unix.EPERM)
	check("mount", unix.Mount("none", path("write"), "tmpfs", 0, ""), unix.EPERM)
	check("load a module", unix.InitModule([]byte("x"), ""), unix.EPERM)
	check("leave the namespace", unix.Unshare(unix.CLONE_NEWNS), unix.EPERM)
	if slices.Equal(missing, nil) {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		check("writable and executable memory", err, unix.EACCES)
	}

	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		errs = append(errs, fmt.Errorf("core dumps: %d: %w", dumpable, err))
	}

	// What is open stays of use, new connections and threads work.
	conn, err := net.Dial("tcp", ln.Addr().String())
	check("connect", err, nil)
	if err == nil {
		check("close", conn.Close(), nil)
	}
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		<-stop
	}()
	<-started

	const rawAlone = "0000000000002000" // CAP_NET_RAW
	tasks, err := os.ReadDir("/proc/self/task")
	check("list the threads", err, nil)
	if len(tasks) < 6 {
		errs = append(errs, fmt.Errorf("%d threads: the test has not enough of them", len(tasks)))
	}
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		check("read a thread's status", err, nil)
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			want, ok := map[string]string{
				"NoNewPrivs": "1", "Seccomp": "2", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
				"CapPrm": rawAlone, "CapEff": rawAlone, "CapBnd": rawAlone,
			}[name]
			if ok && os.Getuid() != 0 && strings.HasPrefix(name, "Cap") {
				want, ok = "0000000000000000", name != "CapBnd" // it had none
			}
			if ok && value != want {
				errs = append(errs, fmt.Errorf("thread %s: %s is %s, want %s", task.Name(), name, value, want))
			}
		}
	}
	close(stop)
	return errors.Join(errs...)
}
