package vfiouser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Commands, by their numbers in the protocol.
const (
	cmdVersion       = 1
	cmdDMAMap        = 2
	cmdDMAUnmap      = 3
	cmdDeviceInfo    = 4
	cmdRegionInfo    = 5
	cmdIRQInfo       = 7
	cmdSetIRQs       = 8
	cmdRegionRead    = 9
	cmdRegionWrite   = 10
	cmdDeviceReset   = 13
	headerLen        = 16
	maxData          = 1 << 20 // of one read or write, as we say in our answer to VERSION
	maxBody          = maxData + 64
	maxFiles         = 16 // with one message: more than QEMU sends
	flagReply        = 1
	flagNoReply      = 1 << 4
	flagError        = 1 << 5
	typeMask         = 0xf
	regions          = 9 // the last of them is VGA, which we have not
	irqKinds         = 5 // INTx, MSI, MSI-X, error, request
	irqMSIX          = 2
	irqFlagEventfd   = 1
	irqFlagNoResize  = 8
	mapRead          = 1
	mapWrite         = 2
	setDataNone      = 1
	setDataBool      = 2
	setDataEventfd   = 4
	setActionTrigger = 32
	deviceReset      = 1
	devicePCI        = 2
	regionRead       = 1
	regionWrite      = 2
	versionAnswer    = `{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576}}` + "\x00"
)

// session is one client's connection.
type session struct {
	s     *Server
	conn  *net.UnixConn
	body  []byte
	reply []byte
	files []*os.File // that came with the message; those that are still here are closed behind it
}

// next serves one message. An error ends the session; what is wrong with a
// command is answered.
func (r *session) next() error {
	defer r.closeFiles()
	head, err := r.readHeader()
	if err != nil {
		return err
	}
	id, cmd := binary.LittleEndian.Uint16(head[0:]), binary.LittleEndian.Uint16(head[2:])
	size, flags := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:])
	if size < headerLen || size > headerLen+maxBody {
		return fmt.Errorf("a message of %d bytes", size)
	}
	if flags&typeMask != 0 {
		return fmt.Errorf("message %d of type %d, want a command", id, flags&typeMask)
	}
	n := int(size) - headerLen
	if cap(r.body) < n {
		r.body = make([]byte, n)
	}
	r.body = r.body[:n]
	if _, err := io.ReadFull(r.conn, r.body); err != nil {
		return noEOF(err)
	}
	r.reply = append(r.reply[:0], make([]byte, headerLen)...)
	err = r.command(cmd)
	if flags&flagNoReply != 0 {
		return nil
	}
	answer := uint32(flagReply)
	if err != nil {
		answer |= flagError
		r.reply = r.reply[:headerLen]
		no := unix.EINVAL
		_ = errors.As(err, &no)
		binary.LittleEndian.PutUint32(r.reply[12:], uint32(no))
	}
	binary.LittleEndian.PutUint16(r.reply[0:], id)
	binary.LittleEndian.PutUint16(r.reply[2:], cmd)
	binary.LittleEndian.PutUint32(r.reply[4:], uint32(len(r.reply)))
	binary.LittleEndian.PutUint32(r.reply[8:], answer)
	_, err = r.conn.Write(r.reply)
	return err
}

// readHeader reads exactly a header: files belong to the message with whose
// first byte they come, and a longer read would take those of the next one.
func (r *session) readHeader() ([headerLen]byte, error) {
	var head [headerLen]byte
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	for got := 0; got < headerLen; {
		n, oobn, _, _, err := r.conn.ReadMsgUnix(head[got:], oob)
		r.takeFiles(oob[:oobn])
		if got += n; err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil && got > 0 {
			err = noEOF(err)
		}
		if err != nil {
			return head, err
		}
	}
	return head, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *session) takeFiles(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			r.files = append(r.files, os.NewFile(uintptr(fd), "vfio-user"))
		}
	}
}

func (r *session) closeFiles() {
	for _, f := range r.files {
		if f != nil {
			_ = f.Close()
		}
	}
	r.files = r.files[:0]
}

// command carries out what the body asks for and appends to the reply.
func (r *session) command(cmd uint16) error {
	switch cmd {
	case cmdVersion:
		return r.version()
	case cmdDMAMap:
		return r.dmaMap()
	case cmdDMAUnmap:
		return r.dmaUnmap()
	case cmdDeviceInfo:
		return r.words(16, func(w []uint32) error {
			w[1], w[2], w[3] = devicePCI|deviceReset, regions, irqKinds
			return nil
		})
	case cmdRegionInfo:
		return r.regionInfo()
	case cmdIRQInfo:
		return r.words(16, func(w []uint32) error {
			if w[2] >= irqKinds {
				return unix.EINVAL
			}
			if w[1], w[3] = 0, 0; w[2] == irqMSIX {
				w[1], w[3] = irqFlagEventfd|irqFlagNoResize, uint32(len(r.s.irqs))
			}
			return nil
		})
	case cmdSetIRQs:
		return r.setIRQs()
	case cmdRegionRead:
		b, region, off, n, err := r.access()
		if err != nil {
			return err
		}
		r.reply = append(append(r.reply, b[:16]...), make([]byte, n)...)
		r.s.dev.Read(region, off, r.reply[headerLen+16:])
		return nil
	case cmdRegionWrite:
		b, region, off, n, err := r.access()
		if err != nil {
			return err
		}
		if len(b) != 16+n {
			return unix.EINVAL
		}
		r.s.dev.Write(region, off, b[16:])
		r.reply = append(r.reply, b[:16]...)
		return nil
	case cmdDeviceReset:
		r.s.dev.Reset()
		return nil
	}
	return unix.ENOTSUP
}

// version takes any version: what we say decides (version 0.0 has all we need).
func (r *session) version() error {
	if len(r.body) < 4 {
		return unix.EINVAL
	}
	r.reply = append(append(r.reply, 0, 0, 0, 0), versionAnswer...)
	return nil
}

// words answers a body of 32-bit words by the same, of which the first is the
// size, after f has changed it.
func (r *session) words(n int, f func(w []uint32) error) error {
	if len(r.body) < n {
		return unix.EINVAL
	}
	w := make([]uint32, n/4)
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(r.body[4*i:])
	}
	if err := f(w); err != nil {
		return err
	}
	w[0] = uint32(n)
	for _, v := range w {
		r.reply = binary.LittleEndian.AppendUint32(r.reply, v)
	}
	return nil
}

func (r *session) regionInfo() error {
	return r.words(32, func(w []uint32) error {
		if w[2] >= regions {
			return unix.EINVAL
		}
		clear(w[3:])
		w[1] = 0
		if sizes := r.s.dev.Regions(); int(w[2]) < len(sizes) && sizes[w[2]] > 0 {
			w[1], w[4] = regionRead|regionWrite, uint32(sizes[w[2]])
		}
		return nil
	})
}

// access reads the body of a read or write: offset, region, count.
func (r *session) access() (b []byte, region, off, n int, err error) {
	b = r.body
	if len(b) < 16 {
		return nil, 0, 0, 0, unix.EINVAL
	}
	o, i, c := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	sizes := r.s.dev.Regions()
	if int64(i) >= int64(len(sizes)) || c == 0 || c > maxData {
		return nil, 0, 0, 0, unix.EINVAL
	}
	if size := uint64(sizes[i]); o > size || uint64(c) > size-o {
		return nil, 0, 0, 0, unix.EINVAL
	}
	return b, int(i), int(o), int(c), nil
}

func (r *session) dmaMap() error {
	b := r.body
	if len(b) < 32 {
		return unix.EINVAL
	}
	flags := binary.LittleEndian.Uint32(b[4:])
	offset, addr, size := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	if len(r.files) == 0 || flags&mapRead == 0 {
		// Without a file it could be reached by messages alone: what that would
		// be for, a ROM, is nothing to a network card.
		return nil
	}
	return r.s.Memory.add(r.files[0], offset, addr, size, flags&mapWrite != 0)
}

func (r *session) dmaUnmap() error {
	b := r.body
	if len(b) < 24 {
		return unix.EINVAL
	}
	if err := r.s.Memory.remove(binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])); err != nil && !errors.Is(err, errNoMap) {
		return err
	}
	r.reply = append(r.reply, b[:24]...)
	return nil
}

// setIRQs gives messages their eventfds, or takes those away.
func (r *session) setIRQs() error {
	b := r.body
	if len(b) < 20 {
		return unix.EINVAL
	}
	flags, kind := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	start, count := binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint32(b[16:])
	if kind != irqMSIX {
		if kind < irqKinds && count == 0 {
			return nil // what is not there is turned off
		}
		return unix.EINVAL
	}
	n := uint32(len(r.s.irqs))
	if start > n || count > n-start || flags&setActionTrigger == 0 {
		return unix.EINVAL
	}
	switch {
	case flags&setDataNone != 0 && count == 0:
		r.s.dropIRQs(0, int(n))
	case flags&setDataNone != 0:
		for i := range count {
			r.s.Interrupt(int(start + i))
		}
	case flags&setDataEventfd != 0 && len(r.files) == 0:
		r.s.dropIRQs(int(start), int(count))
	case flags&setDataEventfd != 0:
		if uint32(len(r.files)) != count {
			return unix.EINVAL
		}
		for i, f := range r.files {
			r.s.setIRQ(int(start)+i, f)
			r.files[i] = nil
		}
	default: // setDataBool: a client of ours has no use for it
		return unix.ENOTSUP
	}
	return nil
}
