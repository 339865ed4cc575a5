package yangenc

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOracle has libyang, an independent implementation, read what we write
// in either encoding, and write it again as JSON: it says the same.
func TestOracle(t *testing.T) {
	want, err := os.ReadFile("testdata/all.out.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"all.out.xml", "all.out.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "data"+filepath.Ext(name))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		const yang = "../../../yang/"
		out, err := exec.Command("yanglint", "-p", yang+"ietf", "-t", "config", "-f", "json", yang+"vita-esp-gateway.yang", file).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: yanglint (Debian package libyang2-tools): %v\n%s", name, err, out)
		}
		var got bytes.Buffer
		if err := json.Compact(&got, out); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: libyang reads\n%s\nwant\n%s", name, got.Bytes(), want)
		}
	}
}
