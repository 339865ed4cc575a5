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

// Change makes some routes what they shall be, be they there or not, and others
// go; the rest of the configuration stays as it is. The engine must have the
// routes already. It does what Configure would, at a cost that follows from the
// routes named. A gateway with static SAs is not changed so.
func (k *Keeper) Change(set []Route, remove []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range remove {
		k.dropRoute(id, nil)
	}
	for _, r := range set {
		links := k.linksOf(r)
		k.dropRoute(r.ID, links)
		for _, l := range links {
			k.wanted(l, &k.c)
		}
	}
	k.due()
}

// dropRoute ends the links of a route that are none of links, or of another SPI
// or key.
func (k *Keeper) dropRoute(id string, links []*link) {
	for queue := range k.c.Local {
		l := k.links[linkKey{id, queue}]
		if l == nil || slices.ContainsFunc(links, func(w *link) bool { return w.key == l.key && w.same(l) }) {
			continue
		}
		l.drop()
		delete(k.links, l.key)
		if key := l.peerKey(); k.index[key] == l {
			delete(k.index, key)
		}
		last := k.order[len(k.order)-1]
		k.order[l.place], last.place = last, l.place
		k.order = k.order[:len(k.order)-1]
	}
}

// same reports whether SAs of one link are the other's as well.
func (l *link) same(o *link) bool { return l.spi == o.spi && l.psk == o.psk }

// peerKey returns what messages find a link by.
func (l *link) peerKey() peerKey { return peerKey{l.key.queue, l.spi, l.remote} }

// linksOf returns the links that a route asks for, new ones.
func (k *Keeper) linksOf(r Route) (links []*link) {
	if k.c.DataPlane {
		return nil
	}
	owner := ownerOf(r.PSK[:], r.SPI)
	for _, q := range slices.Sorted(maps.Keys(k.c.Local)) {
		remote, ok := gateway(r.Gateways, q)
		if !ok {
			continue
		}
		l := &link{k: k, key: linkKey{r.ID, q}, spi: r.SPI, psk: r.PSK, owner: owner, remote: remote, askAfter: silence * int64(k.c.NegotiationTTL)}
		links = append(links, l)
	}
	return links
}

// wanted enters a link, or makes the one that is there like it. It was there by the
// old configuration.
func (k *Keeper) wanted(w *link, old *Config) {
	if l := k.links[w.key]; l == nil {
		k.enter(w)
	} else {
		k.adapt(l, w, old)
	}
}

// enter enters a link that is not there yet.
func (k *Keeper) enter(w *link) {
	w.resetHandshake()
	w.place = int32(len(k.order))
	k.order = append(k.order, w)
	k.links[w.key] = w
	k.index[w.peerKey()] = w
	k.timers.set(w, 0)
}

// adapt makes a link, which was there by the old configuration, like w, which has the
// same key.
func (k *Keeper) adapt(l, w *link, old *Config) {
	if old.Local[l.key.queue] != k.c.Local[l.key.queue] || l.remote != w.remote || k.c.NegotiationTTL != old.NegotiationTTL {
		if key := l.peerKey(); k.index[key] == l {
			delete(k.index, key)
		}
		l.remote = w.remote
		l.resetHandshake()
		k.index[l.peerKey()] = l
	}
	if k.c.SATTL != old.SATTL && l.active != nil {
		l.active.rekey = l.rekeyAt(l.active.created)
	}
	k.timers.set(l, 0)
}

// configureLinks brings the links to what the routes ask for.
func (k *Keeper) configureLinks(old *Config, routes []Route) {
	wanted := make([]*link, 0, len(routes))
	for _, r := range routes {
		wanted = append(wanted, k.linksOf(r)...)
	}
	if len(k.links) == 0 {
		k.links = make(map[linkKey]*link, len(wanted))
	} else {
		k.dropOthers(wanted)
	}
	k.order, k.index = make([]*link, 0, len(wanted)), make(map[peerKey]*link, len(wanted))
	for _, w := range wanted {
		l := k.links[w.key]
		if l == nil {
			k.enter(w)
			continue
		}
		k.adapt(l, w, old)
		l.place = int32(len(k.order))
		k.order = append(k.order, l)
		k.index[l.peerKey()] = l
	}
}

// dropOthers ends the links that are not wanted, or with another SPI or key.
func (k *Keeper) dropOthers(wanted []*link) {
	by := make(map[linkKey]*link, len(wanted))
	for _, w := range wanted {
		by[w.key] = w
	}
	for key, l := range k.links {
		if w := by[key]; w == nil || !w.same(l) {
			l.drop()
			delete(k.links, key)
		}
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
