package qemu

import (
	"os"
	"path"
	"slices"
	"strings"

	"vita/internal/cpio"
)

// filesOf reads files of this machine for a guest.
func filesOf(paths map[string]string) ([]cpio.Entry, error) {
	var out []cpio.Entry
	for inside, host := range paths {
		data, err := os.ReadFile(host)
		if err != nil {
			return nil, err
		}
		out = append(out, cpio.Entry{Path: path.Clean("/" + inside), Mode: cpio.File | 0o755, Data: data})
	}
	slices.SortFunc(out, func(a, b cpio.Entry) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}
