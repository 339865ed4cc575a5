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
	"sync"

	"golang.org/x/sys/unix"
)

// Set is a folder with modules. Several goroutines may load from it at once.
type Set struct {
	dir     string
	needs   map[string][]string // file to files
	files   map[string]string   // name to file
	aliases map[string][]alias  // by bus, which is what stands before the colon
	load    func(file string) error

	mu     sync.Mutex
	tried  map[string]bool         // files that Load was called for
	loaded map[string]func() error // by file: what loads it, once
}

type alias struct {
	start   string // of the pattern, before any wildcard
	pattern string
	name    string
}

// Open reads what is in a folder.
func Open(dir string) (*Set, error) {
	s := &Set{dir: dir, needs: make(map[string][]string), files: make(map[string]string), aliases: make(map[string][]alias), tried: make(map[string]bool), loaded: make(map[string]func() error), load: insert}
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
		start, _, _ := strings.Cut(w[1], "*")
		if n := strings.IndexAny(start, "?["); n >= 0 {
			start = start[:n]
		}
		s.aliases[bus] = append(s.aliases[bus], alias{start, w[1], Name(w[2])})
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
	s.mu.Lock()
	s.tried[file] = true
	s.mu.Unlock()
	for _, f := range append(slices.Clone(s.needs[file]), file) {
		if err := s.once(f)(); err != nil {
			return fmt.Errorf("module %s: %w", Name(f), err)
		}
	}
	return nil
}

// once returns what loads a file: the first who calls it does so, others wait.
// What does not load now will not load later either.
func (s *Set) once(file string) func() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.loaded[file]
	if f == nil {
		f = sync.OnceValue(func() error { return s.load(filepath.Join(s.dir, file)) })
		s.loaded[file] = f
	}
	return f
}

// insert gives a module to the kernel, but not again: the kernel would check its
// signature first.
func insert(file string) error {
	if b, err := os.ReadFile("/sys/module/" + Name(file) + "/initstate"); err == nil && string(b) == "live\n" {
		return nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return insertPacked(file + Packed)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return unlessThere(unix.FinitModule(int(f.Fd()), "", 0))
}

func insertPacked(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if b, err = unpack(b); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return unlessThere(unix.InitModule(b, ""))
}

func unlessThere(err error) error {
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
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
		if !strings.HasPrefix(modalias, a.start) { // nearly all: there are thousands
			continue
		}
		if ok, err := path.Match(a.pattern, modalias); ok && err == nil && !slices.Contains(names, a.name) {
			names = append(names, a.name)
		}
	}
	return names
}

// slow are modules that do not return before their hardware has answered, or has
// not for some time: ports without a disk, controllers with a system of their own,
// whole buses.
var slow = map[string]bool{
	"ahci": true, "ata_piix": true, "mptspi": true, "mptsas": true, "mpt3sas": true, "megaraid_sas": true,
	"xhci_pci": true, "ehci_pci": true, "usb_storage": true, "uas": true,
}

// Order says which modules Coldplug loads, and when the slow ones.
type Order int

// Orders.
const (
	Quick      Order = iota // without the slow ones
	QuickFirst              // the slow ones last, one by one, or not at all
	SlowFirst               // for who waits for them, while another loads the rest
)

// Coldplug loads the modules for all devices below sys (/sys), and for those that
// a module has made appear, until there is enough. Modules that cannot be loaded are
// not needed by any device that works; they are returned together, once.
func (s *Set) Coldplug(sys string, order Order, enough func() bool) error {
	var errs []error
	asked := make(map[string][]string) // names of modules, by device
	for {
		found, err := filepath.Glob(filepath.Join(sys, "bus/*/devices/*/modalias"))
		if err != nil {
			return err
		}
		var quick, last []string
		for _, file := range found {
			names, ok := asked[file]
			if !ok {
				b, err := os.ReadFile(file)
				if err != nil {
					continue // it has gone meanwhile
				}
				names = s.Match(strings.TrimSpace(string(b)))
				asked[file] = names
			}
			for _, name := range names {
				if !slow[name] {
					quick = append(quick, name)
				} else if order != Quick {
					last = append(last, name)
				}
			}
		}
		next := slices.DeleteFunc(quick, s.known)
		last = slices.DeleteFunc(last, s.known)
		if len(last) > 0 && (len(next) == 0 || order == SlowFirst) {
			next = last[:1]
		}
		if len(next) == 0 {
			return errors.Join(errs...)
		}
		for _, name := range next {
			if err := s.Load(name); err != nil && !errors.Is(err, unix.ENODEV) {
				errs = append(errs, err)
			}
			if enough() {
				return errors.Join(errs...)
			}
		}
	}
}

// known says whether a module has been tried.
func (s *Set) known(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	file, ok := s.files[name]
	return !ok || s.tried[file]
}
