// Package modules loads modules of the kernel: by name, and by what the
// devices of the machine say that they are.
//
// A set is made by the image's build: a file modules.dep, "file: what it needs"
// in the order of loading, and a file modules.alias, "alias PATTERN NAME".
package modules

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Set is a folder with modules.
type Set struct {
	dir     string
	needs   map[string][]string // file to files
	files   map[string]string   // name to file
	aliases map[string][]alias  // by bus, which is what stands before the colon
	loaded  map[string]bool     // files that need not be tried any more
	load    func(file string) error
}

type alias struct{ pattern, name string }

// Open reads what is in a folder.
func Open(dir string) (*Set, error) {
	s := &Set{dir: dir, needs: make(map[string][]string), files: make(map[string]string), aliases: make(map[string][]alias), loaded: make(map[string]bool), load: insert}
	for name, read := range map[string]func(io.Reader) error{"modules.dep": s.readDep, "modules.alias": s.readAlias} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := errors.Join(read(f), f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return s, nil
}

func (s *Set) readDep(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		file, rest, ok := strings.Cut(lines.Text(), ":")
		if !ok || file == "" {
			return fmt.Errorf("line %q: want a file, a colon, and what it needs", lines.Text())
		}
		s.needs[file] = strings.Fields(rest)
		s.files[Name(file)] = file
	}
	return lines.Err()
}

func (s *Set) readAlias(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) != 3 || w[0] != "alias" {
			return fmt.Errorf("line %q: want alias, pattern and name", lines.Text())
		}
		bus := busOf(w[1])
		s.aliases[bus] = append(s.aliases[bus], alias{w[1], Name(w[2])})
	}
	return lines.Err()
}

// Name is a module's name: that of its file, in which - and _ are the same.
func Name(file string) string {
	n, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(n, "-", "_")
}

// Load loads a module after all that it needs. A module that is there already
// is no error, one that is not in the set is.
func (s *Set) Load(name string) error {
	file, ok := s.files[Name(name)]
	if !ok {
		return fmt.Errorf("module %s: %w", name, fs.ErrNotExist)
	}
	for _, f := range append(slices.Clone(s.needs[file]), file) {
		if s.loaded[f] {
			continue
		}
		s.loaded[f] = true // what does not load now will not load later either
		if err := s.load(filepath.Join(s.dir, f)); err != nil {
			return fmt.Errorf("module %s: %w", Name(f), err)
		}
	}
	return nil
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// busOf is what stands before the colon, and before any wildcard.
func busOf(alias string) string {
	if n := strings.IndexAny(alias, ":*?["); n >= 0 {
		return alias[:n]
	}
	return alias
}

// Match returns the names of the modules that are for a device, which says what
// it is in its file modalias.
func (s *Set) Match(modalias string) []string {
	bus := busOf(modalias)
	var names []string
	for _, a := range s.aliases[bus] {
		if ok, err := path.Match(a.pattern, modalias); ok && err == nil && !slices.Contains(names, a.name) {
			names = append(names, a.name)
		}
	}
	return names
}

// Coldplug loads the modules for all devices below sys (/sys), again while a
// module has made new devices appear. Modules that cannot be loaded are not
// needed by any device that works; they are returned together.
func (s *Set) Coldplug(sys string) error {
	var errs []error
	seen := make(map[string]bool)
	for again := true; again; {
		again = false
		found, err := filepath.Glob(filepath.Join(sys, "bus/*/devices/*/modalias"))
		if err != nil {
			return err
		}
		for _, file := range found {
			if seen[file] {
				continue
			}
			seen[file] = true
			b, err := os.ReadFile(file)
			if err != nil {
				continue // it has gone meanwhile
			}
			for _, name := range s.Match(strings.TrimSpace(string(b))) {
				again = true
				if err := s.Load(name); err != nil && !errors.Is(err, unix.ENODEV) {
					errs = append(errs, err)
				}
			}
		}
	}
	return errors.Join(errs...)
}
