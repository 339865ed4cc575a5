// Package gen holds the Go structs of the YANG model, as ygot writes them:
// one struct a container or list entry, one field a node, with Vita at the
// root. They are the typed tree behind both management servers.
//
// Nothing here is written by hand but this file. The generated schema is not used:
// mgmt/internal/schema compiles the modules themselves, which say more.
package gen

//go:generate go run -trimpath github.com/openconfig/ygot/generator@v0.36.0 -path=../yang,../yang/ietf -output_file=vita.go -package_name=gen -generate_fakeroot -fakeroot_name=Vita -compress_paths=false -exclude_modules=ietf-inet-types,ietf-yang-types,ietf-netconf-acm -include_model_data=false -generate_simple_unions -yangpresence -shorten_enum_leaf_names -typedef_enum_with_defmod ../yang/vita-esp-gateway.yang
