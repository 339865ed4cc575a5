package drivers

// CountRx counts one received frame of at least six bytes.
func (s *Stats) CountRx(frame []byte) {
	s.RxDMAPackets++
	s.RxPackets++
	s.RxBytes += uint64(len(frame))
	if frame[0]&1 != 0 {
		s.countGroup(frame, &s.RxBcast, &s.RxMcast)
	}
}

// CountTx counts one sent frame of at least six bytes.
func (s *Stats) CountTx(frame []byte) {
	s.TxPackets++
	s.TxBytes += uint64(len(frame))
	if frame[0]&1 != 0 {
		s.countGroup(frame, &s.TxBcast, &s.TxMcast)
	}
}

// countGroup tells broadcast from multicast by the destination address.
func (s *Stats) countGroup(frame []byte, broadcast, multicast *uint64) {
	if frame[0]&frame[1]&frame[2]&frame[3]&frame[4]&frame[5] == 0xff {
		*broadcast++
	} else {
		*multicast++
	}
}
