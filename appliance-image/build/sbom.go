package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The parts of SPDX 2.3 that a list of ingredients needs.
type spdx struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      spdxCreation   `json:"creationInfo"`
	Packages      []spdxPackage  `json:"packages"`
	Relationships []spdxRelation `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID        string         `json:"SPDXID"`
	Name      string         `json:"name"`
	Version   string         `json:"versionInfo"`
	Location  string         `json:"downloadLocation"`
	Analyzed  bool           `json:"filesAnalyzed"`
	Checksums []spdxChecksum `json:"checksums,omitempty"`
	Refs      []spdxRef      `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelation struct {
	From string `json:"spdxElementId"`
	Kind string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// sbom lists what is in an image: Debian's packages, and the Go modules that
// the programs say they are built from.
func sbom(version string, when time.Time, root [32]byte, pins []pin, programs []string) ([]byte, error) {
	const image = "SPDXRef-image"
	doc := spdx{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "vita-appliance-" + version,
		Namespace: fmt.Sprintf("https://spdx.org/spdxdocs/vita-appliance-%s-%x", version, root),
		Creation:  spdxCreation{when.UTC().Format(time.RFC3339), []string{"Tool: vita-appliance-image-build"}},
		Packages:  []spdxPackage{{ID: image, Name: "vita-appliance", Version: version, Location: "NOASSERTION"}},
		Relationships: []spdxRelation{
			{"SPDXRef-DOCUMENT", "DESCRIBES", image},
		},
	}
	add := func(p spdxPackage, kind, purl string) {
		p.ID = fmt.Sprintf("SPDXRef-%d", len(doc.Packages))
		p.Refs = []spdxRef{{"PACKAGE-MANAGER", "purl", purl}}
		doc.Packages = append(doc.Packages, p)
		from, to := image, p.ID
		if kind == "BUILD_TOOL_OF" {
			from, to = to, from
		}
		doc.Relationships = append(doc.Relationships, spdxRelation{from, kind, to})
	}
	for _, p := range pins {
		kind := "CONTAINS"
		if p.Use == "tool" {
			kind = "BUILD_TOOL_OF"
		}
		add(spdxPackage{Name: p.Name, Version: p.Version, Location: "NOASSERTION", Checksums: []spdxChecksum{{"SHA256", p.SHA256}}},
			kind, "pkg:deb/debian/"+p.Name+"@"+strings.ReplaceAll(p.Version, "+", "%2B")+"?arch=amd64&distro=bookworm")
	}
	goModules := make(map[string]string)
	for _, f := range programs {
		info, err := buildinfo.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		goModules["stdlib"] = strings.TrimPrefix(info.GoVersion, "go")
		for _, d := range info.Deps {
			goModules[d.Path] = d.Version
		}
	}
	var names []string
	for n := range goModules {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		add(spdxPackage{Name: n, Version: goModules[n], Location: "NOASSERTION"}, "CONTAINS", "pkg:golang/"+n+"@"+goModules[n])
	}
	b, err := json.MarshalIndent(doc, "", " ")
	return append(b, '\n'), err
}
