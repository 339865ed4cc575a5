// Package restconf serves the configuration datastore by RESTCONF (RFC 8040)
// over TLS 1.3, in JSON (RFC 7951) and XML.
//
// server.go listens, authenticates and routes, resource.go carries out the
// methods on data, errors.go answers with the errors resource, capture.go
// streams packet captures, which are none of RESTCONF's. The package
// decides nothing about data: paths, values, edits and validation are
// mgmt/datastore's; who may log in is mgmt/access'. It must not know
// forwarding or keying.
package restconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/waiting"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/monitor"
	"vita/mgmt/notify"
	"vita/mgmt/operation"
	op "vita/mgmt/operational"

	"github.com/gorilla/mux"
)

// Options shapes a Server. Datastore, Users and Certificate are required.
type Options struct {
	Datastore   *datastore.Datastore
	Users       *access.Users
	Certificate tls.Certificate
	ClientCA    *x509.CertPool   // whose certificates clients log in by; nil: by passwords alone
	Monitor     *monitor.Monitor // nil: one of the server's own
	Events      *notify.Hub      // nil: nothing is told
	Operations  *operation.Set   // beyond commit and discard; nil: none
	Captures    Captures         // nil: no packet captures
	Upgrades    Upgrades         // nil: none
	Log         *slog.Logger
	MaxBody     int64 // bytes of one request body; default 64 MiB
	MaxRequests int   // requests at once; default 64

	// MaxRate is how many requests a user may send in a second; default 1000. As
	// many more may come at once after some rest.
	MaxRate float64
}

// Server is a RESTCONF server. It serves until its context ends.
type Server struct {
	o     Options
	slots chan struct{}

	strangers *waiting.Room
	rates     *rates

	streaming chan struct{}
	running   sync.Map // *running: requests in work

	ending context.Context // the server shuts down
	end    context.CancelFunc
}

// maxStrangers bounds the connections whose clients have not logged in.
const maxStrangers = 128

// root is the path that host-meta leads to; below ownRoot is what RESTCONF has
// no resources for.
const (
	root    = "/restconf"
	ownRoot = "/vita"
)

// Media types of RFC 8040 section 11.3.
const (
	mediaJSON = "application/yang-data+json"
	mediaXML  = "application/yang-data+xml"
)

// New returns a server; Serve makes it listen.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Monitor == nil {
		o.Monitor = monitor.New(o.Datastore)
	}
	if o.Events == nil {
		o.Events = notify.New(0)
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 20
	}
	if o.MaxRequests == 0 {
		o.MaxRequests = 64
	}
	if o.MaxRate == 0 {
		o.MaxRate = 1000
	}
	s := &Server{rates: newRates(o.MaxRate, max(1, int(o.MaxRate))), o: o, slots: make(chan struct{}, o.MaxRequests+maxStreams), streaming: make(chan struct{}, maxStreams), strangers: waiting.NewRoom(maxStrangers)}
	s.ending, s.end = context.WithCancel(context.Background())
	return s
}

// bounded makes a server that gives no client more time or memory for a request
// than one needs. Of is what is known of a connection.
func (s *Server) bounded(of func(context.Context, net.Conn) context.Context) *http.Server {
	return &http.Server{
		Handler:           s.recovered(s.handler()),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		WriteTimeout:      5 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ConnContext:       of,
	}
}

// Serve accepts connections on ln until ctx ends, lets running requests end
// for a few seconds, and returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	h := s.bounded(func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	})
	h.ErrorLog = slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug) // TLS handshakes that fail
	h.TLSConfig = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{s.o.Certificate},
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if s.o.ClientCA != nil {
		// A certificate that does not hold ends the handshake.
		h.TLSConfig.ClientCAs, h.TLSConfig.ClientAuth = s.o.ClientCA, tls.VerifyClientCertIfGiven
	}
	s.o.Users.OnGone(s.expel)
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		s.end()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Shutdown(grace); err != nil {
			h.Close()
		}
	})
	err := h.ServeTLS(waiting.Listener{Listener: ln, Room: s.strangers}, "", "")
	if !stop() {
		<-done
		return nil
	}
	return fmt.Errorf("restconf: %w", err)
}

// recovered answers a request whose handler panics, and says so in the log: a
// defect of ours must neither be silent nor take the other sessions along.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // recover gives the value itself
				panic(p) // meant for net/http
			} else if p != nil {
				s.o.Log.Error("restconf request failed inside", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				writeError(w, r, http.StatusInternalServerError, errors.New("the server failed inside: see its log"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// handler routes the resources of RFC 8040 section 3.
func (s *Server) handler() http.Handler {
	r := mux.NewRouter().UseEncodedPath().SkipClean(true)
	// Discovery is public (RFC 8040 section 3.1): it tells the root's path.
	r.HandleFunc("/.well-known/host-meta", only(hostMeta, http.MethodGet, http.MethodHead))
	api := r.PathPrefix(root).Subrouter()
	api.Use(s.authenticate)
	api.HandleFunc("", only(s.api, http.MethodGet, http.MethodHead))
	api.HandleFunc("/", only(s.api, http.MethodGet, http.MethodHead))
	api.HandleFunc("/yang-library-version", only(s.libraryVersion, http.MethodGet, http.MethodHead))
	api.HandleFunc("/operations", only(s.operations, http.MethodGet, http.MethodHead))
	for operation, do := range rpcs {
		api.HandleFunc("/operations/"+operation, only(s.onOperation(operation, do), http.MethodPost))
	}
	api.HandleFunc("/operations/"+validateOperation, only(s.validate, http.MethodPost))
	for _, o := range s.o.Operations.All() {
		api.HandleFunc("/operations/"+o.Module+":"+o.Name, only(s.invoke(o), http.MethodPost))
	}
	for encoding, media := range map[string]string{"json": mediaJSON, "xml": mediaXML} {
		api.HandleFunc(strings.TrimPrefix(streamPath, root)+encoding, only(s.stream(media), http.MethodGet, http.MethodHead))
	}
	for prefix, store := range map[string]datastore.Name{
		"/data": datastore.Running, // edits are validated, forwarded and stored before the answer
		// RFC 8527 section 3.1: a datastore by its name.
		"/ds/ietf-datastores:running":   datastore.Running,
		"/ds/ietf-datastores:candidate": datastore.Candidate,
	} {
		api.HandleFunc(prefix, s.onData(prefix, store))
		api.HandleFunc(prefix+"/{path:.*}", s.onData(prefix, store))
	}
	own := r.PathPrefix(ownRoot).Subrouter()
	own.Use(s.authenticate)
	if s.o.Captures != nil {
		own.HandleFunc("/capture", only(s.capture, http.MethodGet))
	}
	if s.o.Upgrades != nil {
		own.HandleFunc("/upgrade", only(s.upgrade, http.MethodPost))
	}
	r.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, http.StatusNotFound, fmt.Errorf("no resource %s: have %s/data and %s/operations", r.URL.Path, root, root))
	})
	return r
}

// only lets through the methods that a resource has. (mux could match them,
// but then takes a wrong method for a wrong path.)
func only(h http.HandlerFunc, methods ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			writeError(w, r, http.StatusMethodNotAllowed, errMethod(r.Method))
			return
		}
		h(w, r)
	}
}

// Keys of what a request's context holds.
type (
	userKey struct{}
	connKey struct{} // the *tls.Conn

	localKey struct{} // true: it has come by the local socket
)

// who returns the user who sends a request: whom the client's certificate names
// (RFC 8040 section 2.5), and otherwise who has the password (RFC 7617). A client
// that gives both has to be the same user by both; none stands in for the other.
// With an error comes the name that was claimed.
func (s *Server) who(r *http.Request) (name string, err error) {
	if local(r) {
		return LocalUser, nil
	}
	certified := r.TLS != nil && len(r.TLS.VerifiedChains) > 0
	if certified {
		name, err = s.o.Users.OfCertificate(r.TLS.VerifiedChains, time.Now())
		if err != nil || r.Header["Authorization"] == nil {
			return name, err
		}
	}
	claimed, password, ok := r.BasicAuth()
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	switch {
	case err != nil:
		return claimed, err
	case certified && (!ok || claimed != name):
		return name, errors.New("the certificate is not of the user whom the request names")
	case !ok:
		return "", errNoLogin
	case !s.o.Users.AcceptsPassword(claimed, password, host):
		return claimed, errors.New("password not accepted")
	}
	return claimed, nil
}

var errNoLogin = errors.New("neither certificate nor password")

// authenticate lets through who has logged in, and bounds how many requests are
// in work; those that have yet to log in take no place from them.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := s.who(r)
		if err != nil {
			if !errors.Is(err, errNoLogin) { // as clients ask first, to learn what is wanted
				s.o.Log.Info("restconf log-in refused", "user", name, "peer", r.RemoteAddr, "reason", err)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="vita", charset="UTF-8"`)
			writeError(w, r, http.StatusUnauthorized, errUnauthorized)
			return
		}
		if c, ok := r.Context().Value(connKey{}).(*tls.Conn); ok {
			s.strangers.Leave(c.NetConn())
		}
		if !local(r) && !s.rates.allow(name) {
			w.Header().Set("Retry-After", "1")
			writeError(w, r, http.StatusTooManyRequests, errRate)
			return
		}
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			writeError(w, r, http.StatusServiceUnavailable, errors.New("too many requests at once"))
			return
		}
		ctx, end := context.WithCancel(context.WithValue(r.Context(), userKey{}, name))
		defer end()
		defer s.begin(name, end)()
		if !local(r) && !s.o.Users.Has(name) { // a commit has removed the user just now
			writeError(w, r, http.StatusUnauthorized, errUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// hostMeta leads to the API resource (RFC 8040 section 3.1, RFC 6415).
func hostMeta(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/xrd+xml")
	fmt.Fprintf(w, `<XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0"><Link rel="restconf" href="%s"/></XRD>`+"\n", root)
}

// api answers for the API resource (RFC 8040 section 3.3). The library is the
// one that describes the server's modules (section 3.3.3).
func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	answer(w, r,
		`{"ietf-restconf:restconf":{"data":{},"operations":{},"yang-library-version":"`+monitor.LibraryRevision+`"}}`,
		`<restconf xmlns="`+nsRESTCONF+`"><data/><operations/><yang-library-version>`+monitor.LibraryRevision+`</yang-library-version></restconf>`)
}

func (s *Server) libraryVersion(w http.ResponseWriter, r *http.Request) {
	answer(w, r,
		`{"ietf-restconf:yang-library-version":"`+monitor.LibraryRevision+`"}`,
		`<yang-library-version xmlns="`+nsRESTCONF+`">`+monitor.LibraryRevision+`</yang-library-version>`)
}

// rpcs are the operations by their resource's name: what NETCONF does with the
// candidate, for clients that edit it by way of its datastore resource.
var rpcs = map[string]func(*Server, *http.Request) error{
	"ietf-netconf:commit": func(s *Server, r *http.Request) error {
		return s.o.Datastore.Commit(r.Context(), session(r))
	},
	"ietf-netconf:discard-changes": func(s *Server, r *http.Request) error {
		return s.o.Datastore.Discard(session(r))
	},
}

// operations lists the operations (RFC 8040 section 3.3.2).
func (s *Server) operations(w http.ResponseWriter, r *http.Request) {
	var json, xml []string
	for _, name := range append(slices.Sorted(maps.Keys(rpcs)), validateOperation) {
		json = append(json, `"`+name+`":[null]`)
		_, local, _ := strings.Cut(name, ":")
		xml = append(xml, `<`+local+` xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"/>`)
	}
	for _, o := range s.o.Operations.All() {
		json = append(json, `"`+o.Module+":"+o.Name+`":[null]`)
		xml = append(xml, `<`+o.Name+` xmlns="`+schema.Namespace(o.Module)+`"/>`)
	}
	answer(w, r, `{"ietf-restconf:operations":{`+strings.Join(json, ",")+`}}`,
		`<operations xmlns="`+nsRESTCONF+`">`+strings.Join(xml, "")+`</operations>`)
}

// onOperation answers POST on an operation resource without input or output
// (RFC 8040 section 4.4.2).
func (s *Server) onOperation(name string, do func(*Server, *http.Request) error) http.HandlerFunc {
	module, local, _ := strings.Cut(name, ":")
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.permitted(r, module, local, false); err != nil {
			writeError(w, r, 0, err)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
		if err != nil {
			err = bodyError(err)
		} else if len(bytes.TrimSpace(body)) > 0 {
			err = &rpcerr.Error{Type: "protocol", Tag: "invalid-value", Message: "the operation takes no input"}
		}
		if err == nil {
			err = do(s, r)
		}
		if err != nil {
			writeError(w, r, 0, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// permitted says whether the user may invoke an operation (RFC 8341 section
// 3.4.4).
func (s *Server) permitted(r *http.Request, module, name string, denyAll bool) error {
	if s.o.Datastore.Access(session(r)).Operation(module, name, denyAll) {
		return nil
	}
	s.o.Datastore.Control().DeniedOperation()
	return &rpcerr.Error{
		Type: "protocol", Tag: "access-denied", Path: "/" + module + ":" + name,
		Message: "the operation " + name + " is denied by the rules for this user",
	}
}

// local says whether a request has come by the local socket.
func local(r *http.Request) bool {
	is, _ := r.Context().Value(localKey{}).(bool)
	return is
}

// invoke answers POST on the resource of an operation of the gateway's modules,
// with its input and output in JSON or XML (RFC 8040 section 4.4.2).
func (s *Server) invoke(o *schema.Operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := s.carryOut(w, r, o)
		if err != nil {
			writeError(w, r, 0, err)
			return
		}
		if out == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		var json, xml bytes.Buffer
		operation.WriteJSON(&json, o, out)
		fmt.Fprintf(&xml, `<output xmlns="%s">`, schema.Namespace(o.Module))
		operation.WriteXML(&xml, o, out)
		xml.WriteString("</output>")
		answer(w, r, json.String(), xml.String())
	}
}

func (s *Server) carryOut(w http.ResponseWriter, r *http.Request, o *schema.Operation) ([]*op.Node, error) {
	const most = 64 << 10
	if err := s.permitted(r, o.Module, o.Name, o.DenyAll); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return nil, bodyError(err)
	}
	var in operation.Input
	if media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); media == mediaXML && len(bytes.TrimSpace(body)) > 0 {
		e, err := xmltree.Parse(body, xmltree.Limits{Bytes: most, Depth: 8})
		if err != nil {
			return nil, &rpcerr.Error{Type: "protocol", Tag: "malformed-message", Message: err.Error()}
		}
		if e.Name.Local != "input" || e.Name.Space != schema.Namespace(o.Module) {
			return nil, badQuery("body: want <input xmlns=%q>", schema.Namespace(o.Module))
		}
		if in, err = operation.FromXML(o, e); err != nil {
			return nil, err
		}
	} else if in, err = operation.FromJSON(o, body); err != nil {
		return nil, err
	}
	return s.o.Operations.Do(r.Context(), o, session(r), in)
}

func answer(w http.ResponseWriter, r *http.Request, json, xml string) {
	media, err := accepted(r)
	if err != nil {
		writeError(w, r, http.StatusNotAcceptable, err)
		return
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-cache")
	body := json
	if media == mediaXML {
		body = xml
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body + "\n")) // the client may be gone
	}
}

// accepted picks the media type of an answer: the first of the client's list
// that we have, JSON where it does not mind.
func accepted(r *http.Request) (string, error) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" {
		return mediaJSON, nil
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, _ := strings.Cut(part, ";")
		if strings.Contains(strings.ReplaceAll(params, " ", ""), "q=0") && !strings.Contains(params, "0.") {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(media)) {
		case mediaJSON, "application/json", "*/*", "application/*":
			return mediaJSON, nil
		case mediaXML, "application/xml", "text/xml":
			return mediaXML, nil
		}
	}
	return "", fmt.Errorf("none of %q can be served: have %s and %s", accept, mediaJSON, mediaXML)
}
