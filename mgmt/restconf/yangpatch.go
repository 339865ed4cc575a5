package restconf

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"mime"
	"net/http"
	"strings"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
)

// YANG Patch (RFC 8072): edits in their order, all or none, in one request.

const (
	nsPatch        = "urn:ietf:params:xml:ns:yang:ietf-yang-patch"
	mediaPatchJSON = "application/yang-patch+json"
	mediaPatchXML  = "application/yang-patch+xml"
	maxPatchEdits  = 10000
)

// patchMedia says whether a PATCH is a YANG Patch.
func patchMedia(r *http.Request) (string, bool) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return media, err == nil && (media == mediaPatchJSON || media == mediaPatchXML)
}

// patch is a YANG Patch as it came, its values in one of the encodings.
type patch struct {
	id    string
	edits []patchEdit
}

type patchEdit struct {
	id, operation, target string
	point, where          string
	json                  []byte
	xml                   *xmltree.Element
	hasValue              bool
}

func badPatch(element, message string) error {
	return &rpcerr.Error{Type: "protocol", Tag: "invalid-value", BadElement: element, Message: "yang-patch: " + message}
}

func parsePatchJSON(body []byte) (p patch, err error) {
	var doc struct {
		Patch *struct {
			ID      string `json:"patch-id"`
			Comment string `json:"comment"`
			Edit    []struct {
				ID        string          `json:"edit-id"`
				Operation string          `json:"operation"`
				Target    string          `json:"target"`
				Point     string          `json:"point"`
				Where     string          `json:"where"`
				Value     json.RawMessage `json:"value"`
			} `json:"edit"`
		} `json:"ietf-yang-patch:yang-patch"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil || d.More() || doc.Patch == nil {
		return p, &rpcerr.Error{Type: "protocol", Tag: "malformed-message", Message: "body: want one ietf-yang-patch:yang-patch"}
	}
	p.id = doc.Patch.ID
	for _, e := range doc.Patch.Edit {
		p.edits = append(p.edits, patchEdit{
			id: e.ID, operation: e.Operation, target: e.Target, point: e.Point, where: e.Where, json: e.Value, hasValue: e.Value != nil,
		})
	}
	return p, nil
}

func parsePatchXML(x *xmltree.Element) (p patch, err error) {
	if x.Name != (xml.Name{Space: nsPatch, Local: "yang-patch"}) {
		return p, badPatch(x.Name.Local, "want <yang-patch> of module ietf-yang-patch")
	}
	for _, c := range x.Children {
		switch {
		case c.Name.Space != nsPatch:
			return p, badPatch(c.Name.Local, "<"+c.Name.Local+"> is in another namespace")
		case c.Name.Local == "patch-id":
			p.id = c.Text
		case c.Name.Local == "comment":
		case c.Name.Local == "edit":
			var e patchEdit
			for _, f := range c.Children {
				switch f.Name {
				case xml.Name{Space: nsPatch, Local: "edit-id"}:
					e.id = f.Text
				case xml.Name{Space: nsPatch, Local: "operation"}:
					e.operation = strings.TrimSpace(f.Text)
				case xml.Name{Space: nsPatch, Local: "target"}:
					e.target = strings.TrimSpace(f.Text)
				case xml.Name{Space: nsPatch, Local: "point"}:
					e.point = strings.TrimSpace(f.Text)
				case xml.Name{Space: nsPatch, Local: "where"}:
					e.where = strings.TrimSpace(f.Text)
				case xml.Name{Space: nsPatch, Local: "value"}:
					if len(f.Children) != 1 {
						return p, badPatch("value", "<value> holds the target and nothing else")
					}
					e.xml, e.hasValue = f.Children[0], true
				default:
					return p, badPatch(f.Name.Local, "<"+f.Name.Local+"> is unknown in <edit>")
				}
			}
			p.edits = append(p.edits, e)
		default:
			return p, badPatch(c.Name.Local, "<"+c.Name.Local+"> is unknown in <yang-patch>")
		}
	}
	return p, nil
}

var patchOps = map[string]edit.Op{
	"insert": edit.Create, "move": edit.None,
	"create": edit.Create, "delete": edit.Delete, "merge": edit.Merge, "replace": edit.Replace, "remove": edit.Remove,
}

// decode makes an edit of one of the patch's.
func (e *patchEdit) decode(base yangenc.Path) (*edit.Node, error) {
	op, ok := patchOps[e.operation]
	switch {
	case !ok:
		return nil, badPatch("operation", "operation \""+e.operation+"\" is unknown")
	case !strings.HasPrefix(e.target, "/"):
		return nil, badPatch("target", "target \""+e.target+"\" does not begin with /")
	}
	at, err := yangenc.ParseRESTCONF(strings.Trim(base.RESTCONF()+e.target, "/"))
	if err != nil {
		return nil, err
	}
	if (e.operation == "insert" || e.operation == "move") && !at.Schema().ByUser {
		return nil, badPatch("target", e.operation+": the target is in no list that users order")
	}
	if op == edit.Delete || op == edit.Remove {
		if e.hasValue || len(at) == 0 {
			return nil, badPatch("value", e.operation+" takes no value, and no whole datastore")
		}
		n := at.Delete()
		at.SetOp(n, op)
		return n, nil
	}
	if e.operation == "move" { // of what is there, as it is
		n := at.Edit()
		return n, e.insert(base, at, n)
	}
	if !e.hasValue {
		return nil, badPatch("value", e.operation+" needs a value")
	}
	var n *edit.Node
	if e.xml != nil {
		n, err = yangenc.DecodeResourceXML(e.xml, at)
	} else {
		n, err = yangenc.DecodeResourceJSON(e.json, at)
	}
	if err == nil {
		at.SetOp(n, op)
	}
	if err == nil && e.operation == "insert" {
		err = e.insert(base, at, n)
	}
	return n, err
}

// insert says where the target goes; where there is no word of it, to the end.
func (e *patchEdit) insert(base, at yangenc.Path, n *edit.Node) error {
	where, point := e.where, ""
	if where == "" {
		where = "last"
	}
	if where == "before" || where == "after" { // otherwise the point does not matter
		point = base.RESTCONF() + e.point
	}
	return at.Insert(n, where, point)
}

// yangPatch carries out a YANG Patch and answers with its status.
func (q *request) yangPatch(media string) error {
	body, err := q.body()
	if err != nil {
		return err
	}
	var p patch
	if media == mediaPatchJSON {
		p, err = parsePatchJSON(body)
	} else {
		var x *xmltree.Element
		if x, err = q.parseXML(body); err == nil {
			p, err = parsePatchXML(x)
		}
	}
	switch {
	case err != nil:
		return err
	case p.id == "":
		return badPatch("patch-id", "patch-id is missing")
	case len(p.edits) == 0 || len(p.edits) > maxPatchEdits:
		return badPatch("edit", "want 1 to 10000 edits")
	}
	seen := map[string]bool{}
	list := make([]*edit.Node, len(p.edits))
	for i := range p.edits {
		e := &p.edits[i]
		if e.id == "" || seen[e.id] {
			return badPatch("edit-id", "every edit needs an edit-id of its own")
		}
		seen[e.id] = true
		if list[i], err = e.decode(q.at); err != nil {
			return q.patchStatus(p.id, e.id, err)
		}
	}
	if err := q.edits(list, q.needed); err != nil {
		if _, ok := errors.AsType[*statusError](err); ok {
			return err
		}
		id := ""
		if which, ok := errors.AsType[*datastore.EditError](err); ok {
			id = p.edits[which.Index].id
		} else if len(p.edits) == 1 {
			id = p.edits[0].id
		}
		return q.patchStatus(p.id, id, err)
	}
	return q.patchStatus(p.id, "", nil)
}

// patchStatus answers with a yang-patch-status (RFC 8072 section 2.3): of an
// edit, or where none is at fault of the whole patch.
func (q *request) patchStatus(id, editID string, err error) error {
	code := http.StatusOK
	var many rpcerr.Errors
	if err != nil {
		many = all(err, 0)
		code = status(many[0])
		if errors.Is(err, yangenc.ErrNotFound) {
			code = http.StatusBadRequest
		}
	}
	var b bytes.Buffer
	if q.media == mediaXML {
		patchStatusXML(&b, id, editID, many)
	} else {
		s := map[string]any{"patch-id": id}
		switch {
		case many == nil:
			s["ok"] = []any{nil}
		case editID != "":
			s["edit-status"] = map[string]any{"edit": []any{map[string]any{
				"edit-id": editID, "errors": map[string]any{"error": errorList(many)},
			}}}
		default:
			s["errors"] = map[string]any{"error": errorList(many)}
		}
		if err := json.NewEncoder(&b).Encode(map[string]any{"ietf-yang-patch:yang-patch-status": s}); err != nil {
			return err
		}
	}
	q.w.Header().Set("Content-Type", q.media)
	q.w.WriteHeader(code)
	_, _ = q.w.Write(b.Bytes()) // the client may be gone
	return nil
}

func patchStatusXML(b *bytes.Buffer, id, editID string, many rpcerr.Errors) {
	element := func(name, value string) {
		b.WriteString("<" + name + ">")
		_ = xml.EscapeText(b, []byte(value)) // a bytes.Buffer takes every write
		b.WriteString("</" + name + ">")
	}
	b.WriteString(`<yang-patch-status xmlns="` + nsPatch + `">`)
	element("patch-id", id)
	switch {
	case many == nil:
		b.WriteString("<ok/>")
	case editID != "":
		b.WriteString("<edit-status><edit>")
		element("edit-id", editID)
		writeErrorsXML(b, nsPatch, many)
		b.WriteString("</edit></edit-status>")
	default:
		writeErrorsXML(b, nsPatch, many)
	}
	b.WriteString("</yang-patch-status>")
}
