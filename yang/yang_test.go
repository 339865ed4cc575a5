package yang

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// TestManifest checks that the standard modules are the ones that the
// manifest names, byte for byte, and that none is missing on either side.
func TestManifest(t *testing.T) {
	text, err := os.ReadFile("ietf/MANIFEST")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 5 {
			t.Fatalf("manifest line %q: want name, revision, sha256, package, version", line)
		}
		file := f[0] + "@" + f[1] + ".yang"
		listed[file] = true
		module, err := FS.ReadFile("ietf/" + file)
		if err != nil {
			t.Error(err)
			continue
		}
		sum := sha256.Sum256(module)
		if got := hex.EncodeToString(sum[:]); got != f[2] {
			t.Errorf("%s: sha256 %s, the manifest says %s: standard modules are kept unmodified", file, got, f[2])
		}
		if !strings.Contains(string(module), "module "+f[0]+" ") {
			t.Errorf("%s does not hold module %s", file, f[0])
		}
		if !strings.Contains(string(module), f[1]) {
			t.Errorf("%s does not mention revision %s", file, f[1])
		}
	}
	files, err := fs.Glob(FS, "ietf/*.yang")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no standard modules embedded")
	}
	for _, file := range files {
		if !listed[path.Base(file)] {
			t.Errorf("%s is not in the manifest", file)
		}
	}
}

// TestYanglint has libyang, an independent implementation, read the model.
func TestYanglint(t *testing.T) {
	out, err := exec.Command("yanglint", "-p", "ietf", "-F", "ietf-system:"+strings.Join(Features["ietf-system"], ","), "ietf/ietf-system@2014-08-06.yang",
		"vita-esp-gateway.yang", "vita-esp-gateway-ext.yang", "vita-gateway-deviations.yang").CombinedOutput()
	if err != nil {
		t.Fatalf("yanglint (Debian package libyang2-tools): %v\n%s", err, out)
	}
	if len(out) > 0 {
		t.Errorf("yanglint warns:\n%s", out)
	}
}

// TestYanglintData has libyang check sample configurations: it must agree
// with the model's author about which are right.
func TestYanglintData(t *testing.T) {
	const complete = `"vita-esp-gateway:private-interface4":{"ifname":"eth0","ip":"192.168.10.1","nexthop-ip":"192.168.10.254"},
"vita-esp-gateway:public-interface4":[{"ip":"203.0.113.1","pci":"02:00.0","nexthop-ip":"203.0.113.254"}],
"vita-esp-gateway:route4":[{"id":"site_2","spi":1001,"net":"192.168.20.0/24",
"preshared-key":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","gateway":[{"ip":"203.0.113.2"}]}]`
	const sa = `{"route":"site_2","spi":1234,"queue":1,"aead":"aes-gcm-16-icv","key":"00112233445566778899aabbccddeeff","salt":"00112233"}`
	for _, c := range []struct {
		name, data, says string // says is "" for data that are right
	}{
		{"empty", `{}`, ""},
		{"complete", `{` + complete + `}`, ""},
		{"static keys", `{` + complete + `,"vita-esp-gateway:data-plane":true,"vita-esp-gateway:inbound-sa":[` + sa + `]}`, ""},
		{"keys without data-plane", `{` + complete + `,"vita-esp-gateway:inbound-sa":[` + sa + `]}`, "data-plane"},
		{"keys without route", `{"vita-esp-gateway:data-plane":true,"vita-esp-gateway:inbound-sa":[` + sa + `]}`, "route of that id"},
		{"short sa-ttl", `{"vita-esp-gateway:sa-ttl":20}`, "four times"},
		{"long negotiation-ttl", `{"vita-esp-gateway:negotiation-ttl":150}`, "four times"},
		{"other aead", `{` + complete + `,"vita-esp-gateway:data-plane":true,"vita-esp-gateway:inbound-sa":[` +
			strings.Replace(sa, "gcm-16", "gcm-12", 1) + `]}`, "only AEAD"},
		{"low spi", `{` + strings.Replace(complete, "1001", "255", 1) + `}`, "range"},
		{"no gateway", `{` + strings.Replace(complete, `,"gateway":[{"ip":"203.0.113.2"}]`, "", 1) + `}`, "few"},
		{"no link", `{` + strings.Replace(complete, `"ifname":"eth0",`, "", 1) + `}`, "link"},
		{"both families", `{` + complete + `,"vita-esp-gateway:route6":[]` + `,"vita-esp-gateway:private-interface6":{"ifname":"eth0","ip":"2001:db8::1","nexthop-ip":"2001:db8::2"}}`, "case"},
		{"route id", `{` + strings.Replace(complete, "site_2", "site-2", 1) + `}`, "pattern"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := path.Join(t.TempDir(), "data.json")
			if err := os.WriteFile(file, []byte(c.data), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("yanglint", "-p", "ietf", "-t", "config", "vita-esp-gateway.yang", file).CombinedOutput()
			switch {
			case c.says == "" && err != nil:
				t.Errorf("libyang refuses it: %s", out)
			case c.says != "" && err == nil:
				t.Error("libyang accepts it")
			case c.says != "" && !strings.Contains(string(out), c.says):
				t.Errorf("libyang refuses it for another reason than %q:\n%s", c.says, out)
			}
		})
	}
}

func TestSources(t *testing.T) {
	s := Sources()
	for _, name := range []string{
		Gateway + ".yang", "ietf-yang-types@2013-07-15.yang",
		"ietf-inet-types@2013-07-15.yang", "ietf-netconf-acm@2018-02-14.yang",
	} {
		if !strings.Contains(s[name], "\nmodule ") && !strings.HasPrefix(s[name], "module ") {
			t.Errorf("%s is missing or holds no module", name)
		}
	}
}
