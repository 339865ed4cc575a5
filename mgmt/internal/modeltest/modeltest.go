// Package modeltest helps tests of everything that YANG can say about data: it
// has modules with every construct, makes random documents of them, and has
// libyang, an independent implementation, judge the same documents.
package modeltest

import (
	"embed"
	"io/fs"
	"path"
	"strings"
	"testing"

	"vita/mgmt/internal/schema"
	"vita/yang"
)

//go:embed yang/*.yang
var modules embed.FS

// Implemented and Features are of the modules with every construct.
var (
	Implemented = []string{"every", "more"}
	Features    = map[string][]string{"every": {"there"}}
)

// Sources returns the modules with every construct, and what they import.
func Sources(t testing.TB) map[string]string {
	t.Helper()
	sources := map[string]string{}
	for file, text := range yang.Sources() {
		if strings.HasPrefix(file, "ietf-inet-types") || strings.HasPrefix(file, "ietf-yang-types") {
			sources[file] = text
		}
	}
	files, err := fs.Glob(modules, "yang/*.yang")
	if err != nil || len(files) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	for _, f := range files {
		text, err := modules.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sources[path.Base(f)] = string(text)
	}
	return sources
}

// Use has the whole process work on the modules with every construct until the
// test ends. It returns a function that makes an empty tree of theirs.
func Use(t testing.TB) (newTree func() any) {
	t.Helper()
	newTree, restore, err := schema.Use(Sources(t), Implemented, Features)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restore)
	return newTree
}
