// Init is process 1 of guests with network cards.
package main

import (
	"vita/test/qemu/guest"
	"vita/test/qemu/nic/station"
)

func main() { guest.Serve(new(station.Station)) }
