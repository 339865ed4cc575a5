package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5" //nolint:gosec // what dpkg's list of files has
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Debian package for servers that keep their own distribution (deb(5)): an
// archive of ar(5) with a version, the control files and the files.

// packaged are the files of the package, by where they come from.
func (b *build) packaged() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for to, pkg := range map[string]string{"/usr/sbin/vitad": "./cmd/vitad", "/usr/sbin/vita-engine": "./cmd/vita-engine", "/usr/bin/vitactl": "./cmd/vitactl"} {
		out := filepath.Join(b.work, path.Base(to))
		if err := b.goBuild(out, pkg); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(out)
		if err != nil {
			return nil, err
		}
		files[to] = data
	}
	for from, to := range map[string]string{
		"systemd/vitad.service": "/lib/systemd/system/vitad.service", "systemd/vita-engine.service": "/lib/systemd/system/vita-engine.service",
		"docs/man/vitad.8": "/usr/share/man/man8/vitad.8.gz", "docs/man/vita-engine.8": "/usr/share/man/man8/vita-engine.8.gz", "docs/man/vitactl.1": "/usr/share/man/man1/vitactl.1.gz",
		"yang/vita-esp-gateway.yang": "/usr/share/vita/yang/vita-esp-gateway.yang", "yang/vita-esp-gateway-ext.yang": "/usr/share/vita/yang/vita-esp-gateway-ext.yang",
	} {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(to, ".gz") {
			if data, err = zip(data); err != nil {
				return nil, err
			}
		}
		files[to] = data
	}
	files["/usr/share/doc/vita/copyright"] = []byte("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Vita in Go\n\n" +
		"Files: *\nCopyright: the maintainers of Vita in Go\nLicense: Apache-2.0\n On Debian systems the text of the licence is in /usr/share/common-licenses/Apache-2.0.\n")
	return files, nil
}

// makeDeb returns the package.
func (b *build) makeDeb(files map[string][]byte) ([]byte, error) {
	size := 0
	var sums strings.Builder
	for _, name := range sorted(files) {
		size += (len(files[name]) + 1023) / 1024
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(files[name]), name[1:]) //nolint:gosec // see above
	}
	const head = "#!/bin/sh\nset -e\n[ -d /run/systemd/system ] || systemd=no\n"
	scripts := map[string]string{
		// A newer version takes over at once; what an older one had running stays so.
		"/postinst": head + "if [ \"$systemd\" != no ]; then\n\tsystemctl daemon-reload\n\tif [ \"$1\" = configure ] && [ -n \"$2\" ]; then systemctl try-restart vita-engine.service vitad.service; fi\nfi\n",
		"/prerm":    head + "if [ \"$systemd\" != no ] && [ \"$1\" = remove ]; then systemctl --no-reload disable --now vitad.service vita-engine.service; fi\n",
		"/postrm":   head + "if [ \"$1\" = purge ]; then rm -rf /var/lib/vita; fi\nif [ \"$systemd\" != no ]; then systemctl daemon-reload; fi\n",
	}
	control := map[string][]byte{
		"/control": fmt.Appendf(nil, "Package: vita\nVersion: %s\nArchitecture: amd64\nMaintainer: the maintainers of Vita in Go <maintainers@vita.invalid>\nInstalled-Size: %d\n"+
			"Section: net\nPriority: optional\nDescription: site-to-site IPsec ESP gateway\n It is configured over NETCONF and RESTCONF, negotiates and renews its keys by\n"+
			" itself, and forwards packets in a process of its own. After the installation,\n vitad(8) tells how to make its first administrator; then enable vitad.service.\n", b.version, size),
		"/md5sums": []byte(sums.String()),
	}
	for name, text := range scripts {
		control[name] = []byte(text)
	}
	controlTar, err := b.tarball(control)
	if err != nil {
		return nil, err
	}
	dataTar, err := b.tarball(files)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", controlTar}, {"data.tar.gz", dataTar}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, b.epoch.Unix(), 0, 0, "100644", len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes(), nil
}

// tarball packs files with the folders that they are in. Programs and scripts
// can be run.
func (b *build) tarball(files map[string][]byte) ([]byte, error) {
	var buf bytes.Buffer
	t := tar.NewWriter(&buf)
	made := map[string]bool{"/": true}
	var folder func(dir string) error
	folder = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if err := folder(path.Dir(dir)); err != nil {
			return err
		}
		return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "." + dir + "/", Mode: 0o755, ModTime: b.epoch, Format: tar.FormatGNU})
	}
	for _, name := range sorted(files) {
		if err := folder(path.Dir(name)); err != nil {
			return nil, err
		}
		mode := int64(0o644)
		if slices.Contains([]string{"/usr/sbin", "/usr/bin"}, path.Dir(name)) || bytes.HasPrefix(files[name], []byte("#!")) {
			mode = 0o755
		}
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "." + name, Mode: mode, Size: int64(len(files[name])), ModTime: b.epoch, Format: tar.FormatGNU})
		if err == nil {
			_, err = t.Write(files[name])
		}
		if err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return zip(buf.Bytes())
}

func zip(data []byte) ([]byte, error) {
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(w, bytes.NewReader(data))
	err = errors.Join(err, w.Close())
	return z.Bytes(), err
}

// debian makes the package and nothing else.
func (b *build) debian() (err error) {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp(b.out, "work"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	files, err := b.packaged()
	if err != nil {
		return err
	}
	deb, err := b.makeDeb(files)
	if err != nil {
		return err
	}
	name := filepath.Join(b.out, "vita_"+b.version+"_amd64.deb")
	fmt.Println(name)
	return os.WriteFile(name, deb, 0o644)
}
