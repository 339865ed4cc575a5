package ske

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
)

// document is the protocol's description, whose vectors this test reads: a
// third implementation is written from it alone.
const document = "../../docs/vita-ske.md"

func readVectors(t *testing.T) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]byte{}
	for _, v := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*) = ([0-9a-f]+)$`).FindAllStringSubmatch(string(b), -1) {
		value, err := hex.DecodeString(v[2])
		if err != nil {
			t.Fatalf("%s: %v", v[1], err)
		}
		m[v[1]] = append(m[v[1]], value...)
	}
	return m
}

func TestVectorsOfTheDocument(t *testing.T) {
	v := readVectors(t)
	must := func(name string, n int) []byte {
		if len(v[name]) != n {
			t.Fatalf("%s: %d bytes in the document, want %d", name, len(v[name]), n)
		}
		return v[name]
	}
	psk := [32]byte(must("psk", 32))
	spi := uint32(1001)
	a, b := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	i := NewInitiator(Params{SPI: spi, PSK: psk, Local: a, Remote: b}, 1, bytes.NewReader(must("initiator-private", 32)))
	r := NewResponder(Params{SPI: spi, PSK: psk, Local: b, Remote: a}, bytes.NewReader(append(bytes.Clone(must("nonce", 32)), must("responder-private", 32)...)))

	got := map[string][]byte{}
	got["knock"] = i.Start(0, 256)
	var err error
	if got["challenge"], err = r.Knock(got["knock"]); err != nil {
		t.Fatal(err)
	}
	if got["proposal"], err = i.Challenge(0, got["challenge"]); err != nil {
		t.Fatal(err)
	}
	agreement, rp, err := r.Propose(got["proposal"], 257)
	if err != nil {
		t.Fatal(err)
	}
	got["agreement"] = agreement
	ip, err := i.Agree(0, agreement)
	if err != nil {
		t.Fatal(err)
	}
	if ip.Inbound != rp.Outbound || ip.Outbound != rp.Inbound || ip.OutboundSPI != 257 || rp.OutboundSPI != 256 {
		t.Fatalf("the ends disagree: %+v %+v", ip, rp)
	}
	nonce := [32]byte(v["nonce"])
	got["prologue"] = prologue(spi, a, b, &nonce)
	s := newNoise(got["prologue"], &psk)
	got["h-after-psk"], got["ck-after-psk"], got["k-after-psk"] = s.h[:], s.ck[:], s.k[:]
	got["to-initiator"] = append(bytes.Clone(ip.Inbound.Key[:]), ip.Inbound.Salt[:]...)
	got["to-responder"] = append(bytes.Clone(ip.Outbound.Key[:]), ip.Outbound.Salt[:]...)

	for name, value := range got {
		if !bytes.Equal(v[name], value) {
			t.Errorf("%s in the document is\n%s\nwant\n%s", name, block(name, v[name]), block(name, value))
		}
	}
}

// block writes a vector as the document has it: 32 bytes a line.
func block(name string, value []byte) string {
	var b strings.Builder
	for len(value) > 0 {
		n := min(32, len(value))
		fmt.Fprintf(&b, "%s = %x\n", name, value[:n])
		value = value[n:]
	}
	return b.String()
}
