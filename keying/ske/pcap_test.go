package ske

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Two exchanges and 24 ESP packets between two Vita nodes, with what their
// operator saw of the keys.
const (
	pcapFile = "testdata/ske.pcap"
	keysFile = "testdata/ske.keys.txt"
)

// frame is an IPv4 packet of the capture.
type frame struct {
	src, dst netip.Addr
	proto    byte
	body     []byte
}

func readPcap(t *testing.T) []frame {
	t.Helper()
	b, err := os.ReadFile(pcapFile)
	if err != nil {
		t.Fatal(err)
	}
	var out []frame
	for b = b[24:]; len(b) > 0; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		f := b[16 : 16+n]
		b = b[16+n:]
		if f[12] != 8 || f[13] != 0 {
			continue
		}
		ip := f[14 : 14+int(binary.BigEndian.Uint16(f[16:]))]
		out = append(out, frame{netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), ip[9], ip[20:]})
	}
	return out
}

// listed is an SA as a node listed it.
type listed struct {
	node, direction string
	spi             uint32
	key, salt       []byte
}

func readKeys(t *testing.T) (psk [32]byte, sas []listed) {
	t.Helper()
	b, err := os.ReadFile(keysFile)
	if err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		out, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	m := regexp.MustCompile(`(?m)^psk (\S+)$`).FindSubmatch(b)
	psk = [32]byte(unhex(string(m[1])))
	for _, section := range strings.Split(string(b), "## ")[1:] {
		head, _, _ := strings.Cut(section, "\n")
		node, direction, _ := strings.Cut(head, " /")
		for _, e := range regexp.MustCompile(`(?s)spi (\d+);.*?key "([^"]+)";.*?salt "([^"]+)"`).FindAllStringSubmatch(section, -1) {
			spi, err := strconv.Atoi(e[1])
			if err != nil {
				t.Fatal(err)
			}
			sas = append(sas, listed{node, direction, uint32(spi), unhex(e[2]), unhex(e[3])})
		}
	}
	if len(sas) != 6 {
		t.Fatalf("%d SAs listed", len(sas))
	}
	return psk, sas
}

// The captured proposals open with the PSK alone, through the code that a
// responder runs; the agreements need a private key that no capture holds, but
// must have the right shape.
func TestCapturedExchanges(t *testing.T) {
	psk, _ := readKeys(t)
	nonces := map[netip.Addr][32]byte{} // by responder
	var types []Type
	for _, f := range readPcap(t) {
		if f.proto != 17 {
			continue
		}
		if port := binary.BigEndian.Uint16(f.body[2:]); port != 303 {
			t.Fatalf("port %d", port)
		}
		m := f.body[8:]
		spi, kind, err := Parse(m)
		if err != nil || spi != 1001 {
			t.Fatalf("SPI %d: %v", spi, err)
		}
		types = append(types, kind)
		p := Params{SPI: 1001, PSK: psk, Local: f.dst, Remote: f.src}
		switch kind {
		case Knock:
			if !bytes.Equal(m, NewInitiator(p, wait, zeros{}).Start(0, 256)) {
				t.Errorf("knock % x", m)
			}
		case Challenge:
			n, err := readChallenge(m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m, newChallenge(1001, &n)) {
				t.Errorf("challenge % x", m)
			}
			nonces[f.src] = n
		case Proposal:
			r := NewResponder(p, zeros{})
			r.nonce, r.challenged = nonces[f.dst], true
			wrong := *r
			wrong.nonce[0] ^= 1
			if _, _, err := wrong.Propose(m, 1); err == nil {
				t.Error("a captured proposal opens with another nonce")
			}
			_, pair, err := r.Propose(m, 999)
			if err != nil {
				t.Fatalf("captured proposal from %v: %v", f.src, err)
			}
			if pair.OutboundSPI != 257 { // each node's second inbound SA
				t.Errorf("proposal from %v names SPI %d, want 257", f.src, pair.OutboundSPI)
			}
		}
	}
	if len(types) != 8 {
		t.Fatalf("messages %v", types)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// The listed keys are those of the captured packets: so the way they are read
// here (key, then salt; which node's inbound is whose outbound) is Vita's.
func TestCapturedPacketsOpenWithListedKeys(t *testing.T) {
	_, sas := readKeys(t)
	node := map[string]string{"203.0.113.1": "cvita0", "203.0.113.2": "cvita1"}
	opened := 0
	for _, f := range readPcap(t) {
		if f.proto != 50 {
			continue
		}
		for _, sa := range sas {
			if sa.node != node[f.dst.String()] || sa.direction != "inbound-sa" || sa.spi != binary.BigEndian.Uint32(f.body) {
				continue
			}
			b, err := aes.NewCipher(sa.key)
			if err != nil {
				t.Fatal(err)
			}
			a, err := cipher.NewGCM(b)
			if err != nil {
				t.Fatal(err)
			}
			aad := append(append(bytes.Clone(f.body[:4]), 0, 0, 0, 0), f.body[4:8]...)
			plain, err := a.Open(nil, append(bytes.Clone(sa.salt), f.body[8:16]...), f.body[16:], aad)
			if err != nil {
				t.Fatalf("packet %d from %v: %v", binary.BigEndian.Uint32(f.body[4:]), f.src, err)
			}
			if plain[0]>>4 != 4 {
				t.Fatalf("% x", plain[:20])
			}
			opened++
		}
	}
	if opened != 24 {
		t.Fatalf("%d packets opened", opened)
	}
	// The two ends have the same keys, crosswise.
	for _, out := range sas {
		if out.direction != "outbound-sa" {
			continue
		}
		found := false
		for _, in := range sas {
			found = found || in.direction == "inbound-sa" && in.node != out.node && in.spi == out.spi && bytes.Equal(in.key, out.key) && bytes.Equal(in.salt, out.salt)
		}
		if !found {
			t.Errorf("%s's outbound SA is nobody's inbound", out.node)
		}
	}
}
