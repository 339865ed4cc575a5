// Package gen holds the Go structs of the YANG model, as ygot writes them:
// one struct a container or list entry, one field a node, with Vita at the
// root. They are the typed tree behind both management servers.
//
// Nothing here is written by hand but this file and the command it runs. The
// schema that ygot embeds is not used: mgmt/internal/schema compiles the
// modules themselves, which say more.
package gen

//go:generate go run -trimpath ./internal/generate
