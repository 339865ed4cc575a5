package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReproducible: the same sources give the same bytes, within the limits.
func TestReproducible(t *testing.T) {
	var made [2]string
	key := filepath.Join(t.TempDir(), "key") // the first build makes it
	for i := range made {
		made[i] = filepath.Join(t.TempDir(), strings.Repeat("folder", i+1))
		build := exec.Command("go", "run", "./appliance-image/build", "-out", made[i], "-version", "1.2.3", "-epoch", "1790000000", "-key", key)
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	files, err := os.ReadDir(made[0])
	if err != nil {
		t.Fatal(err)
	}
	sizes := make(map[string]int64)
	for _, f := range files {
		var data [2][]byte
		for i := range made {
			if data[i], err = os.ReadFile(filepath.Join(made[i], f.Name())); err != nil {
				t.Fatal(err)
			}
		}
		sizes[f.Name()] = int64(len(data[0]))
		if !bytes.Equal(data[0], data[1]) {
			at := 0
			for data[0][at] == data[1][at] {
				at++
			}
			t.Errorf("%s differs at byte %d", f.Name(), at)
		}
	}
	const mb = 1 << 20
	for name, most := range map[string]int64{"vita.raw": 300 * mb, "vita.qcow2": 300 * mb, "vita.upgrade": 110 * mb, "vita.spdx.json": mb} {
		if n, ok := sizes[name]; !ok || n == 0 || n > most {
			t.Errorf("%s has %d bytes, want up to %d", name, n, most)
		}
	}
	list, err := os.ReadFile(filepath.Join(made[0], "vita.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(list) {
		t.Error("the list of ingredients is no JSON")
	}
	for _, want := range []string{`"linux-image-6.`, `"systemd-boot-efi"`, `"github.com/openconfig/ygot"`, `"github.com/insomniacslk/dhcp"`} {
		if !bytes.Contains(list, []byte(want)) {
			t.Errorf("the list of ingredients has no %s", want)
		}
	}
}
