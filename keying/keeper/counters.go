package keeper

// counters are the leaves of gateway-state/key-manager.
type counters struct {
	rxErrors              uint64 // messages not accepted, for whatever reason
	routeErrors           uint64 // ... of no route, or from another address than its gateway's
	protocolErrors        uint64 // ... malformed, or unexpected
	rateErrors            uint64 // ... more than the limits allow
	versionErrors         uint64 // ... challenges of another version
	parameterErrors       uint64 // ... challenges with another AEAD
	authenticationErrors  uint64 // ... that the pre-shared key does not open
	publicKeyErrors       uint64 // ... with a public key that is none
	negotiationsInitiated uint64 // knocks sent
	negotiationsExpired   uint64 // exchanges of ours that were not answered in time
	challengesOffered     uint64 // challenges sent
	challengesAccepted    uint64 // challenges answered
	keypairsOffered       uint64 // public keys sent in proposals
	keypairsNegotiated    uint64 // exchanges complete, whoever initiated them
	inboundSAExpired      uint64
	outboundSAExpired     uint64
	outboundSAUpdated     uint64 // outbound SAs replaced since the peer has repeated an exchange
}

// Counters returns the counters by the names of the model's leaves.
func (k *Keeper) Counters() map[string]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := &k.counters
	return map[string]uint64{
		"rxerrors":               c.rxErrors,
		"route-errors":           c.routeErrors,
		"protocol-errors":        c.protocolErrors,
		"rate-errors":            c.rateErrors,
		"version-errors":         c.versionErrors,
		"parameter-errors":       c.parameterErrors,
		"authentication-errors":  c.authenticationErrors,
		"public-key-errors":      c.publicKeyErrors,
		"negotiations-initiated": c.negotiationsInitiated,
		"negotiations-expired":   c.negotiationsExpired,
		"challenges-offered":     c.challengesOffered,
		"challenges-accepted":    c.challengesAccepted,
		"keypairs-offered":       c.keypairsOffered,
		"keypairs-negotiated":    c.keypairsNegotiated,
		"inbound-sa-expired":     c.inboundSAExpired,
		"outbound-sa-expired":    c.outboundSAExpired,
		"outbound-sa-updated":    c.outboundSAUpdated,
	}
}
