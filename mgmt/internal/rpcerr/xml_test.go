package rpcerr

import (
	"bytes"
	"slices"
	"testing"
)

func TestXPath(t *testing.T) {
	for _, c := range []struct {
		in, want string
		modules  []string
	}{
		{"/m:a", "/m:a", []string{"m"}},
		{"/m:a/b", "/m:a/m:b", []string{"m"}},
		{"/m:a[k='x/y:z[']/b", "/m:a[m:k='x/y:z[']/m:b", []string{"m"}},
		{`/m:a[k="it's"][l='2']/n:b/c`, `/m:a[m:k="it's"][m:l='2']/n:b/n:c`, []string{"m", "n"}},
		{"/m:a[.='v']", "/m:a[.='v']", []string{"m"}},
		{"/", "/", nil},
	} {
		got, modules := XPath(c.in)
		if got != c.want || !slices.Equal(modules, c.modules) {
			t.Errorf("XPath(%q) = %q, %v; want %q, %v", c.in, got, modules, c.want, c.modules)
		}
	}
}

func TestWritePathXML(t *testing.T) {
	var b bytes.Buffer
	WritePathXML(&b, "error-path", "", "/m:a[k='<']", func(m string) string { return "urn:" + m })
	const want = `<error-path xmlns:m="urn:m">/m:a[m:k=&#39;&lt;&#39;]</error-path>`
	if b.String() != want {
		t.Fatalf("%s\nwant %s", b.String(), want)
	}
}
