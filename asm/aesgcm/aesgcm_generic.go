package aesgcm

import (
	"crypto/aes"
	"crypto/cipher"
)

// genericKey is the reference: one packet after the other through crypto/cipher.
type genericKey struct {
	aead cipher.AEAD
}

func (k *genericKey) expand(key []byte) error {
	b, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		return err
	}
	k.aead = a
	return nil
}

func sealGeneric(ops []Op) {
	for i := range ops {
		o := &ops[i]
		if o.OK = o.usable(); !o.OK {
			continue
		}
		plain := o.Buf[:len(o.Buf)-TagSize]
		o.Key.tier.aead.Seal(plain[:0], o.Nonce[:], plain, o.AAD)
	}
}

func openGeneric(ops []Op) {
	for i := range ops {
		o := &ops[i]
		if o.OK = o.usable(); !o.OK {
			continue
		}
		_, err := o.Key.tier.aead.Open(o.Buf[:0], o.Nonce[:], o.Buf, o.AAD)
		o.OK = err == nil
	}
}
