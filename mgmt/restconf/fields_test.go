package restconf

import "testing"

func TestFields(t *testing.T) {
	c := serve(t)
	c.want(204, "", "PATCH", "/restconf/data", private)
	c.want(201, "", "PUT", "/restconf/data/vita-esp-gateway:route4=site1", route("site1", "10.1.0.0/16", 1001, "01"))
	for _, q := range []struct{ path, want string }{
		{"/vita-esp-gateway:route4=site1?fields=spi", `{"vita-esp-gateway:route4":[{"id":"site1","spi":1001}]}`},
		{"/vita-esp-gateway:route4=site1?fields=spi%3Bgateway%2Fip", `{"vita-esp-gateway:route4":[{"id":"site1","spi":1001,"gateway":[{"ip":"203.0.113.9"}]}]}`},
		{"/vita-esp-gateway:route4=site1?fields=gateway(ip;queue);vita-esp-gateway:net", ``},
		{"/vita-esp-gateway:private-interface4?fields=ip", `{"vita-esp-gateway:private-interface4":{"ip":"10.0.0.1"}}`},
		{"?content=config&fields=vita-esp-gateway:private-interface4(ip;ifname)", `{"ietf-restconf:data":{"vita-esp-gateway:private-interface4":{"ifname":"eth0","ip":"10.0.0.1"}}}`},
		{"?content=config&fields=vita-esp-gateway:route4/gateway/ip", `{"ietf-restconf:data":{"vita-esp-gateway:route4":[{"id":"site1","gateway":[{"ip":"203.0.113.9"}]}]}}`},
		{"?fields=ietf-netconf-monitoring:netconf-state/datastores", `{"ietf-restconf:data":{"ietf-netconf-monitoring:netconf-state":{"datastores":{"datastore":[{"name":"candidate"},{"name":"running"}]}}}}`},
		{"/ietf-netconf-monitoring:netconf-state?fields=datastores(datastore/name)", `{"ietf-netconf-monitoring:netconf-state":{"datastores":{"datastore":[{"name":"candidate"},{"name":"running"}]}}}`},
		{"/vita-esp-gateway:route4=site1?fields=preshared-key", `{"vita-esp-gateway:route4":[{"id":"site1"}]}`},
	} {
		got := c.want(200, "", "GET", "/restconf/data"+q.path, "")
		if q.want != "" && got != q.want {
			t.Errorf("%s\n%s, want\n%s", q.path, got, q.want)
		}
	}
	for _, bad := range []string{"", "nothing", "spi/x", "gateway(ip", "gateway)", ";", "a:b", "gateway()", "%25zz"} {
		c.want(400, "invalid-value", "GET", "/restconf/data/vita-esp-gateway:route4=site1?fields="+bad, "")
	}
}
