// Init is the plainest init program: what package guest has, and no more.
package main

import "vita/test/qemu/guest"

func main() { guest.Serve() }
