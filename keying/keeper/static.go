package keeper

import (
	"vita/forwarding/client"

	"golang.org/x/crypto/blake2s"
)

// staticKey names an SA that the operator has configured.
type staticKey struct {
	queue     uint16
	spi       uint32
	direction client.Direction
}

type staticSA struct {
	sa        StaticSA
	direction client.Direction
	ref       client.SARef // 0: still to be installed
}

// configureStatic brings the static SAs to what is asked for. One that has not
// changed stays as it is: installed anew it would send sequence numbers, and so
// nonces, a second time.
func (k *Keeper) configureStatic(out, in []StaticSA) {
	wanted := map[staticKey]*staticSA{}
	for _, sa := range out {
		wanted[staticKey{sa.Queue, sa.SPI, client.Outbound}] = &staticSA{sa: sa, direction: client.Outbound}
	}
	for _, sa := range in {
		wanted[staticKey{sa.Queue, sa.SPI, client.Inbound}] = &staticSA{sa: sa, direction: client.Inbound}
	}
	for key, s := range k.statics {
		if w := wanted[key]; w != nil && w.sa == s.sa {
			continue
		}
		if s.ref != 0 {
			k.remove(s.ref)
		}
		delete(k.statics, key)
	}
	for key, w := range wanted {
		if k.statics[key] == nil {
			k.statics[key] = w
		}
	}
}

// installStatic installs the static SAs that the engine does not have yet.
func (k *Keeper) installStatic() {
	for _, s := range k.statics {
		if s.ref != 0 {
			continue
		}
		key := s.sa.key()
		ref, err := k.install(client.SA{Route: s.sa.Route, Queue: s.sa.Queue, Direction: s.direction, SPI: s.sa.SPI, Key: key, Salt: s.sa.Salt, Owner: s.owner()})
		clear(key)
		if err == nil && s.direction == client.Outbound {
			if err = k.engine.Activate(ref); err != nil {
				k.remove(ref)
			}
		}
		if err != nil {
			k.log.Warn("cannot install a static SA", "route", s.sa.Route, "queue", s.sa.Queue, "spi", s.sa.SPI, "error", err)
			continue
		}
		s.ref = ref
	}
}

func (s *staticSA) owner() uint64 {
	secret := append(s.sa.key(), s.sa.Salt[:]...)
	defer clear(secret)
	if len(secret) > blake2s.Size {
		sum := blake2s.Sum256(secret)
		return ownerOf(sum[:], s.sa.SPI)
	}
	return ownerOf(secret, s.sa.SPI)
}

// adoptStatic takes over a static SA of the running engine, if its key is the
// configured one.
func (k *Keeper) adoptStatic(sa *client.SAInfo) bool {
	s := k.statics[staticKey{sa.Queue, sa.SPI, sa.Direction}]
	if s == nil || s.ref != 0 || sa.Owner != s.owner() || sa.Expires != 0 || sa.Route != s.sa.Route || !sa.Active {
		return false
	}
	s.ref = sa.Ref
	return true
}
