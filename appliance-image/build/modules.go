package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"vita/appliance-image/internal/modules"
)

// kernel is what is taken out of a kernel's package.
type kernel struct {
	version string
	image   []byte
	modules map[string]*module
}

type module struct {
	file    string // base name
	data    []byte
	depends []string
	softpre []string // wanted before, where they are
	aliases []string
}

// readKernel reads a kernel's package.
func readKernel(deb string) (*kernel, error) {
	k := &kernel{modules: make(map[string]*module)}
	want := func(p string) bool {
		return strings.HasPrefix(p, "/boot/vmlinuz-") || strings.HasPrefix(p, "/lib/modules/") && strings.HasSuffix(p, ".ko")
	}
	return k, each(deb, want, func(p string, _ *tar.Header, r io.Reader) error {
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if v, ok := strings.CutPrefix(p, "/boot/vmlinuz-"); ok {
			k.version, k.image = v, b
			return nil
		}
		m, err := readModule(path.Base(p), b)
		if err != nil {
			return err
		}
		k.modules[modules.Name(p)] = m
		return nil
	})
}

// readModule reads what a module says of itself: strings KEY=VALUE in its
// section .modinfo.
func readModule(file string, data []byte) (*module, error) {
	m := &module{file: file, data: data}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for text := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(text), "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, modules.Name(d))
				}
			}
		case "softdep":
			pre, _, _ := strings.Cut(value, "post:")
			if pre, ok := strings.CutPrefix(strings.TrimSpace(pre), "pre:"); ok {
				for d := range strings.FieldsSeq(pre) {
					m.softpre = append(m.softpre, modules.Name(d))
				}
			}
		case "alias":
			m.aliases = append(m.aliases, value)
		}
	}
	return m, nil
}

// places are where modules are: rare ones are early ones that only some machines
// need, and packed.
var places = []string{"early", "rare", "root"}

// readList reads modules.list and returns the names for some places.
func readList(list string, at ...string) ([]string, error) {
	var names []string
	lines := bufio.NewScanner(strings.NewReader(list))
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) == 0 || strings.HasPrefix(w[0], "#") {
			continue
		}
		if len(w) != 2 || !slices.Contains(places, w[1]) {
			return nil, fmt.Errorf("modules.list: line %q: want a name, and one of %s", lines.Text(), strings.Join(places, ", "))
		}
		if slices.Contains(at, w[1]) {
			names = append(names, w[0])
		}
	}
	return names, lines.Err()
}

// early returns the files of the folder with modules in the kernel image: what only
// some machines need is packed, since the kernel unpacks the rest at each start.
func (k *kernel) early(common, rare []string) (map[string][]byte, error) {
	files, err := k.pick(append(slices.Clone(common), rare...))
	if err != nil {
		return nil, err
	}
	plain, err := k.pick(common)
	if err != nil {
		return nil, err
	}
	for _, name := range sorted(files) {
		if plain[name] != nil {
			continue
		}
		packed, err := modules.Pack(files[name])
		if err != nil {
			return nil, err
		}
		files[name+modules.Packed] = packed
		delete(files, name)
	}
	return files, nil
}

// pick returns the files of a folder for package modules: the named modules and
// what they need, and what says so.
func (k *kernel) pick(names []string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	var dep, alias []string
	var closure func(name string, order *[]string) error
	closure = func(name string, order *[]string) error {
		m := k.modules[name]
		if m == nil {
			return fmt.Errorf("the kernel %s has no module %s", k.version, name)
		}
		for _, d := range m.softpre {
			if k.modules[d] == nil {
				continue // built in, or not for this kernel
			}
			if err := closure(d, order); err != nil {
				return err
			}
		}
		for _, d := range m.depends {
			if err := closure(d, order); err != nil {
				return err
			}
		}
		if !slices.Contains(*order, m.file) {
			*order = append(*order, m.file)
		}
		return nil
	}
	for _, n := range names {
		var order []string
		if err := closure(modules.Name(n), &order); err != nil {
			return nil, err
		}
		for _, f := range order {
			name := modules.Name(f)
			m := k.modules[name]
			if files[f] != nil {
				continue
			}
			files[f] = m.data
			var own []string
			if err := closure(name, &own); err != nil {
				return nil, err
			}
			dep = append(dep, f+": "+strings.Join(own[:len(own)-1], " "))
			for _, a := range m.aliases {
				if !strings.ContainsAny(a, " \t") {
					alias = append(alias, "alias "+a+" "+name)
				}
			}
		}
	}
	slices.Sort(dep)
	slices.Sort(alias)
	files["modules.dep"] = []byte(strings.Join(dep, "\n") + "\n")
	files["modules.alias"] = []byte(strings.Join(alias, "\n") + "\n")
	return files, nil
}
