package devices

import (
	"strings"
	"testing"

	"vita/drivers"
	"vita/drivers/internal/pci/pcitest"
)

func TestWrite(t *testing.T) {
	var r drivers.Registry
	r.Register("igb", drivers.LinkPCI, nil, drivers.Chip{Vendor: 0x8086, Device: 0x1521, Name: "i350"})
	card := func(address, group string) pcitest.Card {
		c := pcitest.NIC(address, "0x8086", "0x1521")
		c.Group, c.Driver = group, "vfio-pci"
		return c
	}
	free := card("0000:01:00.0", "7").With("numa_node", "0")
	used := card("0000:02:00.0", "8").With("net/eth1/flags", "0x1003").With("net/eth1/operstate", "up")
	used.Driver = "igb"
	mate := card("0000:03:00.1", "9")
	mate.Driver = "nouveau"
	cards := []pcitest.Card{free, used, card("0000:03:00.0", "9"), mate, card("0000:04:00.0", ""), pcitest.NIC("0000:05:00.0", "0x1234", "0x5678")}
	var b strings.Builder
	if err := Write(&b, pcitest.Tree(t, cards...), &r); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	want := []string{
		"PCI DEVICE DRIVER INTERFACE LINK IOMMU GROUP NUMA USABLE",
		"0000:01:00.0 i350 vfio-pci - - 7 0 yes, by igb",
		"0000:02:00.0 i350 igb eth1 up 8 - no: interface or queue is in use: Linux uses it as eth1: take it down first, by 'ip link set eth1 down'",
		"0000:03:00.0 i350 vfio-pci - - 9 with 0000:03:00.1 - no: its IOMMU group 9 has other devices, which Linux uses: 0000:03:00.1 (nouveau)",
		"0000:03:00.1 i350 nouveau - - 9 with 0000:03:00.0 - yes, by igb",
		"0000:04:00.0 i350 vfio-pci - - - - no: no IOMMU confines the device",
		"0000:05:00.0 1234:5678 - - - - - no: unknown device",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines", len(lines))
	}
	for i, l := range lines {
		if got := strings.Join(strings.Fields(l), " "); !strings.HasPrefix(got, want[i]) {
			t.Errorf("%s\nwant %s", got, want[i])
		}
	}
	b.Reset()
	if err := Write(&b, t.TempDir(), &r); err != nil || !strings.HasPrefix(b.String(), "no network cards") {
		t.Errorf("%q, %v", b.String(), err)
	}
}
