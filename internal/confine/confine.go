// Package confine takes from a process what it has no need of once it has started:
// capabilities, files, system calls, memory that is writable and executable. What
// a hostile message could make it do then is what it does anyway.
//
// Each of the four is the kernel's, and each is taken from all threads, for good.
// A kernel that lacks one has the rest applied; Apply says what is missing. The
// package knows no program but by its capabilities: what else each needs stands
// with it.
package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Needs is what a process keeps.
type Needs struct {
	Capabilities []cap.Value // those that it does not have are no error
	Read         []string    // files, and folders with all that is in them
	Write        []string    // folders in which files are made, changed and removed
	Devices      []string    // device files and folders of them, with their ioctls
	Remove       []string    // folders in which a file may be removed
	Syscalls     []string    // beside those of Go's runtime and of plain files
}

// Apply confines the process. It returns what the kernel could not do, for the
// log. What does not exist of the paths is left out: nothing can be made of those
// names afterwards, unless it is within a folder of Write.
func Apply(n Needs) (missing []string, err error) {
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // in all threads
		return nil, fmt.Errorf("no_new_privs: %w", err) // the rest relies on it
	}
	// No core dump, which would have keys in it, and nobody of the same user looks
	// into the process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("core dumps: %w", err)
	}
	note := func(what string, err error) {
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", what, err))
		}
	}
	note("files", files(n))
	note("memory that is both writable and executable", executable())
	if err := capabilities(n.Capabilities); err != nil {
		return missing, fmt.Errorf("capabilities: %w", err)
	}
	note("system calls", syscalls(n.Syscalls))
	return missing, nil
}

const (
	readFile = landlock.AccessFSSet(ll.AccessFSReadFile)
	readDir  = readFile | landlock.AccessFSSet(ll.AccessFSReadDir)
)

// files leaves the files that are needed, by Landlock: of its fifth version, which
// knows ioctl, what the kernel has.
func files(n Needs) error {
	v, err := ll.LandlockGetABIVersion()
	if err != nil || v < 1 {
		return errors.New("the kernel has no Landlock")
	}
	var rules []landlock.Rule
	add := func(paths []string, rule func(path string, dir bool) landlock.FSRule) {
		for _, p := range paths {
			info, err := os.Stat(p)
			if err != nil {
				continue
			}
			rules = append(rules, rule(p, info.IsDir()))
		}
	}
	add(n.Read, func(p string, dir bool) landlock.FSRule {
		if dir {
			return landlock.PathAccess(readDir, p)
		}
		return landlock.PathAccess(readFile, p)
	})
	add(n.Write, func(p string, _ bool) landlock.FSRule { return landlock.RWDirs(p) })
	add(n.Devices, func(p string, dir bool) landlock.FSRule {
		if dir {
			return landlock.PathAccess(readDir|landlock.AccessFSSet(ll.AccessFSWriteFile), p).WithIoctlDev()
		}
		return landlock.PathAccess(readFile|landlock.AccessFSSet(ll.AccessFSWriteFile), p).WithIoctlDev()
	})
	add(n.Remove, func(p string, _ bool) landlock.FSRule {
		return landlock.PathAccess(landlock.AccessFSSet(ll.AccessFSRemoveFile), p)
	})
	return landlock.V5.BestEffort().RestrictPaths(rules...)
}

// executable forbids to make memory executable that is, or was, writable (Linux
// 6.3).
func executable() error {
	const setMDWE, refuseExecGain = 65, 1               // PR_SET_MDWE
	return unix.Prctl(setMDWE, refuseExecGain, 0, 0, 0) // of the process, not of a thread
}

// capabilities leaves those that are kept, to this process and to what it could
// start.
func capabilities(keep []cap.Value) error {
	now := cap.GetProc()
	kept := cap.NewSet()
	for _, c := range keep {
		has, err := now.GetFlag(cap.Permitted, c)
		if err != nil || !has {
			continue // the process never had it
		}
		if err := errors.Join(kept.SetFlag(cap.Permitted, true, c), kept.SetFlag(cap.Effective, true, c)); err != nil {
			return err
		}
	}
	// The bounding set first: it takes a capability to make it smaller.
	if can, err := now.GetFlag(cap.Effective, cap.SETPCAP); err == nil && can {
		for c := range cap.MaxBits() {
			if has, err := cap.GetBound(c); err == nil && !has {
				continue // whoever has started this did it, which saves time
			}
			if !slices.Contains(keep, c) {
				if err := cap.DropBound(c); err != nil {
					return fmt.Errorf("%v: %w", c, err)
				}
			}
		}
	}
	return kept.SetProc()
}

// base are the system calls of Go's runtime, of files and of sockets that are open.
var base = []string{
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "close", "lseek", "fcntl", "dup", "dup3",
	"openat", "openat2", "fstat", "newfstatat", "statx", "readlinkat", "getdents64", "faccessat", "faccessat2", "getcwd",
	"fsync", "fdatasync", "ftruncate", "fallocate", "flock", "fchmod", "fchmodat", "fchown", "fchownat", "unlinkat", "renameat", "renameat2", "mkdirat", "linkat", "utimensat", "umask",
	"mmap", "munmap", "mprotect", "mremap", "madvise", "mincore", "msync", "mlock", "munlock", "brk", "memfd_create",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "tgkill", "kill", "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getgroups",
	"futex", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "sched_yield", "sched_getaffinity", "sched_setaffinity", "getcpu",
	"clone", "clone3", "exit", "exit_group", "set_robust_list", "set_tid_address", "rseq", "restart_syscall", "arch_prctl", "membarrier", "prctl", "prlimit64", "getrlimit", "getrusage", "uname", "sysinfo",
	"timer_create", "timer_settime", "timer_delete", "setitimer", "timerfd_create", "timerfd_settime",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2", "poll", "ppoll", "select", "pselect6", "getrandom",
	"wait4", "waitid", "pidfd_send_signal",
	"socket", "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt",
	"sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "sendfile", "splice",
}

// syscalls leaves the system calls that are needed: all others fail with EPERM. A
// process is not killed for one, since a newer library may try what it can do
// without.
func syscalls(more []string) error {
	if !seccomp.Supported() {
		return errors.New("the kernel has no seccomp")
	}
	names := slices.Concat(base, more)
	slices.Sort(names)
	return seccomp.LoadFilter(seccomp.Filter{
		Flag: seccomp.FilterFlagTSync, // all threads
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls:      []seccomp.SyscallGroup{{Names: slices.Compact(names), Action: seccomp.ActionAllow}},
		},
	})
}
