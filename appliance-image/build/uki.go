package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// section is a part of a unified kernel image, as systemd's stub looks for it.
type section struct {
	name string
	data []byte
}

// Where things are in a PE file (Microsoft's "PE Format").
const (
	peOffset       = 0x3c // of the offset of the signature PE\0\0
	coffSections   = 6    // from the signature on
	coffTimestamp  = 8
	coffOptional   = 20
	optionalHeader = 24
	optSectionAl   = 32 // from the optional header on
	optFileAl      = 36
	optImageSize   = 56
	optHeaderSize  = 60
	optCheckSum    = 64
	sectionHeader  = 40

	readOnlyData = 0x40000040 // readable, initialised data
)

// makeUKI appends sections to systemd's stub. The firmware loads the result like
// any program; the stub finds kernel, initial file system and command line in
// its own sections, and starts the kernel with them.
func makeUKI(stub []byte, sections []section) ([]byte, error) {
	le := binary.LittleEndian
	if len(stub) < 0x200 || string(stub[:2]) != "MZ" {
		return nil, errors.New("stub: no PE file")
	}
	pe := int(le.Uint32(stub[peOffset:]))
	if pe < 0 || pe+optionalHeader+optCheckSum+4 > len(stub) || string(stub[pe:pe+4]) != "PE\x00\x00" {
		return nil, errors.New("stub: no PE file")
	}
	out := append([]byte(nil), stub...)
	opt := out[pe+optionalHeader:]
	sectionAl, fileAl, headers := int(le.Uint32(opt[optSectionAl:])), int(le.Uint32(opt[optFileAl:])), int(le.Uint32(opt[optHeaderSize:]))
	n := int(le.Uint16(out[pe+coffSections:]))
	table := pe + optionalHeader + int(le.Uint16(out[pe+coffOptional:]))
	if headers > len(out) || table+(n+len(sections))*sectionHeader > headers || fileAl <= 0 || sectionAl <= 0 {
		return nil, fmt.Errorf("stub: no room for %d more sections", len(sections))
	}
	// Behind the last section, in memory and in the file. Its symbols, which lie
	// behind the sections in the file, go.
	end, file := 0, headers
	for i := range n {
		h := out[table+i*sectionHeader:]
		end = max(end, int(le.Uint32(h[12:]))+int(max(le.Uint32(h[8:]), le.Uint32(h[16:]))))
		file = max(file, int(le.Uint32(h[20:]))+int(le.Uint32(h[16:])))
	}
	if file > len(out) {
		return nil, errors.New("stub: a section ends behind the file")
	}
	out = out[:file]
	sectionAl = max(sectionAl, 4096) // the stub maps the kernel where it lies
	for i, s := range sections {
		if len(s.name) > 8 {
			return nil, fmt.Errorf("section %s: the name is too long", s.name)
		}
		end = roundUp(end, sectionAl)
		out = append(out, make([]byte, roundUp(len(out), fileAl)-len(out))...)
		h := out[table+(n+i)*sectionHeader:][:sectionHeader]
		clear(h)
		copy(h, s.name)
		le.PutUint32(h[8:], uint32(len(s.data)))
		le.PutUint32(h[12:], uint32(end))
		le.PutUint32(h[16:], uint32(roundUp(len(s.data), fileAl)))
		le.PutUint32(h[20:], uint32(len(out)))
		le.PutUint32(h[36:], readOnlyData)
		out = append(out, s.data...)
		end += len(s.data)
	}
	out = append(out, make([]byte, roundUp(len(out), fileAl)-len(out))...)
	opt = out[pe+optionalHeader:]
	le.PutUint16(out[pe+coffSections:], uint16(n+len(sections)))
	clear(out[pe+coffTimestamp:][:12]) // and the symbols' place and number
	le.PutUint32(opt[optImageSize:], uint32(roundUp(end, sectionAl)))
	le.PutUint32(opt[optCheckSum:], 0)
	return out, nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
