// Init is process 1 of the guest in which Linux's ESP runs.
package main

import (
	"vita/test/interop/linuxesp/peer"
	"vita/test/qemu/guest"
)

func main() { guest.Serve(new(peer.Peer)) }
