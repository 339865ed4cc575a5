package ctl

import (
	"bytes"
	"errors"
	"testing"

	"vita/forwarding/tables"
)

func TestMessagesAreTheirBytes(t *testing.T) {
	q := Request{
		Kind: InstallSA, ID: 7, Word: tables.Word(3, 1), Route: 5, SPI: 1 << 31, Queue: 2, Direction: tables.Outbound,
		KeyLen: 16, Salt: [4]byte{1, 2, 3, 4}, HardTTL: -1, MaxBytes: 1 << 63, Key: [32]byte{31: 9},
	}
	got, err := ParseRequest(bytes.Clone(q.Bytes()))
	if err != nil || got != q {
		t.Errorf("request %+v, %v, want %+v", got, err, q)
	}
	a := Reply{ID: 7, Code: NoInterface, Ref: 99}
	tables.SetText(a.Text[:], "no such interface")
	back, err := ParseReply(bytes.Clone(a.Bytes()))
	if err != nil || back != a {
		t.Errorf("reply %+v, %v, want %+v", back, err, a)
	}
	if len(q.Bytes()) > MaxSize || len(a.Bytes()) > MaxSize {
		t.Errorf("messages of %d and %d bytes, at most %d are read", len(q.Bytes()), len(a.Bytes()), MaxSize)
	}
}

func FuzzParse(f *testing.F) {
	f.Add((&Request{Kind: Hello}).Bytes())
	f.Add((&Reply{Code: OK}).Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseRequest(b)
		if (err == nil) != (len(b) == len(q.Bytes())) || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("request of %d bytes: %v", len(b), err)
		}
		a, err := ParseReply(b)
		if (err == nil) != (len(b) == len(a.Bytes())) || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("reply of %d bytes: %v", len(b), err)
		}
	})
}
