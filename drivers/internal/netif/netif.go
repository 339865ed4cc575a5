// Package netif asks the kernel about a network interface and sets the little
// that the drivers for kernel interfaces need. It speaks rtnetlink itself: the
// engine calls Refresh on a worker, where nothing may be allocated.
package netif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"vita/drivers"
)

// Interface is an interface of the network namespace that Open was called in.
type Interface struct {
	Name   string
	Index  int
	MTU    int
	MAC    [6]byte
	Queues int // receive queues in use
	Up     bool

	seen    counters // device counters that Sync has taken over
	claimed []int
	key     key

	netlink int // rtnetlink socket
	packet  int // packet socket that holds the memberships; -1 without
	request [32]byte
	reply   [16384]byte
	state   linkState
	raised  bool
}

// counters are those of the device, since it exists.
type counters struct {
	rxErrors, txErrors, rxMissed uint64
}

// linkState is what one RTM_NEWLINK message says.
type linkState struct {
	index, mtu int
	mac        [6]byte
	flags      uint32
	arpType    uint16
	queues     int
	counters
}

// Open finds the Ethernet interface called name in the current namespace and
// brings it up where it is down; Close takes it down again then.
func Open(name string) (*Interface, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/ ") {
		return nil, fmt.Errorf("%q: %w", name, drivers.ErrNoInterface)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	i := &Interface{Name: name, netlink: fd, packet: -1}
	if err := i.init(); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Interface) init() error {
	if err := unix.SetsockoptTimeval(i.netlink, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	if err := unix.Connect(i.netlink, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	ifr, err := unix.NewIfreq(i.Name)
	if err != nil {
		return fmt.Errorf("%q: %w", i.Name, err)
	}
	if err := unix.IoctlIfreq(i.netlink, unix.SIOCGIFINDEX, ifr); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return drivers.ErrNoInterface
		}
		return fmt.Errorf("interface index: %w", err)
	}
	i.Index = int(ifr.Uint32())
	if err := i.Refresh(); err != nil {
		return err
	}
	i.seen = i.state.counters
	ns, err := namespace()
	if err != nil {
		return err
	}
	i.key = key{ns, i.Index}
	if i.state.arpType != unix.ARPHRD_ETHER {
		return fmt.Errorf("not an Ethernet interface (type %d): %w", i.state.arpType, drivers.ErrUnsupported)
	}
	i.MTU, i.MAC = i.state.mtu, i.state.mac
	i.Queues = max(1, i.channels())
	if i.state.flags&unix.IFF_UP == 0 {
		if err := i.setUp(true); err != nil {
			return fmt.Errorf("bring interface up: %w", err)
		}
		i.raised = true
	}
	return nil
}

// Refresh reads the interface's state and counters anew. It does not allocate.
func (i *Interface) Refresh() error {
	r := i.request[:]
	ne := binary.NativeEndian
	ne.PutUint32(r[0:], uint32(len(r)))
	ne.PutUint16(r[4:], unix.RTM_GETLINK)
	ne.PutUint16(r[6:], unix.NLM_F_REQUEST)
	ne.PutUint32(r[8:], ne.Uint32(r[8:])+1) // sequence number
	ne.PutUint32(r[16+4:], uint32(i.Index))
	if _, err := unix.Write(i.netlink, r); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	for {
		n, err := unix.Read(i.netlink, i.reply[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("rtnetlink: %w", err)
		}
		m := i.reply[:n]
		if n >= 16 && ne.Uint32(m[8:]) != ne.Uint32(r[8:]) {
			continue // the answer to an earlier request that timed out
		}
		if err := parse(m, &i.state); err != nil {
			return err
		}
		break
	}
	s := &i.state
	i.Up = s.flags&unix.IFF_UP != 0 && s.flags&unix.IFF_RUNNING != 0
	return nil
}

// nlaTypeMask leaves the flag bits of an attribute type off (linux/netlink.h).
const nlaTypeMask = 0x3fff

var errMessage = errors.New("rtnetlink: malformed answer")

// parse reads one RTM_NEWLINK message (struct nlmsghdr, struct ifinfomsg,
// attributes; linux/rtnetlink.h and linux/if_link.h).
func parse(m []byte, s *linkState) error {
	ne := binary.NativeEndian
	if len(m) < 20 {
		return errMessage
	}
	if n := ne.Uint32(m); n < 20 || n > uint32(len(m)) {
		return errMessage
	} else {
		m = m[:n]
	}
	switch ne.Uint16(m[4:]) {
	case unix.NLMSG_ERROR:
		if e := unix.Errno(-int32(ne.Uint32(m[16:]))); e != unix.ENODEV {
			return e
		}
		return drivers.ErrNoInterface
	case unix.RTM_NEWLINK:
	default:
		return errMessage
	}
	if len(m) < 32 {
		return errMessage
	}
	s.arpType = ne.Uint16(m[18:])
	s.index = int(int32(ne.Uint32(m[20:])))
	s.flags = ne.Uint32(m[24:])
	for m = m[32:]; len(m) >= 4; {
		n := int(ne.Uint16(m))
		if n < 4 || n > len(m) {
			return errMessage
		}
		a := m[4:n]
		switch kind := ne.Uint16(m[2:]) & nlaTypeMask; {
		case kind == unix.IFLA_ADDRESS && len(a) == 6:
			copy(s.mac[:], a)
		case kind == unix.IFLA_MTU && len(a) >= 4:
			s.mtu = int(int32(ne.Uint32(a)))
		case kind == unix.IFLA_NUM_RX_QUEUES && len(a) >= 4:
			s.queues = int(int32(ne.Uint32(a)))
		case kind == unix.IFLA_STATS64 && len(a) >= 16*8: // struct rtnl_link_stats64
			s.rxErrors, s.txErrors, s.rxMissed = ne.Uint64(a[4*8:]), ne.Uint64(a[5*8:]), ne.Uint64(a[15*8:])
		}
		m = m[min((n+3)&^3, len(m)):]
	}
	return nil
}

// Sync is Refresh, and adds to s what the device has counted since the last
// call, where the caller has claimed queue 0: the device does not tell queues
// apart.
func (i *Interface) Sync(s *drivers.Stats) {
	if i.Refresh() != nil {
		i.Up = false // the interface has gone, as far as we can tell
		return
	}
	if !slices.Contains(i.claimed, 0) {
		return
	}
	now := i.state.counters
	s.RxErrors += now.rxErrors - i.seen.rxErrors
	s.TxErrors += now.txErrors - i.seen.txErrors
	s.RxDrop += now.rxMissed - i.seen.rxMissed
	i.seen = now
}

// ethtoolChannels is struct ethtool_channels of linux/ethtool.h.
type ethtoolChannels struct {
	cmd                                      uint32
	maxRx, maxTx, maxOther, maxCombined      uint32
	rxCount, txCount, otherCount, bothCounts uint32
}

// ifreqData is struct ifreq with its pointer member.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// channels returns how many receive queues are in use, or how many there can
// be where the device does not tell.
func (i *Interface) channels() int {
	c := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	r := ifreqData{data: unsafe.Pointer(&c)}
	copy(r.name[:], i.Name)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(i.netlink), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); e != 0 {
		return i.state.queues
	}
	return int(c.rxCount + c.bothCounts)
}

// ethtoolValue is struct ethtool_value, and ethtoolInfo struct ethtool_drvinfo.
type ethtoolValue struct{ cmd, data uint32 }

type ethtoolInfo struct {
	cmd    uint32
	driver [32]byte
	_      [160]byte
}

func (i *Interface) ethtool(p unsafe.Pointer) error {
	r := ifreqData{data: p}
	copy(r.name[:], i.Name)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(i.netlink), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); e != 0 {
		return e
	}
	return nil
}

// Driver returns the name of the kernel's driver, or "".
func (i *Interface) Driver() string {
	c := ethtoolInfo{cmd: unix.ETHTOOL_GDRVINFO}
	if i.ethtool(unsafe.Pointer(&c)) != nil {
		return ""
	}
	return unix.ByteSliceToString(c.driver[:])
}

// flagRxVLAN is ETH_FLAG_RXVLAN of linux/ethtool.h.
const flagRxVLAN = 1 << 8

// KeepTags makes the device leave VLAN tags in the frames it receives, until the
// last who has claimed a queue of it has called Close.
func (i *Interface) KeepTags() error {
	c := ethtoolValue{cmd: unix.ETHTOOL_GFLAGS}
	if err := i.ethtool(unsafe.Pointer(&c)); err != nil {
		return fmt.Errorf("read offloads: %w", err)
	}
	if c.data&flagRxVLAN == 0 {
		return nil
	}
	if err := i.setRxVLAN(false); err != nil {
		return err
	}
	claims.Lock()
	defer claims.Unlock()
	claims.untags[i.key] = true
	return nil
}

func (i *Interface) setRxVLAN(on bool) error {
	c := ethtoolValue{cmd: unix.ETHTOOL_GFLAGS}
	if err := i.ethtool(unsafe.Pointer(&c)); err != nil {
		return fmt.Errorf("read offloads: %w", err)
	}
	c.cmd = unix.ETHTOOL_SFLAGS
	if c.data &^= flagRxVLAN; on {
		c.data |= flagRxVLAN
	}
	if err := i.ethtool(unsafe.Pointer(&c)); err != nil {
		return fmt.Errorf("set the offload of VLAN tags: %w", err)
	}
	return nil
}

func (i *Interface) setUp(up bool) error {
	ifr, err := unix.NewIfreq(i.Name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(i.netlink, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	flags := ifr.Uint16() &^ unix.IFF_UP
	if up {
		flags |= unix.IFF_UP
	}
	ifr.SetUint16(flags)
	return unix.IoctlIfreq(i.netlink, unix.SIOCSIFFLAGS, ifr)
}

// Receive asks the kernel to take frames to mac, where it is not zero, and all
// multicast frames in. That ends with Close, or with the process.
func (i *Interface) Receive(mac [6]byte) error {
	if i.packet < 0 {
		// Protocol 0: the socket itself receives nothing.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		i.packet = fd
	}
	all := unix.PacketMreq{Ifindex: int32(i.Index), Type: unix.PACKET_MR_ALLMULTI}
	if err := unix.SetsockoptPacketMreq(i.packet, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &all); err != nil {
		return fmt.Errorf("receive multicast: %w", err)
	}
	if mac == ([6]byte{}) || mac == i.MAC {
		return nil
	}
	one := unix.PacketMreq{Ifindex: int32(i.Index), Type: unix.PACKET_MR_UNICAST, Alen: 6}
	copy(one.Address[:], mac[:])
	if err := unix.SetsockoptPacketMreq(i.packet, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &one); err != nil {
		return fmt.Errorf("receive address % x: %w", mac, err)
	}
	return nil
}

// key names an interface: two namespaces can have the same index.
type key struct {
	namespace uint64
	index     int
}

// claims holds the queues in use by this process, and of which interfaces with
// such queues KeepTags has changed the device.
var claims = struct {
	sync.Mutex
	m      map[key]map[int]bool
	untags map[key]bool
}{m: map[key]map[int]bool{}, untags: map[key]bool{}}

// Claim makes queues the caller's until Close, and returns them.
func (i *Interface) Claim(queues []int) ([]int, error) {
	if len(queues) == 0 {
		return nil, errors.New("no queue given")
	}
	claims.Lock()
	defer claims.Unlock()
	have := claims.m[i.key]
	for n, q := range queues {
		if q < 0 || q >= i.Queues {
			return nil, fmt.Errorf("queue %d: the interface has %d: %w", q, i.Queues, drivers.ErrUnsupported)
		}
		if have[q] || slices.Contains(queues[:n], q) {
			return nil, fmt.Errorf("queue %d: %w", q, drivers.ErrBusy)
		}
	}
	if have == nil {
		have = map[int]bool{}
		claims.m[i.key] = have
	}
	for _, q := range queues {
		have[q] = true
	}
	i.claimed = slices.Clone(queues)
	return i.claimed, nil
}

// Key is a comparable name of the interface, different from that of any other
// interface of this process, in whatever namespace.
func (i *Interface) Key() any { return i.key }

// Close undoes Receive and Claim and, where Open brought the interface up,
// takes it down.
func (i *Interface) Close() error {
	var err error
	claims.Lock()
	for _, q := range i.claimed {
		delete(claims.m[i.key], q)
	}
	if len(claims.m[i.key]) == 0 {
		delete(claims.m, i.key)
	}
	i.claimed = nil
	untag := claims.m[i.key] == nil && claims.untags[i.key]
	if untag {
		delete(claims.untags, i.key)
	}
	claims.Unlock()
	if untag {
		if err = i.setRxVLAN(true); errors.Is(err, unix.ENODEV) {
			err = nil // the interface has gone
		}
	}
	if i.raised {
		if down := i.setUp(false); !errors.Is(down, unix.ENODEV) { // else the interface has gone
			err = errors.Join(err, down)
		}
		i.raised = false
	}
	if i.packet >= 0 {
		err = errors.Join(err, unix.Close(i.packet))
		i.packet = -1
	}
	if i.netlink >= 0 {
		err = errors.Join(err, unix.Close(i.netlink))
		i.netlink = -1
	}
	return err
}

// namespace returns a number for the network namespace of the calling thread.
func namespace() (uint64, error) {
	var s unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &s); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return s.Ino, nil
}
