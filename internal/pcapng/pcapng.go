// Package pcapng writes packet captures in the pcapng format
// (draft-ietf-opsawg-pcapng), as Wireshark and tcpdump read it.
//
//	Section Header   once, first
//	Interface        one for each place that packets are taken at
//	Enhanced Packet  a packet, with a comment if there is something to say
//	Interface Statistics   at the end: what was missed
//
// It writes and does not read; it knows neither the packets nor where they are
// from.
package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// LinkType says what a packet begins with (www.tcpdump.org/linktypes.html).
type LinkType uint16

// The link types that are used here.
const (
	Ethernet LinkType = 1
	Raw      LinkType = 101 // the header of IPv4 or IPv6
)

// Blocks and options, by their numbers in the format.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6

	byteOrder = 0x1a2b3c4d

	optEnd         = 0
	optComment     = 1
	optApplication = 4 // of a section
	optName        = 2 // of an interface
	optDescription = 3
	optResolution  = 9
	optFlags       = 2 // of a packet
	optReceived    = 4 // of statistics
	optDropped     = 5

	nanoseconds = 9 // resolution: 10^-9 s
)

// Limits of what is written: a reader has to hold a block as a whole.
const (
	MaxPacket = 256 << 10
	maxText   = 4096
)

// Direction of a packet, as its flags have it.
type Direction uint8

// The directions.
const (
	Unknown  Direction = 0
	Received Direction = 1
	Sent     Direction = 2
)

// Interface is a place that packets are taken at.
type Interface struct {
	Name        string
	Description string
	LinkType    LinkType
	Snap        int // bytes kept of a packet at most; 0: all
}

// Packet is one captured packet.
type Packet struct {
	Interface int // as AddInterface has returned it
	Time      time.Time
	Data      []byte // what was kept of it
	Length    int    // of the whole packet; less than len(Data) means that
	Direction Direction
	Comment   string
}

// Writer writes one section. An error of the underlying writer stays: whatever
// is written after it fails too.
type Writer struct {
	w          io.Writer
	block      []byte
	interfaces int
	err        error
}

// ErrInterface says that a packet names an interface that was not added.
var ErrInterface = errors.New("pcapng: no such interface")

// NewWriter begins a section, written by the named application.
func NewWriter(w io.Writer, application string) (*Writer, error) {
	p := &Writer{w: w, block: make([]byte, 0, 4096)}
	p.begin(blockSection)
	p.u32(byteOrder)
	p.u16(1) // version 1.0
	p.u16(0)
	p.u64(math.MaxUint64) // length not known
	p.text(optApplication, application)
	p.option(optEnd, nil)
	return p, p.end()
}

// AddInterface adds an interface and returns its number for packets.
func (p *Writer) AddInterface(i Interface) (int, error) {
	p.begin(blockInterface)
	p.u16(uint16(i.LinkType))
	p.u16(0)
	p.u32(uint32(max(i.Snap, 0)))
	p.text(optName, i.Name)
	p.text(optDescription, i.Description)
	p.option(optResolution, []byte{nanoseconds})
	p.option(optEnd, nil)
	if err := p.end(); err != nil {
		return 0, err
	}
	p.interfaces++
	return p.interfaces - 1, nil
}

// Write writes a packet.
func (p *Writer) Write(k Packet) error {
	if k.Interface < 0 || k.Interface >= p.interfaces {
		return fmt.Errorf("%w: %d", ErrInterface, k.Interface)
	}
	if len(k.Data) > MaxPacket {
		return fmt.Errorf("pcapng: packet of %d bytes: want at most %d", len(k.Data), MaxPacket)
	}
	p.begin(blockPacket)
	p.u32(uint32(k.Interface))
	p.time(k.Time)
	p.u32(uint32(len(k.Data)))
	p.u32(uint32(max(k.Length, len(k.Data))))
	p.bytes(k.Data)
	if k.Direction != Unknown || k.Comment != "" {
		p.text(optComment, k.Comment)
		if k.Direction != Unknown {
			p.option(optFlags, binary.LittleEndian.AppendUint32(nil, uint32(k.Direction)))
		}
		p.option(optEnd, nil)
	}
	return p.end()
}

// WriteStatistics says how many packets an interface has given, and how many it
// has not because there was no room for them.
func (p *Writer) WriteStatistics(i int, at time.Time, received, dropped uint64) error {
	if i < 0 || i >= p.interfaces {
		return fmt.Errorf("%w: %d", ErrInterface, i)
	}
	p.begin(blockStatistics)
	p.u32(uint32(i))
	p.time(at)
	p.option(optReceived, binary.LittleEndian.AppendUint64(nil, received))
	p.option(optDropped, binary.LittleEndian.AppendUint64(nil, dropped))
	p.option(optEnd, nil)
	return p.end()
}

// begin starts a block: its type, and room for its length.
func (p *Writer) begin(typ uint32) {
	p.block = binary.LittleEndian.AppendUint32(p.block[:0], typ)
	p.u32(0)
}

// end writes the block, with its length on both sides.
func (p *Writer) end() error {
	if p.err != nil {
		return p.err
	}
	n := uint32(len(p.block) + 4)
	binary.LittleEndian.PutUint32(p.block[4:], n)
	p.u32(n)
	if _, err := p.w.Write(p.block); err != nil {
		p.err = fmt.Errorf("pcapng: %w", err)
	}
	return p.err
}

func (p *Writer) u16(v uint16) { p.block = binary.LittleEndian.AppendUint16(p.block, v) }
func (p *Writer) u32(v uint32) { p.block = binary.LittleEndian.AppendUint32(p.block, v) }
func (p *Writer) u64(v uint64) { p.block = binary.LittleEndian.AppendUint64(p.block, v) }

// time writes nanoseconds since 1970, the upper half first.
func (p *Writer) time(t time.Time) {
	ns := uint64(t.UnixNano())
	p.u32(uint32(ns >> 32))
	p.u32(uint32(ns))
}

// bytes writes b, filled up to a multiple of four.
func (p *Writer) bytes(b []byte) {
	p.block = append(p.block, b...)
	for len(p.block)%4 != 0 {
		p.block = append(p.block, 0)
	}
}

func (p *Writer) option(code uint16, value []byte) {
	p.u16(code)
	p.u16(uint16(len(value)))
	p.bytes(value)
}

// text writes an option unless it would be empty.
func (p *Writer) text(code uint16, s string) {
	if s != "" {
		p.option(code, []byte(s[:min(len(s), maxText)]))
	}
}
