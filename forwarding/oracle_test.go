package forwarding

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// slowReceiver is ESP's receiving side as RFC 4303 words it, on the standard
// library, with a list of all numbers that have come for a window.
type slowReceiver struct {
	gcm  cipher.AEAD
	salt []byte
	spi  uint32
	size uint64
	top  uint64
	came map[uint64]bool
}

func newSlowReceiver(t *testing.T, key []byte, spi uint32, size, top uint64) *slowReceiver {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	s := &slowReceiver{salt: make([]byte, 4), spi: spi, size: size, top: top, came: make(map[uint64]bool)}
	if s.gcm, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	return s
}

// packet is an ESP packet around a payload, with any amount of padding (2.4) and
// any IV (RFC 4106, 3.1).
func (s *slowReceiver) packet(seq uint64, payload, padding []byte, next byte, iv uint64) []byte {
	head := binary.BigEndian.AppendUint32(nil, s.spi)
	head = binary.BigEndian.AppendUint32(head, uint32(seq))
	head = binary.BigEndian.AppendUint64(head, iv)
	plain := append(append(bytes.Clone(payload), padding...), byte(len(padding)), next)
	return s.gcm.Seal(head, s.nonce(head), plain, s.aad(seq))
}

func (s *slowReceiver) nonce(p []byte) []byte { return append(bytes.Clone(s.salt), p[8:16]...) }

func (s *slowReceiver) aad(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, s.spi), seq)
}

// accept returns the payload of a packet that is to be accepted.
func (s *slowReceiver) accept(p []byte) (payload []byte, next byte, ok bool) {
	if len(p) < 8+8+4+16 || binary.BigEndian.Uint32(p) != s.spi {
		return nil, 0, false
	}
	// A2.2: of the numbers with these lower halves, the one within 2^32 of the
	// window's bottom.
	low, bottom := uint64(binary.BigEndian.Uint32(p[4:])), int64(s.top)-int64(s.size)+1
	seq := bottom&^0xffffffff | int64(low)
	if seq < bottom {
		seq += 1 << 32
	}
	if seq <= 0 || s.came[uint64(seq)] {
		return nil, 0, false
	}
	plain, err := s.gcm.Open(nil, s.nonce(p), p[16:], s.aad(uint64(seq)))
	if err != nil {
		return nil, 0, false
	}
	s.came[uint64(seq)] = true
	s.top = max(s.top, uint64(seq))
	pad := int(plain[len(plain)-2])
	if pad > len(plain)-2 {
		return nil, 0, false
	}
	filler := plain[len(plain)-2-pad : len(plain)-2]
	standard := true // 2.4; Vita's are zeros
	for i := range filler {
		standard = standard && int(filler[i]) == i+1
	}
	if !standard && len(bytes.Trim(filler, "\x00")) > 0 {
		return nil, 0, false
	}
	return plain[:len(plain)-2-pad], plain[len(plain)-1], true
}

// TestAgainstSlowReceiver sends the worker packets late, early, twice and damaged,
// with padding of all kinds, and compares what it delivers with what the slow
// receiver accepts.
func TestAgainstSlowReceiver(t *testing.T) {
	for seed := range uint64(24) {
		againstSlowReceiver(t, seed)
	}
}

func againstSlowReceiver(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	size := []uint64{64, 65, 128, 192, 200, 1000, 4096}[seed%7]
	start := []uint64{1, 1<<32 - 300, 5<<32 + 7, 1 << 40}[seed%4]
	key := bytes.Repeat([]byte{byte(seed)}, 16+16*int(seed%2))
	r := newRig(t)
	r.spec.ReplayWindow = uint16(size)
	r.apply()
	r.install(client.SA{Direction: client.Inbound, SPI: 1<<31 + 7, Key: key, Seq: start})
	w, goOn := r.still()
	t.Cleanup(goOn)
	slow := newSlowReceiver(t, key, 1<<31+7, size, start)
	for n := range min(start, 2*size) {
		slow.came[start-n] = true
	}
	var sent [][]byte
	accepted := 0
	for n := range 2000 {
		var p []byte
		switch rnd.IntN(10) {
		case 0: // again
			if len(sent) > 0 {
				p = bytes.Clone(sent[len(sent)-1-rnd.IntN(min(len(sent), 50))])
			}
		case 1: // far ahead, or back
			p = slow.packet(slow.top+rnd.Uint64N(1<<33)-1<<31, []byte{0x45}, nil, 4, rnd.Uint64())
		}
		if p == nil {
			seq := slow.top + uint64(rnd.IntN(20)) + 1
			if back := rnd.Uint64N(5 * size / 4); rnd.IntN(2) == 0 && back < slow.top {
				seq = slow.top - back
			}
			inner := frame{src: "10.2.0.9", to: "10.1.0.7", proto: 200, payload: bytes.Repeat([]byte{byte(n)}, rnd.IntN(60))}.bytes()[14:]
			padding := make([]byte, -(len(inner)+2)&3+4*rnd.IntN(4)*rnd.IntN(16))
			if kind := rnd.IntN(8); kind > 1 { // else zeros
				for i := range padding {
					padding[i] = byte(i + 1)
				}
				if kind == 2 && len(padding) > 0 {
					padding[rnd.IntN(len(padding))] = byte(rnd.Uint32())
				}
			}
			if rnd.IntN(4) == 0 { // traffic flow padding
				inner = append(inner, make([]byte, 4*rnd.IntN(100))...)
			}
			p = slow.packet(seq, inner, padding, 4, rnd.Uint64())
		}
		if rnd.IntN(12) == 0 {
			p[rnd.IntN(len(p))] ^= 1 << rnd.IntN(8)
		}
		sent = append(sent, p)
		payload, next, ok := slow.accept(p)
		ok = ok && next == 4 && len(payload) >= 20
		r.public.Inject(espFrame(bytes.Clone(p)))
		w.turn()
		out := r.private.Drain()
		if len(out) > 1 || ok != (len(out) == 1) {
			t.Fatalf("seed %d, packet %d, window %d, top %#x: %d packets were delivered, want %v\n%x", seed, n, size, slow.top, len(out), ok, p)
		}
		if !ok {
			continue
		}
		accepted++
		want := payload[:binary.BigEndian.Uint16(payload[2:])]
		if got := out[0][14:]; !bytes.Equal(got[12:], want[12:]) || got[8] != want[8]-1 {
			t.Fatalf("seed %d, packet %d: delivered\n%x\nwant, one hop further,\n%x", seed, n, got, want)
		}
	}
	if sa := inboundSA(w); sa.Seq != slow.top || sa.Packets < uint64(accepted) {
		t.Errorf("seed %d: highest number %#x, %d packets, want %#x, %d", seed, sa.Seq, sa.Packets, slow.top, accepted)
	}
	if accepted < 400 {
		t.Errorf("seed %d: only %d packets were accepted", seed, accepted)
	}
}

// inboundSA returns the worker's only inbound SA.
func inboundSA(w *worker) *tables.SA {
	for i := range w.mem.SAs {
		if sa := &w.mem.SAs[i]; sa.Ref != 0 && sa.Direction == tables.Inbound {
			return sa
		}
	}
	return nil
}
