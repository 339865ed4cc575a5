// Package slots knows the kernel images in the EFI system partition by their
// names, in which systemd-boot keeps its count of tries:
//
//	vita-000007-b+2-1.efi
//	     |      | | tries that have been made
//	     |      | tries that are left
//	     |      slot of the root that the image starts
//	     number of the installation: the boot loader prefers the highest
//
// A name without tries is that of an image that has proved good.
package slots

import (
	"fmt"
	"regexp"
	"strconv"
)

// Folder is where the images are, from the partition's root.
const Folder = "EFI/Linux"

// Slot is a or b.
type Slot string

// The slots.
const (
	A Slot = "a"
	B Slot = "b"
)

// Other returns the other one.
func (s Slot) Other() Slot {
	if s == A {
		return B
	}
	return A
}

// Partition returns the name of the slot's root partition.
func (s Slot) Partition() string { return "vita-root-" + string(s) }

// OfPartition is the inverse of Partition.
func OfPartition(name string) (Slot, error) {
	for _, s := range []Slot{A, B} {
		if s.Partition() == name {
			return s, nil
		}
	}
	return "", fmt.Errorf("partition %q is no slot", name)
}

// Image is a name of a kernel image.
type Image struct {
	Number int
	Slot   Slot
	Trial  bool // tries are counted
	Left   int
	Done   int
}

const maxNumber = 999999

var form = regexp.MustCompile(`^vita-([0-9]{6})-([ab])(?:\+([0-9]{1,4})(?:-([0-9]{1,4}))?)?\.efi$`)

// Parse reads a name. Other files in the folder are none of ours.
func Parse(name string) (Image, bool) {
	m := form.FindStringSubmatch(name)
	if m == nil {
		return Image{}, false
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // "" is 0
	return Image{Number: number(m[1]), Slot: Slot(m[2]), Trial: m[3] != "", Left: number(m[3]), Done: number(m[4])}, true
}

// Name is the inverse of Parse.
func (i Image) Name() string {
	s := fmt.Sprintf("vita-%06d-%s", i.Number, i.Slot)
	if i.Trial {
		s += fmt.Sprintf("+%d", i.Left)
		if i.Done > 0 {
			s += fmt.Sprintf("-%d", i.Done)
		}
	}
	return s + ".efi"
}

// Set is what the folder holds.
type Set []Image

// Of parses the names of a folder.
func Of(names []string) Set {
	var s Set
	for _, n := range names {
		if i, ok := Parse(n); ok {
			s = append(s, i)
		}
	}
	return s
}

// In returns the image of a slot: the newest, should a power cut have left two.
func (s Set) In(slot Slot) (best Image, ok bool) {
	for _, i := range s {
		if i.Slot == slot && (!ok || i.Number > best.Number) {
			best, ok = i, true
		}
	}
	return best, ok
}

// Next returns the name for an image that is installed now, to be tried once.
func (s Set) Next(slot Slot) (Image, error) {
	n := 0
	for _, i := range s {
		n = max(n, i.Number)
	}
	if n >= maxNumber {
		return Image{}, fmt.Errorf("%d upgrades are enough: write the image anew", n)
	}
	return Image{Number: n + 1, Slot: slot, Trial: true, Left: 1}, nil
}

// Good returns the name of an image that has proved good.
func (i Image) Good() Image { return Image{Number: i.Number, Slot: i.Slot} }
