package keeper

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"vita/forwarding/client"
	"vita/forwarding/tables"

	"golang.org/x/crypto/blake2s"
)

// Configure makes c the configuration. The engine must have the routes already.
//
// A route that is new, or whose SPI or key has changed, starts without SAs; one
// that is gone loses them. A changed address or negotiation-ttl begins its
// exchanges anew and leaves SAs alone. All other routes go on undisturbed. The
// first configuration takes over the SAs that the engine holds from before.
func (k *Keeper) Configure(c Config) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	if c.Port == 0 {
		c.Port = defaultPort
	}
	if c.NegotiationTTL == 0 {
		c.NegotiationTTL = defaultNegotiationTTL
	}
	if c.SATTL == 0 {
		c.SATTL = defaultSATTL
	}
	if c.SATTL <= 4*c.NegotiationTTL {
		k.log.Warn("sa-ttl should be more than four times negotiation-ttl, or packets are lost at each rekey", "sa-ttl", c.SATTL, "negotiation-ttl", c.NegotiationTTL)
	}
	old := k.c
	k.c = c
	k.c.Local = maps.Clone(c.Local)
	k.c.Routes = nil // the links have them
	k.configureLinks(&old, c.Routes)
	if c.DataPlane {
		k.configureStatic(c.Outbound, c.Inbound)
	} else {
		k.configureStatic(nil, nil)
	}
	k.c.Outbound, k.c.Inbound = nil, nil
	if !k.configured {
		k.configured = true
		k.takeOver(now)
	}
	if c.DataPlane {
		k.installStatic()
	}
	k.due()
}

// configureLinks brings the links to what the routes ask for.
func (k *Keeper) configureLinks(old *Config, routes []Route) {
	queues := slices.Sorted(maps.Keys(k.c.Local))
	if k.c.DataPlane {
		queues = nil
	}
	wanted := map[linkKey]*link{}
	var order []*link
	for _, r := range routes {
		r.Gateways = slices.Clone(r.Gateways)
		owner := ownerOf(r.PSK[:], r.SPI)
		for _, q := range queues {
			remote, ok := gateway(r.Gateways, q)
			if !ok {
				continue
			}
			l := &link{k: k, key: linkKey{r.ID, q}, route: r, owner: owner, local: k.c.Local[q], remote: remote, askAfter: silence * int64(k.c.NegotiationTTL)}
			for kind := range l.messages {
				l.messages[kind] = newBucket(linkRate)
			}
			wanted[l.key] = l
			order = append(order, l)
		}
	}
	for key, l := range k.links {
		if w := wanted[key]; w == nil || w.route.SPI != l.route.SPI || w.route.PSK != l.route.PSK {
			l.drop()
			delete(k.links, key)
		}
	}
	for i, w := range order {
		l := k.links[w.key]
		if l == nil {
			w.resetHandshake()
			k.links[w.key] = w
			k.timers.set(w, 0)
			continue
		}
		order[i] = l
		if l.local != w.local || l.remote != w.remote || k.c.NegotiationTTL != old.NegotiationTTL {
			l.local, l.remote = w.local, w.remote
			l.resetHandshake()
		}
		if k.c.SATTL != old.SATTL && l.active != nil {
			l.active.rekey = l.rekeyAt(l.active.created)
		}
		l.route.Gateways = w.route.Gateways
		k.timers.set(l, 0)
	}
	k.order = order
	k.index = map[peerKey]*link{}
	for _, l := range order {
		k.index[peerKey{l.key.queue, l.route.SPI, l.remote}] = l
	}
}

// gateway returns the remote end for a queue: the gateway of that queue, else
// that of the lowest.
func gateway(gws []tables.Gateway, queue uint16) (netip.Addr, bool) {
	best := -1
	for i, g := range gws {
		if g.Queue == queue {
			return g.IP, true
		}
		if best < 0 || g.Queue < gws[best].Queue {
			best = i
		}
	}
	if best < 0 {
		return netip.Addr{}, false
	}
	return gws[best].IP, true
}

// ownerOf says in a number what an SA depends on: its secret, and an SPI. By it
// a control process that starts on a running engine sees whether an SA there is
// of the configuration that it has, or of one that was changed while nobody was
// looking. A number of 64 bits tells nothing of a secret that the messages on
// the wire do not tell.
func ownerOf(secret []byte, spi uint32) uint64 {
	h, err := blake2s.New256(secret)
	if err != nil {
		panic("keeper: " + err.Error()) // only a key longer than 32 bytes makes one
	}
	h.Write(binary.BigEndian.AppendUint32([]byte("owner of an SA"), spi))
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// takeOver adopts the SAs that the engine has from a control process before
// this one, with their ages; so that a restart of that process costs no packet.
// What no route wants any more is removed, and so is an outbound SA that was
// waiting to be used: nobody knows whether the peer has it.
func (k *Keeper) takeOver(now int64) {
	taken := 0
	for _, sa := range k.engine.SAs() {
		if k.adopt(now, &sa) {
			taken++
		} else {
			k.remove(sa.Ref)
		}
	}
	for _, l := range k.order {
		slices.SortStableFunc(l.inbound, func(a, b *inbound) int { return int(a.created - b.created) })
		l.evict(now)
	}
	if taken > 0 {
		k.log.Info("SAs taken over from the running engine", "number", taken)
	}
}

func (k *Keeper) adopt(now int64, sa *client.SAInfo) bool {
	if k.c.DataPlane {
		return k.adoptStatic(sa)
	}
	l := k.links[linkKey{sa.Route, sa.Queue}]
	if l == nil || sa.Owner != l.owner || sa.Expires == 0 || now >= sa.Expires {
		return false
	}
	if sa.Direction == client.Inbound {
		l.inbound = append(l.inbound, &inbound{ref: sa.Ref, spi: sa.SPI, created: sa.Created, expires: sa.Expires})
		k.use(sa.Queue, sa.SPI)
		return true
	}
	if !sa.Active || l.active != nil {
		return false
	}
	l.active = &outbound{ref: sa.Ref, spi: sa.SPI, created: sa.Created, expires: sa.Expires, rekey: l.rekeyAt(sa.Created), certain: true}
	return true
}
