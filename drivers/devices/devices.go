// Package devices lists a machine's network cards for its operator: what each
// is, who has it, and what would keep a driver of our own from taking it.
package devices

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"vita/drivers"
	"vita/drivers/internal/pci"
	"vita/drivers/internal/vfio"
)

// Write writes a table of the network cards that the kernel describes below sys,
// which is /sys on a machine that runs.
func Write(w io.Writer, sys string, r *drivers.Registry) error {
	all, err := pci.Sysfs(sys).List()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no network cards on the PCI bus")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "PCI\tDEVICE\tDRIVER\tINTERFACE\tLINK\tIOMMU GROUP\tNUMA\tUSABLE") // Flush tells
	for _, f := range all {
		name, usable := f.ID.String(), "no: unknown device"
		if driver, chip, ok := r.Find(f.ID.Vendor, f.ID.Device); ok {
			name, usable = chip, "yes, by "+driver
			if err := vfio.Usable(f, vfio.Options{Sys: pci.Sysfs(sys)}); err != nil {
				usable = "no: " + err.Error()
			}
		}
		node := "-"
		if f.Node >= 0 {
			node = fmt.Sprint(f.Node)
		}
		group := or(f.Group)
		if len(f.Shares) > 0 {
			group += fmt.Sprintf(" with %s", strings.Join(f.Shares, " "))
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			f.Address, name, or(f.Driver), or(strings.Join(f.Netdevs, " ")), or(f.Link), group, node, usable)
	}
	return t.Flush()
}

// or stands for what is not there.
func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
