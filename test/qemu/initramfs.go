package qemu

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// entry is a file of an initramfs.
type entry struct {
	path string
	mode uint32
	data []byte
	dev  uint32 // of a character device, on major 5
}

// Kinds of files, as in struct stat.
const (
	modeDir  = 0o040000
	modeChar = 0o020000
	modeFile = 0o100000
)

// writeInitramfs writes files, and the folders that they lie in, as the kernel
// unpacks them: a cpio archive of the format newc (the kernel's document
// "initramfs buffer format").
func writeInitramfs(w io.Writer, files []entry) error {
	b := bufio.NewWriter(w)
	inode := 0
	put := func(e entry) {
		inode++
		name := e.path[1:] + "\x00" // from the root
		major := 0
		if e.mode>>12 == modeChar>>12 {
			major = 5
		}
		// ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor
		// rdevminor namesize check. Errors stay in b until Flush.
		_, _ = fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			inode, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, major, e.dev, len(name), 0)
		_, _ = b.WriteString(name)
		pad(b, 110+len(name))
		_, _ = b.Write(e.data)
		pad(b, len(e.data))
	}
	made := map[string]bool{"/": true}
	var folder func(dir string)
	folder = func(dir string) {
		if made[dir] {
			return
		}
		made[dir] = true
		folder(path.Dir(dir))
		put(entry{path: dir, mode: modeDir | 0o755})
	}
	for _, e := range files {
		folder(path.Dir(e.path))
		put(e)
	}
	put(entry{path: "/TRAILER!!!"})
	return b.Flush()
}

// pad fills up to a multiple of four.
func pad(b *bufio.Writer, n int) { _, _ = b.Write(make([]byte, -n&3)) }

// filesOf reads files of this machine for a guest.
func filesOf(paths map[string]string) ([]entry, error) {
	var out []entry
	for inside, host := range paths {
		data, err := os.ReadFile(host)
		if err != nil {
			return nil, err
		}
		out = append(out, entry{path: path.Clean("/" + inside), mode: modeFile | 0o755, data: data})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return out, nil
}
