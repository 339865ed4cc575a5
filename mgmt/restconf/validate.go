package restconf

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strings"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
)

const (
	validateOperation = "ietf-netconf:validate"
	nsNETCONF         = "urn:ietf:params:xml:ns:netconf:base:1.0"
)

// validate answers POST on the resource of NETCONF's validate, for clients that
// edit the candidate by way of its datastore resource.
func (s *Server) validate(w http.ResponseWriter, r *http.Request) {
	err := s.permitted(r, "ietf-netconf", "validate", false)
	var name datastore.Name
	if err == nil {
		name, err = validated(w, r)
	}
	if err == nil {
		err = s.o.Datastore.Validate(r.Context(), session(r), name)
	}
	if err != nil {
		writeError(w, r, 0, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// validated reads which datastore is to be validated.
func validated(w http.ResponseWriter, r *http.Request) (datastore.Name, error) {
	const most = 4 << 10
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return "", bodyError(err)
	}
	source := "" // the name of the one member of source
	if media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); media == mediaXML {
		e, err := xmltree.Parse(body, xmltree.Limits{Bytes: most, Depth: 8})
		if err != nil {
			return "", &rpcerr.Error{Type: "protocol", Tag: "malformed-message", Message: err.Error()}
		}
		name := func(local string) xml.Name { return xml.Name{Space: nsNETCONF, Local: local} }
		if e.Name == name("input") && len(e.Children) == 1 && e.Children[0].Name == name("source") && len(e.Children[0].Children) == 1 {
			source = e.Children[0].Children[0].Name.Local
		}
	} else {
		var in struct {
			Input struct {
				Source map[string]json.RawMessage `json:"source"`
			} `json:"ietf-netconf:input"`
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			return "", &rpcerr.Error{Type: "protocol", Tag: "malformed-message", Message: "body: " + err.Error()}
		}
		for name := range in.Input.Source {
			if len(in.Input.Source) == 1 {
				source = name
			}
		}
	}
	switch source {
	case "running", "candidate":
		return datastore.Name(source), nil
	}
	return "", &rpcerr.Error{
		Type: "protocol", Tag: "invalid-value", BadElement: "source",
		Message: `want {"ietf-netconf:input": {"source": {"candidate": [null]}}}, or running`,
	}
}
