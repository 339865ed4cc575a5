package validate

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/yangenc"
)

// TestRandom makes random edits of a valid tree, several at a time: looking at
// what they touch says the same as looking at everything. Edits that break the
// model are taken back, by which the Checker must not be confused.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	tree := &gen.Vita{}
	c := New(tree)
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	edits := []func() (*edit.Node, error){
		func() (*edit.Node, error) {
			v := 4 + 2*(r.IntN(8)/7)
			return yangenc.DecodeJSON(fmt.Appendf(nil, `{%s,"vita-esp-gateway:route%d":[%s]}`, private(v), v,
				route(v, pick("r1", "r2", "r3"), 300+r.IntN(4), r.IntN(4), r.IntN(4), gateway(v, 1+r.IntN(3), pick("", `,"queue":2`)))), nil)
		},
		func() (*edit.Node, error) {
			return yangenc.DecodeJSON(fmt.Appendf(nil, `{"vita-esp-gateway:public-interface4":[%s]}`, public(4, pick("", `,"queue":2`))), nil)
		},
		func() (*edit.Node, error) {
			return yangenc.DecodeJSON(fmt.Appendf(nil, `{"vita-esp-gateway:%s-sa":[{"route":%q,"spi":%d,"queue":%d,"aead":%q,"key":%q,"salt":"00112233"}]}`,
				pick("inbound", "outbound"), pick("r1", "r2", "r3"), 400+r.IntN(3), 1+r.IntN(2), pick("aes-gcm-16-icv", "aes-gcm-16-icv", "none"), key), nil)
		},
		func() (*edit.Node, error) {
			return yangenc.DecodeJSON([]byte(pick(`{"vita-esp-gateway:data-plane":true}`, `{"vita-esp-gateway:data-plane":true}`, `{"vita-esp-gateway:data-plane":false}`,
				`{"vita-esp-gateway:sa-ttl":30}`, `{"vita-esp-gateway:negotiation-ttl":10}`, `{"vita-esp-gateway:negotiation-ttl":1}`)), nil)
		},
		func() (*edit.Node, error) {
			p, err := yangenc.ParseInstance(pick("/route4[id=r1]", "/route4[id=r2]", "/route4[id=r3]/spi", "/route4[id=r1]/gateway[ip=192.0.2.1]", "/route4[id=r2]/gateway",
				"/route4[id=r1]/gateway[ip=192.0.2.2]/queue", "/private-interface4", "/private-interface4/ifname", "/public-interface4", "/route4", "/route6", "/data-plane", "/sa-ttl",
				"/inbound-sa", "/outbound-sa", "/outbound-sa[spi=400]"))
			return p.Delete(), err
		},
	}
	valid, invalid := 0, 0
	for range 4000 {
		var j edit.Journal
		for range 1 + r.IntN(3) {
			e, err := edits[r.IntN(len(edits))]()
			if err != nil {
				t.Fatal(err)
			}
			one, err := edit.Apply(tree, e, edit.Merge)
			if err != nil {
				continue // a delete of what is not there
			}
			c.Touch(one)
			j = append(j, one...)
		}
		some, all := c.Check(j), Tree(tree)
		if text(some) != text(all) {
			t.Fatalf("what was touched:\n%v\neverything:\n%v", some, all)
		}
		if all == nil {
			valid++
			continue
		}
		invalid++
		j.Undo(tree)
		c.Touch(j)
		if again := Tree(tree); again != nil {
			t.Fatalf("taken back: %v", again)
		}
	}
	if valid < 200 || invalid < 200 {
		t.Errorf("%d valid edits and %d invalid ones: the test tests little", valid, invalid)
	}
}

func text(errs rpcerr.Errors) string {
	if errs == nil {
		return ""
	}
	return errs.Error()
}
