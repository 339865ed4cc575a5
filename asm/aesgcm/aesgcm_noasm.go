//go:build !amd64

package aesgcm

// missing names what the processor lacks for a tier.
func missing(t tier) string {
	if t == genericTier {
		return ""
	}
	return "amd64"
}

var wide = hasWide()

func hasWide() bool { return false }

func (c *context) expandAsm([]byte) error { panic("aesgcm: no kernels for this processor") }

func sealAsm([]Op) { panic("aesgcm: no kernels for this processor") }

func openAsm([]Op) { panic("aesgcm: no kernels for this processor") }

func prefetchAsm([]*Key) {}
