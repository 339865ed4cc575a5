package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A pin is a line of packages.lock: a package of Debian that goes into the
// image or makes it, by the hash of its file.
type pin struct {
	Name, Version string
	SHA256        string
	File          string // path below a mirror's base
	Use           string // image or tool
}

// readLock reads packages.lock: NAME VERSION SHA256 FILE USE.
func readLock(r io.Reader) ([]pin, error) {
	var pins []pin
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		w := strings.Fields(text)
		if len(w) != 5 || w[4] != "image" && w[4] != "tool" {
			return nil, fmt.Errorf("packages.lock: line %q: want name, version, SHA-256, file, and image or tool", text)
		}
		if b, err := hex.DecodeString(w[2]); err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("packages.lock: %s: %q is no SHA-256", w[0], w[2])
		}
		pins = append(pins, pin{w[0], w[1], w[2], w[3], w[4]})
	}
	return pins, lines.Err()
}

// repin writes the lock anew with what the machine's mirrors have now. Of a
// package that stands for others, such as linux-image-amd64, it takes the first.
func repin(file string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(old)) {
		w := strings.Fields(line)
		if len(w) == 0 || strings.HasPrefix(line, "#") {
			out.WriteString(line)
			continue
		}
		name := w[0]
		if strings.HasPrefix(name, "linux-image-") {
			if name, err = firstOf("linux-image-amd64"); err != nil {
				return err
			}
		}
		fields, err := show(name)
		if err != nil {
			return err
		}
		fmt.Fprintln(&out, name, fields["Version"], fields["SHA256"], fields["Filename"], w[len(w)-1])
	}
	return os.WriteFile(file, []byte(out.String()), 0o644)
}

func show(name string) (map[string]string, error) {
	b, err := exec.Command("apt-cache", "show", "--no-all-versions", name).Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache show %s: %w", name, err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ": "); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	for _, key := range []string{"Version", "SHA256", "Filename"} {
		if fields[key] == "" {
			return nil, fmt.Errorf("apt-cache show %s: no field %s", name, key)
		}
	}
	return fields, nil
}

func firstOf(name string) (string, error) {
	fields, err := show(name)
	if err != nil {
		return "", err
	}
	w := strings.Fields(fields["Depends"])
	if len(w) == 0 {
		return "", fmt.Errorf("%s depends on nothing", name)
	}
	return w[0], nil
}

// store keeps packages by their hashes.
type store struct {
	dir     string
	mirrors []string // of the machine's apt
}

func newStore() (*store, error) {
	cache := os.Getenv("VITA_CACHE")
	if cache == "" {
		d, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(d, "vita")
	}
	s := &store{dir: filepath.Join(cache, "packages")}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	b, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-get indextargets: %w", err)
	}
	seen := make(map[string]bool)
	for uri := range strings.FieldsSeq(string(b)) {
		if !seen[uri] {
			seen[uri] = true
			s.mirrors = append(s.mirrors, uri)
		}
	}
	return s, nil
}

// fetch returns the path of a package's file, which has the pinned hash.
func (s *store) fetch(p pin) (string, error) {
	file := filepath.Join(s.dir, p.SHA256+".deb")
	if hash(file) == p.SHA256 {
		return file, nil
	}
	var errs []error
	for _, mirror := range s.mirrors {
		temp, err := os.MkdirTemp(s.dir, "fetch")
		if err != nil {
			return "", err
		}
		part := filepath.Join(temp, "deb")
		out, err := exec.Command("/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file", strings.TrimSuffix(mirror, "/")+"/"+p.File, part, "SHA256:"+p.SHA256).CombinedOutput()
		if err == nil && hash(part) == p.SHA256 {
			err = os.Rename(part, file)
			return file, errors.Join(err, os.RemoveAll(temp))
		}
		errs = append(errs, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out))), os.RemoveAll(temp))
	}
	return "", fmt.Errorf("no mirror has %s %s with the pinned hash (a newer one: apt-get update, then make image-pin): %w", p.Name, p.Version, errors.Join(errs...))
}

// hash returns the SHA-256 of a file, "" where there is none.
func hash(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// each calls a function for every file of a package that has a path it wants.
func each(deb string, want func(path string) bool, take func(path string, h *tar.Header, r io.Reader) error) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = func() error {
		t := tar.NewReader(pipe)
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if path := filepath.Clean("/" + h.Name); want(path) {
				if err := take(path, h, t); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
		}
	}()
	_, _ = io.Copy(io.Discard, pipe) // or dpkg-deb would wait
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return fmt.Errorf("%s: %w", deb, err)
	}
	return nil
}

// unpack lays the files of packages below a folder.
func unpack(debs []string, dir string) error {
	for _, deb := range debs {
		if out, err := exec.Command("dpkg-deb", "-x", deb, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", deb, err, out)
		}
	}
	return nil
}
