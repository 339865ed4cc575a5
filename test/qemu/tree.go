package qemu

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Tree is a folder with the unpacked packages of a Debian suite. Its programs
// run here and in a guest by the libraries of the same tree, whatever this
// machine has.
type Tree string

// cache is where test/setup-vm.sh puts things.
func cache() (string, error) {
	if d := os.Getenv("VITA_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	return filepath.Join(d, "vita"), err
}

var errSetup = errors.New("run test/setup.sh")

// DefaultTree returns the tree of the tools.
func DefaultTree() (Tree, error) {
	d, err := cache()
	if err != nil {
		return "", err
	}
	t := Tree(filepath.Join(d, "vm/tree"))
	if _, err := os.Stat(filepath.Join(d, "vm/complete")); err != nil {
		return "", fmt.Errorf("nothing to run virtual machines with: %w: %w", errSetup, err)
	}
	return t, nil
}

// DefaultKernel returns the unpacked kernel package.
func DefaultKernel() (Kernel, error) {
	d, err := cache()
	if err != nil {
		return "", err
	}
	return Kernel(filepath.Join(d, "vm/kernel")), nil
}

// DefaultServer returns the folder with a small Debian.
func DefaultServer() (string, error) {
	d, err := cache()
	if err != nil {
		return "", err
	}
	d = filepath.Join(d, "server")
	if _, err := os.Stat(filepath.Join(d, "complete")); err != nil {
		return "", fmt.Errorf("no Debian for a guest: %w: %w", errSetup, err)
	}
	return d, nil
}

// find returns the host's path of a file that lies in one of some folders of
// the tree, and its path in the tree.
func (t Tree) find(name string, folders ...string) (host, inside string, err error) {
	for _, f := range folders {
		inside = path.Join("/", f, name)
		host = filepath.Join(string(t), inside)
		if s, err := os.Stat(host); err == nil && s.Mode().IsRegular() {
			return host, inside, nil
		}
	}
	return "", "", fmt.Errorf("%s: %w in %s", name, fs.ErrNotExist, t)
}

var (
	programs  = []string{"usr/bin", "usr/sbin", "bin", "sbin"}
	libraries = []string{"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64"}
)

const loader = "ld-linux-x86-64.so.2"

// Command returns the words that run a program of the tree on this machine.
func (t Tree) Command(program string) ([]string, error) {
	ld, _, err := t.find(loader, libraries...)
	if err != nil {
		return nil, err
	}
	p, _, err := t.find(program, programs...)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, l := range libraries {
		paths = append(paths, filepath.Join(string(t), l))
	}
	return []string{ld, "--library-path", strings.Join(paths, ":"), p}, nil
}

// Emulator returns the words that run QEMU on this machine, and what its
// environment must have.
func (t Tree) Emulator() (words, env []string, err error) {
	words, err = t.Command("qemu-system-x86_64")
	if err != nil {
		return nil, nil, err
	}
	for _, s := range []string{"qemu", "seabios"} {
		words = append(words, "-L", filepath.Join(string(t), "usr/share", s))
	}
	return words, []string{"QEMU_MODULE_DIR=" + filepath.Join(string(t), libraries[0], "qemu")}, nil
}

// closure returns programs of the tree with all that they load, by their paths
// in a guest.
func (t Tree) closure(names []string) (map[string]string, error) {
	files := make(map[string]string)
	var add func(host, inside string) error
	library := func(name string) error {
		host, inside, err := t.find(name, libraries...)
		if err != nil {
			return err
		}
		return add(host, inside)
	}
	add = func(host, inside string) error {
		if files[inside] != "" {
			return nil
		}
		files[inside] = host
		f, err := elf.Open(host)
		if err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		defer func() { _ = f.Close() }()
		needed, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		for _, n := range needed {
			if err := library(n); err != nil {
				return err
			}
		}
		return nil
	}
	for _, n := range names {
		host, _, err := t.find(n, programs...)
		if err != nil {
			return nil, err
		}
		if err := add(host, "/bin/"+path.Base(n)); err != nil {
			return nil, err
		}
	}
	if len(files) > 0 { // the kernel looks for it where the programs say
		host, _, err := t.find(loader, libraries...)
		if err != nil {
			return nil, err
		}
		files["/lib64/"+loader] = host
	}
	return files, nil
}

// Kernel is a folder with an unpacked Debian kernel package.
type Kernel string

// image returns the path of what is booted.
func (k Kernel) image() (string, error) {
	found, err := filepath.Glob(filepath.Join(string(k), "boot/vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d kernels in %s, want one: %w", len(found), k, errSetup)
	}
	return found[0], nil
}

// modules returns the files of modules, in an order in which they can be
// loaded: each behind what it needs.
func (k Kernel) modules(names []string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(string(k), "lib/modules/*/modules.dep"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%d lists of modules in %s, want one: %w", len(found), k, errSetup)
	}
	root := filepath.Dir(found[0])
	needs, err := readDep(found[0])
	if err != nil {
		return nil, err
	}
	byName := make(map[string]string)
	for file := range needs {
		byName[moduleName(file)] = file
	}
	builtin, err := os.ReadFile(filepath.Join(root, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for file := range strings.FieldsSeq(string(builtin)) {
		if _, ok := byName[moduleName(file)]; !ok {
			byName[moduleName(file)] = "" // is there already
		}
	}
	var order []string
	add := func(file string) {
		if file = filepath.Join(root, file); !slices.Contains(order, file) {
			order = append(order, file)
		}
	}
	for _, n := range names {
		file, ok := byName[moduleName(n)]
		if !ok {
			return nil, fmt.Errorf("the kernel has no module %s", n)
		}
		if file == "" {
			continue
		}
		for _, need := range slices.Backward(needs[file]) { // modules.dep has the deepest last
			add(need)
		}
		add(file)
	}
	return order, nil
}

// moduleName is a module's name: that of its file, in which - and _ are the same.
func moduleName(file string) string {
	n, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(n, "-", "_")
}

// readDep reads modules.dep: "file: what it needs".
func readDep(name string) (map[string][]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	needs := make(map[string][]string)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		file, rest, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return nil, fmt.Errorf("%s: line %q", name, lines.Text())
		}
		needs[file] = strings.Fields(rest)
	}
	return needs, lines.Err()
}
