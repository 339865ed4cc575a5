// Package vita holds the test that keeps the rooms apart.
package vita

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "vita/"

// layers lists, for each folder, the folders of this module that it may
// import. The longest matching key decides, so that a room can be split
// further. An entry changes together with ARCHITECTURE.md and an ADR, not to
// make this test pass.
var layers = map[string][]string{
	"asm":                     {},
	"yang":                    {},
	"gen":                     {},
	"gen/internal/generate":   {"yang", "internal"}, // the generator alone, which no program holds
	"internal":                {"internal"},
	"drivers":                 {"drivers", "internal"},
	"forwarding":              {"forwarding", "asm", "drivers", "internal"},
	"forwarding/internal/ctl": {"forwarding/tables", "internal"}, // the words that client and engine exchange
	"forwarding/client":       {"forwarding/client", "forwarding/drop", "forwarding/internal/ctl", "forwarding/tables", "asm/lpm", "internal"},
	"forwarding/tables":       {"forwarding/drop", "forwarding/tables", "asm/lpm", "internal"},
	"keying":                  {"keying", "forwarding/client", "forwarding/tables", "internal"},
	"mgmt":                    {"mgmt", "gen", "yang", "internal"},
	"mgmt/translate":          {"mgmt", "gen", "yang", "internal", "keying", "forwarding/client", "forwarding/tables"},
	"mgmt/state":              {"mgmt", "gen", "yang", "internal", "keying", "forwarding/client", "forwarding/drop", "forwarding/tables"},
	"mgmt/capture":            {"mgmt", "internal", "forwarding/client", "forwarding/drop", "forwarding/tables"},
	"cmd":                     {"cmd", "mgmt", "keying", "forwarding/client", "forwarding/tables", "gen", "yang", "internal"},
	"cmd/vita-engine":         {"forwarding", "drivers", "internal"},
	"appliance-image":         {"appliance-image", "internal"},
	"appliance-image/test":    {"appliance-image", "internal", "test"},
	"cmd/vitabench":           {"asm", "drivers", "forwarding", "internal", "keying", "mgmt"},
}

// foreign lists packages from outside the module that a folder must not
// import in its own code.
var foreign = map[string][]string{
	"forwarding": {"github.com/openconfig", "reflect", "encoding/", "net/http", "golang.org/x/crypto/ssh"},
	"drivers":    {"github.com/openconfig", "reflect", "encoding/json", "net/http"},
	"asm":        {"github.com/", "reflect"},
	"yang":       {"github.com/"},
}

// unsafeIn lists the folders that may use package unsafe.
var unsafeIn = []string{"appliance-image/internal/block/", "appliance-image/internal/devmapper/", "asm/", "drivers/internal/", "internal/arena/", "internal/pktbuf/"}

// rule returns the entry of m whose key is the longest path prefix of dir.
func rule[T any](m map[string]T, dir string) (v T, ok bool) {
	for d := dir; d != "." && d != ""; d = filepath.ToSlash(filepath.Dir(d)) {
		if v, ok = m[d]; ok {
			return v, true
		}
	}
	return v, false
}

func within(pkg string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return pkg == d || strings.HasPrefix(pkg, d+"/")
	})
}

// TestLayering parses the files itself: a test that only runs "go list" is
// answered from the test cache after the imports have changed.
func TestLayering(t *testing.T) {
	checked := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			n := d.Name()
			if n == "testdata" || n == "build" || n != "." && strings.HasPrefix(n, ".") || strings.HasPrefix(n, "_") {
				return fs.SkipDir
			}
			return nil
		}
		path = filepath.ToSlash(path)
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		allowed, known := rule(layers, dir)
		if !known {
			return nil // the root and test/
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		checked++
		for _, imp := range f.Imports {
			to, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			if to == "unsafe" && !slices.ContainsFunc(unsafeIn, func(p string) bool { return strings.HasPrefix(path, p) }) && !strings.HasPrefix(path, "gen/") {
				t.Errorf("%s imports unsafe: only %v may", path, unsafeIn)
			}
			if bad, ok := rule(foreign, dir); ok {
				for _, b := range bad {
					if to == strings.TrimSuffix(b, "/") || strings.HasPrefix(to, strings.TrimSuffix(b, "/")+"/") {
						// encoding/binary turns fixed offsets into loads; it is no codec.
						if to == "encoding/binary" || strings.HasPrefix(to, "github.com/cilium/ebpf") {
							continue
						}
						t.Errorf("%s imports %s: %s must not", path, to, dir)
					}
				}
			}
			dep, ours := strings.CutPrefix(to, module)
			if !ours {
				continue
			}
			// A package and those below it are one room.
			if dep == dir || strings.HasPrefix(dir, dep+"/") && !within(dep, []string{"forwarding", "cmd"}) {
				continue
			}
			if !within(dep, allowed) {
				t.Errorf("%s imports %s: %s may import only %v", path, dep, dir, allowed)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Fatal("no file was checked")
	}
}
