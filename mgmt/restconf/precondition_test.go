package restconf

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// tagOf returns a resource's entity tag.
func (c *client) tagOf(path string, headers ...string) string {
	c.t.Helper()
	resp, body := c.do("GET", path, "", headers...)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("ETag") == "" || resp.Header.Get("Last-Modified") == "" {
		c.t.Fatalf("GET %s: %s %v %s", path, resp.Status, resp.Header, body)
	}
	return resp.Header.Get("ETag")
}

func TestEntityTags(t *testing.T) {
	c := serve(t)
	const site1, site2 = "/restconf/data/vita-esp-gateway:route4=site1", "/restconf/data/vita-esp-gateway:route4=site2"
	c.want(204, "", "PATCH", "/restconf/data", private)
	c.want(201, "", "PUT", site1, route("site1", "10.1.0.0/16", 1001, "01"))
	c.want(201, "", "PUT", site2, route("site2", "10.2.0.0/16", 1002, "02"))
	one, two, all := c.tagOf(site1), c.tagOf(site2), c.tagOf("/restconf/data")
	if one == two || one == c.tagOf(site1, "Accept: "+mediaXML) {
		t.Error("different representations have the same tag")
	}
	resp, _ := c.do("PUT", site2+"/spi", `{"vita-esp-gateway:spi":1022}`, "If-Match: "+two)
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("ETag") != c.tagOf(site2) {
		t.Errorf("PUT: %s, ETag %s", resp.Status, resp.Header.Get("ETag"))
	}
	if c.tagOf(site1) != one || c.tagOf(site2) == two || c.tagOf("/restconf/data") == all {
		t.Error("the tags of what changed, and no others, have to change")
	}
	gateway := c.tagOf(site2 + "/gateway=203.0.113.9")
	c.want(204, "", "PUT", site2+"/spi", `{"vita-esp-gateway:spi":1023}`)
	if c.tagOf(site2+"/gateway=203.0.113.9") != gateway {
		t.Error("a sibling's change concerns the gateway")
	}
	// Stale, in every method.
	for _, m := range []struct{ method, path, body string }{
		{"PUT", site2, route("site2", "10.2.0.0/16", 1002, "02")},
		{"PATCH", site2, `{"vita-esp-gateway:route4":[{"id":"site2","spi":1024}]}`},
		{"POST", site2, `{"vita-esp-gateway:gateway":[{"ip":"203.0.113.8"}]}`},
		{"DELETE", site2, ""},
	} {
		c.want(412, "If-Match", m.method, m.path, m.body, "If-Match: "+two)
		c.want(412, "If-Unmodified-Since", m.method, m.path, m.body, "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT")
		c.want(412, "If-None-Match", m.method, m.path, m.body, "If-None-Match: *")
	}
	c.want(200, "1023", "GET", site2+"/spi", "")
	c.want(412, "", "PUT", "/restconf/data/vita-esp-gateway:route4=none", route("none", "10.3.0.0/16", 1003, "03"), "If-Match: *")
	c.want(201, "", "PUT", "/restconf/data/vita-esp-gateway:route4=site3", route("site3", "10.3.0.0/16", 1003, "03"), "If-None-Match: *")
	c.want(204, "", "DELETE", "/restconf/data/vita-esp-gateway:route4=site3", "", `If-Match: "other", `+c.tagOf("/restconf/data/vita-esp-gateway:route4=site3"))
	c.want(204, "", "PUT", site2+"/spi", `{"vita-esp-gateway:spi":1025}`, "If-Unmodified-Since: "+time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
	c.want(204, "", "PUT", site2+"/spi", `{"vita-esp-gateway:spi":1026}`, "If-Unmodified-Since: yesterday")

	// Reading.
	c.want(304, "", "GET", site1, "", "If-None-Match: "+one)
	c.want(304, "", "HEAD", site1, "", "If-Modified-Since: "+time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
	c.want(200, "", "GET", site2, "", "If-None-Match: "+two)
	c.want(200, "", "GET", site1, "", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")
	c.want(200, "", "GET", "/restconf/data", "", "If-None-Match: "+c.tagOf("/restconf/data")) // counters change without a tag
	c.want(304, "", "GET", "/restconf/data?content=config", "", "If-None-Match: "+c.tagOf("/restconf/data"))

	// The candidate has tags of its own.
	const ds = "/restconf/ds/ietf-datastores:candidate"
	before := c.tagOf(ds)
	c.want(204, "", "PUT", ds+"/vita-esp-gateway:route4=site1/spi", `{"vita-esp-gateway:spi":1111}`, "If-Match: "+before)
	c.want(412, "", "PUT", ds+"/vita-esp-gateway:route4=site1/spi", `{"vita-esp-gateway:spi":1112}`, "If-Match: "+before)
	if c.tagOf(site1) != one {
		t.Error("an edit of candidate changes running's tag")
	}
}

// TestOneOfManyWins has many clients replace what they have all read: with a
// precondition one of them succeeds in each round.
func TestOneOfManyWins(t *testing.T) {
	c := serve(t)
	const in = "/restconf/data/vita-esp-gateway:mtu"
	c.want(201, "", "PUT", in, `{"vita-esp-gateway:mtu":1300}`)
	for round := range 5 {
		tag := c.tagOf(in)
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		for i := range 8 {
			wg.Go(func() {
				r, err := http.NewRequest(http.MethodPut, c.url+in, strings.NewReader(fmt.Sprintf(`{"vita-esp-gateway:mtu":%d}`, 1400+8*round+i)))
				if err != nil {
					t.Error(err)
					return
				}
				r.SetBasicAuth("admin", password)
				r.Header.Set("Content-Type", mediaJSON)
				r.Header.Set("If-Match", tag)
				resp, err := c.http.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				got[resp.StatusCode]++
			})
		}
		wg.Wait()
		if got[204] != 1 || got[412] != 7 {
			t.Fatalf("round %d: %v", round, got)
		}
	}
}
