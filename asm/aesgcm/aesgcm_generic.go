package aesgcm

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
)

// The generic tier is the reference: one packet after the other through
// crypto/cipher.

// generic holds the ciphers of the generic tier, since a Key holds no pointer.
// Keys refer to them by place. Readers load the slice, writers replace it.
var generic struct {
	aeads atomic.Pointer[[]cipher.AEAD]
	lock  sync.Mutex
	free  []uint32
}

// place is where a Key's cipher is in generic. It stands where the other tiers
// have a power.
func (c *context) place() uint32     { return binary.LittleEndian.Uint32(c.powers[0][:]) }
func (c *context) setPlace(n uint32) { binary.LittleEndian.PutUint32(c.powers[0][:], n) }

func (c *context) expandGeneric(key []byte) error {
	b, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		return err
	}
	generic.lock.Lock()
	defer generic.lock.Unlock()
	var aeads []cipher.AEAD
	if p := generic.aeads.Load(); p != nil {
		aeads = *p
	}
	if n := len(generic.free); n > 0 {
		// Nobody reads a free place, so it can be filled without a copy.
		at := generic.free[n-1]
		c.setPlace(at)
		generic.free = generic.free[:n-1]
		aeads[at] = a
	} else {
		c.setPlace(uint32(len(aeads)))
		aeads = append(slices.Clip(aeads), a)
		aeads = slices.Grow(aeads, len(aeads))
		for i := len(aeads); i < cap(aeads); i++ {
			generic.free = append(generic.free, uint32(i))
		}
		aeads = aeads[:cap(aeads)]
		generic.aeads.Store(&aeads)
	}
	c.tier = genericTier
	return nil
}

func (c *context) releaseGeneric() {
	generic.lock.Lock()
	defer generic.lock.Unlock()
	(*generic.aeads.Load())[c.place()] = nil
	generic.free = append(generic.free, c.place())
}

func sealGeneric(ops []Op) {
	for i := range ops {
		o := &ops[i]
		if o.OK = o.usable(); !o.OK {
			continue
		}
		plain := o.Buf[:len(o.Buf)-TagSize]
		(*generic.aeads.Load())[o.Key.c.place()].Seal(plain[:0], o.Nonce[:], plain, o.AAD)
	}
}

func openGeneric(ops []Op) {
	for i := range ops {
		o := &ops[i]
		if o.OK = o.usable(); !o.OK {
			continue
		}
		_, err := (*generic.aeads.Load())[o.Key.c.place()].Open(o.Buf[:0], o.Nonce[:], o.Buf, o.AAD)
		o.OK = err == nil
	}
}
