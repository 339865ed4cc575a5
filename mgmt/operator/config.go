package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
)

// Source says which data are read.
type Source int

// The sources.
const (
	Running   Source = iota // the configuration that is in force
	Candidate               // the one being edited
	State                   // what the gateway counts
)

// Get returns the data at a path ("" or "/": all) as the server's JSON, cut to
// the path's nearest resource, and as lines, cut to the path.
func (c *Client) Get(ctx context.Context, from Source, path string) ([]Line, []byte, error) {
	at, err := parse(path)
	if err != nil {
		return nil, nil, err
	}
	base, query := running, "?content=config"
	switch from {
	case Candidate:
		base, query = candidate, ""
	case State:
		query = "?content=nonconfig"
		if len(at) == 0 {
			if at, err = parse("/gateway-state"); err != nil {
				return nil, nil, err
			}
		}
	}
	// A list without keys is no resource: ask for what it is in.
	resource := at
	for len(resource) > 0 {
		last := resource[len(resource)-1]
		if last.Schema.Kind != schema.List || len(last.Keys) > 0 {
			break
		}
		resource = resource[:len(resource)-1]
	}
	target := base
	if len(resource) > 0 {
		target += "/" + resource.RESTCONF()
	}
	body, err := c.do(ctx, http.MethodGet, target+query, "", nil)
	if errors.Is(err, errAbsent) {
		return nil, []byte("{}"), nil
	}
	if err != nil {
		return nil, nil, err
	}
	all, err := flatten(resource, body)
	if err != nil {
		return nil, nil, err
	}
	want := display(at)
	var cut []Line
	for _, l := range all {
		if rest, ok := strings.CutPrefix(l.Path, want); ok && (rest == "" || rest[0] == '/' || rest[0] == '[' || want == "/") {
			cut = append(cut, l)
		}
	}
	return cut, body, nil
}

// flatten turns the answer for a resource into lines.
func flatten(resource yangenc.Path, body []byte) ([]Line, error) {
	if len(resource) == 0 {
		body, err := unwrap(body)
		if err != nil {
			return nil, err
		}
		return lines(schema.Root(), "", body)
	}
	// The answer's one member is the resource itself, seen from its parent.
	parent := schema.Root()
	if len(resource) > 1 {
		parent = resource[len(resource)-2].Schema
	}
	prefix := display(resource[:len(resource)-1])
	return lines(parent, strings.TrimSuffix(prefix, "/"), body)
}

// unwrap returns the members of the data resource.
func unwrap(body []byte) ([]byte, error) {
	var wrapped map[string]json.RawMessage
	if err := json.Unmarshal(body, &wrapped); err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	if data, ok := wrapped["ietf-restconf:data"]; ok {
		return data, nil
	}
	return body, nil
}

// parse reads a path as an operator writes it.
func parse(path string) (yangenc.Path, error) {
	if path == "" || path == "/" {
		return nil, nil
	}
	return yangenc.ParseInstance(path)
}

// display is the inverse of parse, in the form of the lines.
func display(p yangenc.Path) string {
	if len(p) == 0 {
		return "/"
	}
	var b strings.Builder
	for _, s := range p {
		b.WriteString("/" + s.Schema.Name)
		for i, k := range s.Keys {
			name := "." // a value of a leaf-list
			if s.Schema.Kind == schema.List {
				name = s.Schema.Keys[i].Name
			}
			fmt.Fprintf(&b, "[%s=%s]", name, k)
		}
	}
	return b.String()
}

// Set stages values in the candidate; pairs are paths and values in turn.
// Parents that are missing are made.
func (c *Client) Set(ctx context.Context, pairs ...string) error {
	if len(pairs)%2 != 0 {
		return errors.New("want pairs of PATH and VALUE")
	}
	root := &element{}
	for i := 0; i < len(pairs); i += 2 {
		at, err := parse(pairs[i])
		if err != nil {
			return err
		}
		if len(at) == 0 || !at[len(at)-1].Schema.HasValue() {
			return fmt.Errorf("%s is not a leaf: only leaves have values", pairs[i])
		}
		root.set(at, pairs[i+1])
	}
	var b bytes.Buffer
	root.document(&b)
	_, err := c.do(ctx, http.MethodPatch, candidate, mediaXML, b.Bytes())
	return err
}

// Delete stages the removal of a node.
func (c *Client) Delete(ctx context.Context, path string) error {
	at, err := parse(path)
	if err != nil {
		return err
	}
	if len(at) == 0 {
		return errors.New("the root cannot be deleted: name a node")
	}
	_, err = c.do(ctx, http.MethodDelete, candidate+"/"+at.RESTCONF(), "", nil)
	if errors.Is(err, errAbsent) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// Load stages a whole document, JSON or XML, as RESTCONF's data resource or
// NETCONF's <config> has it, or its members alone in JSON: merged into the
// candidate, or in its place.
func (c *Client) Load(ctx context.Context, document []byte, replace bool) error {
	media, document, err := wrap(document)
	if err != nil {
		return err
	}
	method := http.MethodPatch
	if replace {
		method = http.MethodPut
	}
	_, err = c.do(ctx, method, candidate, media, document)
	return err
}

// wrap makes a document one of RESTCONF's data resource.
func wrap(document []byte) (media string, _ []byte, err error) {
	document = bytes.TrimSpace(document)
	if bytes.HasPrefix(document, []byte("<")) {
		document, err = wrapXML(document)
		return mediaXML, document, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(document, &members); err != nil {
		return "", nil, fmt.Errorf("the file is neither XML nor a JSON object: %w", err)
	}
	if _, ok := members["ietf-restconf:data"]; !ok {
		document = slices.Concat([]byte(`{"ietf-restconf:data":`), document, []byte("}"))
	}
	return mediaJSON, document, nil
}

// wrapXML puts what is in a <config> of NETCONF into a <data>.
func wrapXML(document []byte) ([]byte, error) {
	d := xml.NewDecoder(bytes.NewReader(document))
	var root xml.StartElement
	for root.Name.Local == "" {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("the file is no XML: %w", err)
		}
		if e, ok := t.(xml.StartElement); ok {
			root = e
		}
	}
	end := bytes.LastIndex(document, []byte("</"))
	if root.Name != (xml.Name{Space: "urn:ietf:params:xml:ns:netconf:base:1.0", Local: "config"}) || end < int(d.InputOffset()) {
		return document, nil
	}
	var b bytes.Buffer
	b.WriteString(`<data xmlns="` + nsRESTCONF + `"`)
	for _, a := range root.Attr { // the prefixes that it declares may be in use
		if a.Name.Space == "xmlns" {
			b.WriteString(` xmlns:` + a.Name.Local + `="`)
			_ = xml.EscapeText(&b, []byte(a.Value)) // a bytes.Buffer takes every write
			b.WriteByte('"')
		}
	}
	b.WriteByte('>')
	b.Write(document[d.InputOffset():end])
	b.WriteString(`</data>`)
	return b.Bytes(), nil
}

const nsRESTCONF = "urn:ietf:params:xml:ns:yang:ietf-restconf"

// Commit puts the candidate in force.
func (c *Client) Commit(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/restconf/operations/ietf-netconf:commit", "", nil)
	return err
}

// Discard makes the candidate what is in force.
func (c *Client) Discard(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/restconf/operations/ietf-netconf:discard-changes", "", nil)
	return err
}

// Validate checks the candidate as a commit would.
func (c *Client) Validate(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/restconf/operations/ietf-netconf:validate", mediaJSON, []byte(`{"ietf-netconf:input":{"source":{"candidate":[null]}}}`))
	return err
}
