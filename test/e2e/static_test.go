package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
)

// TestStaticAES256 sets keys for AES-256 by hand. The halves are not given out,
// and with another second half nothing comes through.
func TestStaticAES256(t *testing.T) {
	l := network(t)
	const ab, ba = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	static := func(s side, out, in, rest string) side {
		sa := func(list, spi, key string) string {
			return fmt.Sprintf(`"vita-esp-gateway:%s": [{"spi": %s, "route": "site", "aead": "aes-gcm-16-icv", "key": %q, "salt": "a0a1a2a3", "vita-esp-gateway-ext:key-rest": %q}]`, list, spi, key, rest)
		}
		spis := [2]string{"300", "301"}
		if s.public == lab.PubBIP {
			spis = [2]string{"301", "300"}
		}
		s.more += `, "vita-esp-gateway:data-plane": true, ` + sa("outbound-sa", spis[0], out) + ", " + sa("inbound-sa", spis[1], in)
		return s
	}
	rest := strings.Repeat("a1b2c3d4", 4)
	a, _ := twoGateways(t, l, static(sideA(), ab, ba, rest), static(sideB(), ba, ab, rest))
	waitForPing(t, l, 30*time.Second)
	if lost := ping(t, l, 20, 10*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	for _, from := range []string{"?content=config", "/vita-esp-gateway:outbound-sa=300,1"} {
		if answer := restconf(t, a, "200", "GET", from, ""); !strings.Contains(answer, `"spi":300`) || strings.Contains(answer, "key-rest") || strings.Contains(answer, rest) {
			t.Errorf("%s: %s", from, answer)
		}
	}
	restconf(t, a, "204", "PATCH", "", `{"ietf-restconf:data":{"vita-esp-gateway:outbound-sa":[{"spi":300,"queue":1,"vita-esp-gateway-ext:key-rest":"`+strings.Repeat("a1b2c3d5", 4)+`"}]}}`)
	time.Sleep(200 * time.Millisecond)
	if out := silence(t, l); out != "" {
		t.Errorf("packets come through with another key: %s", out)
	}
}
