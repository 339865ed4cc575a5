package state

import (
	"testing"

	"vita/forwarding/client"
	"vita/gen"
	"vita/mgmt/datastore"
)

func TestClearCounters(t *testing.T) {
	s := &source{sas: []client.SAInfo{{Queue: 1, SPI: 300, Direction: client.Inbound, DecryptErrors: 4, Packets: 9}}}
	s.n.Private.RxPackets, s.n.Public.TxBytes = 5, 600
	k := keys{"negotiations-initiated": 3}
	read, clearCounters := Clearable(Fill(s, k))
	check := func(rx, tx, initiated, decrypt, packets uint64) {
		t.Helper()
		root := &gen.Vita{}
		read(root, datastore.Everything)
		g := root.GatewayState
		if *g.PrivateInterface.Rxpackets != rx || *g.PublicInterface.Txbytes != tx || *g.KeyManager.NegotiationsInitiated != initiated {
			t.Errorf("%d %d %d", *g.PrivateInterface.Rxpackets, *g.PublicInterface.Txbytes, *g.KeyManager.NegotiationsInitiated)
		}
		for _, sa := range g.InboundSa {
			if *sa.SaState.DecryptErrors != decrypt {
				t.Errorf("decrypt-errors %d, want %d", *sa.SaState.DecryptErrors, decrypt)
			}
		}
		for _, sa := range g.SecurityAssociation {
			if *sa.Packets != packets {
				t.Errorf("packets %d, want %d", *sa.Packets, packets)
			}
		}
		if g.Port == nil {
			t.Error("what is no counter is gone")
		}
	}
	check(5, 600, 3, 4, 9)
	clearCounters()
	check(0, 0, 0, 0, 0)
	s.n.Private.RxPackets, s.n.Public.TxBytes = 7, 10 // the second of an engine that has begun anew
	s.sas[0].Packets++
	k["negotiations-initiated"] = 8
	check(2, 10, 5, 0, 1)
	s.n.Public.TxBytes = 700
	check(2, 700, 5, 0, 1)
	s.sas[0].SPI = 301 // another association
	check(2, 700, 5, 4, 10)
	clearCounters()
	check(0, 0, 0, 0, 0)
}
