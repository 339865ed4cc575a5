package main

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBinaryHoldsNoControlCode reads the symbols of the program as it is
// built: no management protocol, parser of configuration or schema may have
// found its way into the process that owns devices and keys.
func TestBinaryHoldsNoControlCode(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "vita-engine")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	forbidden := []string{
		"net/http.", "crypto/tls.",
		"golang.org/x/crypto/ssh.", "github.com/openconfig/", "vita/gen.", "vita/mgmt/", "vita/keying/",
	}
	own := 0
	for _, s := range symbols {
		for _, bad := range forbidden {
			if strings.HasPrefix(s.Name, bad) {
				t.Errorf("symbol %s", s.Name)
			}
		}
		if strings.HasPrefix(s.Name, "vita/forwarding.") {
			own++
		}
	}
	if own == 0 {
		t.Fatal("no symbol of the engine found: the test reads the wrong thing")
	}
}
