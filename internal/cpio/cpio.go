// Package cpio writes archives as the kernel unpacks them into its initial file
// system: of the format newc (the kernel's document "initramfs buffer format").
package cpio

import (
	"bufio"
	"fmt"
	"io"
	"path"
)

// Entry is a file of an archive.
type Entry struct {
	Path string // from the root
	Mode uint32 // kind and permissions, as in struct stat
	Data []byte
	Dev  uint32 // of a character device, on major 5
}

// Kinds of files.
const (
	Dir  = 0o040000
	Char = 0o020000
	File = 0o100000
)

// Write writes files, and the folders that they lie in.
func Write(w io.Writer, files []Entry) error {
	b := bufio.NewWriter(w)
	inode := 0
	put := func(e Entry) {
		inode++
		name := e.Path[1:] + "\x00" // from the root
		major := 0
		if e.Mode>>12 == Char>>12 {
			major = 5
		}
		// ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor
		// rdevminor namesize check. Errors stay in b until Flush.
		_, _ = fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			inode, e.Mode, 0, 0, 1, 0, len(e.Data), 0, 0, major, e.Dev, len(name), 0)
		_, _ = b.WriteString(name)
		pad(b, 110+len(name))
		_, _ = b.Write(e.Data)
		pad(b, len(e.Data))
	}
	made := map[string]bool{"/": true}
	var folder func(dir string)
	folder = func(dir string) {
		if made[dir] {
			return
		}
		made[dir] = true
		folder(path.Dir(dir))
		put(Entry{Path: dir, Mode: Dir | 0o755})
	}
	for _, e := range files {
		folder(path.Dir(e.Path))
		put(e)
	}
	put(Entry{Path: "/TRAILER!!!"})
	return b.Flush()
}

// pad fills up to a multiple of four.
func pad(b *bufio.Writer, n int) { _, _ = b.Write(make([]byte, -n&3)) }
