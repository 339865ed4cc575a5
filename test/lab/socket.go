package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// PacketSocket opens a packet socket on one interface of a host, or on all of
// them if dev is "".
func (l *Lab) PacketSocket(host, dev string) (fd int, err error) {
	err = l.visit(host, func() error {
		const all = unix.ETH_P_ALL << 8 // in network byte order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if dev != "" {
			i, err := net.InterfaceByName(dev)
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
			}
			if err != nil {
				return errors.Join(err, unix.Close(fd))
			}
		}
		// What we send ourselves is not for us to see.
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil && dev != "" {
			return errors.Join(err, unix.Close(fd))
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	})
	return fd, err
}

// visit runs do on a thread that is in a host's namespace.
func (l *Lab) visit(host string, do func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread goes to another namespace and comes back. If it could not
		// come back it would have to end with the goroutine, which the
		// process's first thread cannot: the process would seem to be the
		// lab's.
		runtime.LockOSThread()
		var home, f *os.File
		if home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return
		}
		defer home.Close()
		if f, err = os.Open("/run/netns/" + l.NS(host)); err != nil {
			return
		}
		defer f.Close()
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		err = do()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("return to the own namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	<-done
	return err
}
