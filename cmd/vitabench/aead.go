package main

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"vita/asm/aesgcm"
)

type aeadCmd struct {
	common
	Op     string `enum:"seal,open" default:"seal" help:"seal or open."`
	Key    int    `enum:"128,256" default:"128" help:"Bits of the key: 128 or 256."`
	Sizes  []int  `default:"64,576,1420,8192" help:"Bytes of a packet."`
	Batch  int    `default:"64" help:"Packets in a call."`
	Rounds int    `default:"200" help:"Pairs of measurements."`
	Width  int    `default:"0" name:"registers" help:"Bits of the registers of tier avx2: 128 or 256. 0 is the best."`
	Peer   string `enum:"go" default:"go" help:"What to compare with: go."`
}

type aeadResult struct {
	Size      int     `json:"size"`
	NS        float64 `json:"ns"` // the median
	PeerNS    float64 `json:"peer_ns"`
	MinNS     float64 `json:"min_ns"`
	MinPeerNS float64 `json:"min_peer_ns"`
}

type aeadReport struct {
	Op        string       `json:"op"`
	Key       int          `json:"key"`
	Batch     int          `json:"batch"`
	Tier      string       `json:"tier"`
	Registers int          `json:"registers"` // bits
	Results   []aeadResult `json:"results"`
}

// Run measures ours and the peer in turn, so that what disturbs the machine
// disturbs both.
func (c *aeadCmd) Run() error {
	if err := c.setUp(); err != nil {
		return err
	}
	if err := errors.Join(within("batch", c.Batch, 1, 1<<14), within("rounds", c.Rounds, 1, 1<<20)); err != nil {
		return err
	}
	if c.Width != 0 {
		if err := aesgcm.ForceRegisters(c.Width); err != nil {
			return fmt.Errorf("--registers %d: %w", c.Width, err)
		}
	}
	report := aeadReport{Op: c.Op, Key: c.Key, Batch: c.Batch, Tier: aesgcm.Tier(), Registers: aesgcm.Registers()}
	rows := []string{fmt.Sprintf("%s, AES-%d, tier %s on %d bits, batches of %d: ns a packet, median (min)", c.Op, c.Key, report.Tier, report.Registers, c.Batch)}
	for _, size := range c.Sizes {
		if err := within("sizes", size, 0, 1<<20); err != nil {
			return err
		}
		r, err := c.measure(size)
		if err != nil {
			return err
		}
		report.Results = append(report.Results, r)
		rows = append(rows, fmt.Sprintf("%6d B  vita %8.1f (%.1f)  go %8.1f (%.1f)", size, r.NS, r.MinNS, r.PeerNS, r.MinPeerNS))
	}
	return c.print(report, rows...)
}

func (c *aeadCmd) measure(size int) (aeadResult, error) {
	raw := make([]byte, c.Key/8)
	key := new(aesgcm.Key)
	if err := key.Expand(raw); err != nil {
		return aeadResult{}, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return aeadResult{}, err
	}
	peer, err := cipher.NewGCM(block)
	if err != nil {
		return aeadResult{}, err
	}
	stride := size + aesgcm.TagSize + 64
	memory := make([]byte, c.Batch*stride)
	aad := make([]byte, 8)
	ops, sealed := make([]aesgcm.Op, c.Batch), make([][]byte, c.Batch)
	nonce := uint64(0)
	prepare := func() { // new nonces; what is opened must be sealed before
		for i := range ops {
			nonce++
			ops[i].Key, ops[i].AAD = key, aad
			ops[i].Buf = memory[i*stride : i*stride+size+aesgcm.TagSize]
			binary.LittleEndian.PutUint64(ops[i].Nonce[4:], nonce)
		}
	}
	restore := func() {
		for i := range ops {
			copy(ops[i].Buf, sealed[i])
		}
	}
	if c.Op == "open" {
		prepare()
		aesgcm.Seal(ops)
		for i := range ops {
			sealed[i] = slices.Clone(ops[i].Buf)
		}
	}
	ours := func() {
		if c.Op == "open" {
			aesgcm.Open(ops)
			return
		}
		prepare()
		aesgcm.Seal(ops)
	}
	failed := false
	theirs := func() {
		if c.Op == "open" {
			for i := range ops {
				_, err := peer.Open(ops[i].Buf[:0], ops[i].Nonce[:], ops[i].Buf, aad)
				failed = failed || err != nil
			}
			return
		}
		prepare()
		for i := range ops {
			peer.Seal(ops[i].Buf[:0], ops[i].Nonce[:], ops[i].Buf[:size], aad)
		}
	}
	// One call a measurement where it opens, since opening in place cannot be
	// repeated; else as many as make 20 µs.
	calls := 1
	if c.Op == "seal" {
		calls = max(1, 1000/c.Batch*64/(size+64))
	}
	var a, b []float64
	for range c.Rounds {
		for which, f := range []func(){ours, theirs} {
			if c.Op == "open" {
				restore()
			}
			start := time.Now()
			for range calls {
				f()
			}
			ns := float64(time.Since(start).Nanoseconds()) / float64(calls*c.Batch)
			if which == 0 {
				a = append(a, ns)
			} else {
				b = append(b, ns)
			}
		}
		for i := range ops {
			failed = failed || !ops[i].OK
		}
	}
	if failed {
		return aeadResult{}, fmt.Errorf("%d bytes: a packet was refused", size)
	}
	return aeadResult{Size: size, MinNS: slices.Min(a), MinPeerNS: slices.Min(b), NS: median(a), PeerNS: median(b)}, nil
}
