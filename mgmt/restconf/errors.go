package restconf

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// nsRESTCONF is the namespace of module ietf-restconf.
const nsRESTCONF = "urn:ietf:params:xml:ns:yang:ietf-restconf"

// statusError gives an error an HTTP status that its error-tag does not imply.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

var errUnauthorized = &rpcerr.Error{Type: "protocol", Tag: "access-denied", Message: "user name and password are needed, or are not accepted"}

var errRate = &rpcerr.Error{Type: "protocol", Tag: "resource-denied", Message: "this user sends too many requests: go on in a second, or send more in one request"}

func errMethod(m string) error {
	return &rpcerr.Error{Type: "protocol", Tag: "operation-not-supported", Message: fmt.Sprintf("method %s is not allowed on this resource", m)}
}

// status maps an error-tag to HTTP (RFC 8040 section 7).
func status(e *rpcerr.Error) int {
	switch e.Tag {
	case "in-use", "lock-denied", "resource-denied", "data-exists", "data-missing":
		return http.StatusConflict
	case "too-big":
		return http.StatusRequestEntityTooLarge
	case "access-denied":
		return http.StatusForbidden
	case "operation-not-supported":
		if e.Type == rpcerr.Application { // the data are at fault, not the method
			return http.StatusNotImplemented
		}
		return http.StatusMethodNotAllowed
	case "operation-failed":
		if e.AppTag != "" { // a constraint of the model, not the server, refused it
			return http.StatusPreconditionFailed
		}
		return http.StatusInternalServerError
	case "rollback-failed", "partial-operation":
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// all returns the errors within one, which without an error-tag takes it from
// the HTTP status.
func all(err error, code int) rpcerr.Errors {
	var many rpcerr.Errors
	var one *rpcerr.Error
	switch {
	case errors.As(err, &many) && len(many) > 0:
		return many.Bounded()
	case errors.As(err, &one):
		return rpcerr.Errors{one}.Bounded()
	}
	tag := "operation-failed"
	if code >= 400 && code < 500 {
		tag = "invalid-value"
	}
	return rpcerr.Errors{{Type: "protocol", Tag: tag, Message: err.Error()}}.Bounded()
}

// writeError answers with the errors resource (RFC 8040 section 7.1). code 0
// takes the status from the first error's tag.
func writeError(w http.ResponseWriter, r *http.Request, code int, err error) {
	many := all(err, code)
	if code == 0 {
		code = status(many[0])
	}
	media, aerr := accepted(r)
	if aerr != nil {
		media = mediaJSON
	}
	var body []byte
	if media == mediaXML {
		body = errorsXML(many)
	} else {
		body = errorsJSON(many)
	}
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-cache")
	h.Del("Content-Length")
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may be gone
	}
}

// The errors resource in JSON, as module ietf-restconf has it.
type errorJSON struct {
	Type    string         `json:"error-type"`
	Tag     string         `json:"error-tag"`
	AppTag  string         `json:"error-app-tag,omitempty"`
	Path    string         `json:"error-path,omitempty"`
	Message string         `json:"error-message,omitempty"`
	Info    map[string]any `json:"error-info,omitempty"`
}

func errorsJSON(many rpcerr.Errors) []byte {
	b, err := json.Marshal(map[string]any{"ietf-restconf:errors": map[string]any{"error": errorList(many)}})
	if err != nil { // strings and maps of strings always marshal
		return nil
	}
	return append(b, '\n')
}

func errorList(many rpcerr.Errors) []errorJSON {
	list := make([]errorJSON, len(many))
	for i, e := range many {
		info := map[string]any{}
		for k, v := range map[string]string{
			"bad-attribute": e.BadAttribute, "bad-element": e.BadElement,
			"bad-namespace": e.BadNamespace, "session-id": e.SessionID, "missing-choice": e.MissingChoice,
		} {
			if v != "" {
				info[k] = v
			}
		}
		if len(e.NonUnique) > 0 {
			info["non-unique"] = e.NonUnique
		}
		list[i] = errorJSON{errorType(e), e.Tag, e.AppTag, e.Path, e.Message, info}
	}
	return list
}

func errorType(e *rpcerr.Error) string {
	if e.Type == "" {
		return "application"
	}
	return e.Type
}

func errorsXML(many rpcerr.Errors) []byte {
	var b bytes.Buffer
	writeErrorsXML(&b, nsRESTCONF, many)
	b.WriteByte('\n')
	return b.Bytes()
}

// writeErrorsXML writes an <errors> of a module that has it.
func writeErrorsXML(b *bytes.Buffer, ns string, many rpcerr.Errors) {
	element := func(name, value string) {
		if value == "" {
			return
		}
		fmt.Fprintf(b, "<%s>", name)
		_ = xml.EscapeText(b, []byte(value)) // a bytes.Buffer takes every write
		fmt.Fprintf(b, "</%s>", name)
	}
	fmt.Fprintf(b, `<errors xmlns="%s">`, ns)
	for _, e := range many {
		b.WriteString("<error>")
		element("error-type", errorType(e))
		element("error-tag", e.Tag)
		element("error-app-tag", e.AppTag)
		if e.Path != "" {
			rpcerr.WritePathXML(b, "error-path", "", e.Path, schema.Namespace)
		}
		element("error-message", e.Message)
		e.WriteInfoXML(b, schema.Namespace)
		b.WriteString("</error>")
	}
	b.WriteString("</errors>")
}
