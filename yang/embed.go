// Package yang embeds the modules that the gateway implements or imports, so
// that a program carries the model it was built with: the schema compiler
// reads it, and clients get it by <get-schema>.
//
// The package knows nothing of what the modules say.
package yang

import (
	"embed"
	"io/fs"
	"path"
	"strings"
)

// FS holds the gateway's own modules at its root, and the standard modules, named
// NAME@REVISION.yang, in ietf/.
//
//go:embed *.yang ietf/*.yang
var FS embed.FS

// Gateway is the name of the module that the gateway implements.
const Gateway = "vita-esp-gateway"

// Implemented are the names of all modules whose nodes a gateway has. The
// gateway's own come first; later ones augment earlier ones, or deviate them.
var Implemented = []string{Gateway, "vita-esp-gateway-ext", "ietf-netconf-acm", "ietf-system", "vita-gateway-deviations"}

// Features are the features of those modules that a gateway has.
var Features = map[string][]string{"ietf-system": {"authentication", "local-users", "ntp", "ntp-udp-port"}}

// Sources returns the text of every embedded module by its file's base name,
// for example "ietf-yang-types@2013-07-15.yang".
func Sources() map[string]string {
	sources := map[string]string{}
	err := fs.WalkDir(FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".yang") {
			return err
		}
		text, err := FS.ReadFile(name)
		sources[path.Base(name)] = string(text)
		return err
	})
	if err != nil {
		panic("yang: embedded files cannot be read: " + err.Error()) // they are in the program itself
	}
	return sources
}
