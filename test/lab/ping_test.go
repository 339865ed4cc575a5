package lab

import "testing"

func TestAnswers(t *testing.T) {
	const out = `PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.
64 bytes from 10.0.0.2: icmp_seq=2 ttl=62 time=0.138 ms
64 bytes from 10.0.0.2: icmp_seq=1 ttl=62 time=11.0 ms
64 bytes from 10.0.0.2: icmp_seq=1 ttl=62 time=11.1 ms (DUP!)
From 10.0.0.1 icmp_seq=3 Time to live exceeded
1008 bytes from 2001:db8::1: icmp_seq=4 ttl=62 time=0.045 ms
64 bytes from 10.0.0.2: icmp_seq=5 ttl=62 time=0.045 ms

--- 10.0.0.2 ping statistics ---
5 packets transmitted, 4 received, +1 duplicates, 20% packet loss, time 206ms
`
	if n := answers(out, 4); n != 3 {
		t.Errorf("%d of 4, want 3", n)
	}
	if n := answers("", 4); n != 0 || summary.MatchString("") {
		t.Errorf("%d of nothing", n)
	}
}
