// Package operator is what vitactl does: it reads and changes a gateway over
// RESTCONF with paths as operators write them, /route4[id=site1]/net, and
// prints what comes back a line a leaf.
//
// It knows the model's schema and nothing of the server's inside: whatever it
// does, any RESTCONF client can do.
package operator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Client talks to one gateway.
type Client struct {
	server, user, password string
	http                   *http.Client
}

// Options name a gateway and who asks. Server is required, and either a
// certificate or a user with a password, unless it is a socket.
type Options struct {
	Server   string // https://HOST[:PORT], or unix:FILE for the recovery socket
	CA       string // file with the certificate to trust; "" = the system's
	User     string
	Password string

	Cert, Key string        // files of a client's certificate and its key; "": none
	Timeout   time.Duration // of a request; 0: two minutes
}

// New returns a client; nothing is sent yet.
func New(o Options) (*Client, error) {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if socket, ok := strings.CutPrefix(o.Server, "unix:"); ok {
		return &Client{server: "http://gateway", http: &http.Client{Timeout: o.Timeout, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		}}}, nil
	}
	if !strings.HasPrefix(o.Server, "https://") {
		return nil, fmt.Errorf("--server %s: want https://HOST[:PORT], or unix:FILE for the gateway's recovery socket", o.Server)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s: no certificate in it", o.CA)
		}
	}
	if o.Cert != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert %s, --key %s: %w", o.Cert, o.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &Client{
		server: strings.TrimSuffix(o.Server, "/"), user: o.User, password: o.Password,
		http: &http.Client{
			Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true},
			Timeout:   o.Timeout,
		},
	}, nil
}

// authorize says who asks, where that is not in the certificate.
func (c *Client) authorize(r *http.Request) {
	if c.password != "" {
		r.SetBasicAuth(c.user, c.password)
	}
}

const (
	mediaJSON = "application/yang-data+json"
	mediaXML  = "application/yang-data+xml"
	candidate = "/restconf/ds/ietf-datastores:candidate"
	running   = "/restconf/data"
)

// errAbsent says that a resource does not exist.
var errAbsent = errors.New("there is no such node in the data")

// errStale says that a resource is not what it was any more.
var errStale = errors.New("somebody else has changed it meanwhile")

// do sends one request and returns the answer's body.
func (c *Client) do(ctx context.Context, method, path, media string, body []byte) ([]byte, error) {
	answer, _, err := c.ask(ctx, method, path, media, body, "")
	return answer, err
}

// ask is do with entity tags: match is the one that the resource has to have,
// "" for any, and the one that it has is returned.
func (c *Client) ask(ctx context.Context, method, path, media string, body []byte, match string) (answer []byte, tag string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	c.authorize(r)
	r.Header.Set("Accept", mediaJSON)
	if body != nil {
		r.Header.Set("Content-Type", media)
	}
	if match != "" {
		r.Header.Set("If-Match", match)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, "", trust(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, "", errAbsent
	case resp.StatusCode == http.StatusPreconditionFailed && match != "" && isStale(answer):
		return nil, "", errStale
	case resp.StatusCode >= 300:
		return nil, "", refusal(resp.Status, answer)
	}
	return answer, resp.Header.Get("ETag"), nil
}

// trust says what to do about a certificate that is not trusted.
func trust(err error) error {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return fmt.Errorf("%w: name the gateway's certificate, tls.crt in its state directory, by --ca", err)
	}
	return err
}

// Problem is one error that the gateway has answered with.
type Problem struct {
	Tag, Path, Message string // the path as an operator writes it; "" where there is none
}

// Refused are the errors for which the gateway has refused something.
type Refused []Problem

// Error returns a line for each error.
func (r Refused) Error() string {
	all := make([]string, len(r))
	for i, p := range r {
		all[i] = p.Message
		if p.Path != "" {
			all[i] = p.Path + ": " + p.Message
		}
	}
	return strings.Join(all, "\n")
}

type errorsJSON struct {
	Error []struct {
		Tag     string `json:"error-tag"`
		AppTag  string `json:"error-app-tag"`
		Path    string `json:"error-path"`
		Message string `json:"error-message"`
	} `json:"error"`
}

func (e errorsJSON) refused() error {
	var all Refused
	for _, one := range e.Error {
		p := Problem{one.Tag, plain(one.Path), one.Message}
		if p.Message == "" {
			p.Message = p.Tag
		}
		all = append(all, p)
	}
	return all
}

// plain makes an instance-identifier a path as an operator writes it, without
// the modules' names and the quotes.
func plain(path string) string {
	if at, err := parse(path); err == nil && len(at) > 0 {
		return display(at)
	}
	return path
}

// isStale says whether a refusal is that of a precondition.
func isStale(body []byte) bool {
	var e struct {
		Errors errorsJSON `json:"ietf-restconf:errors"`
	}
	return json.Unmarshal(body, &e) == nil && len(e.Errors.Error) == 1 && e.Errors.Error[0].Tag == "operation-failed" && e.Errors.Error[0].AppTag == ""
}

// refusal turns the errors resource (RFC 8040 section 7.1), or the status of a
// YANG Patch (RFC 8072), into one error.
func refusal(status string, body []byte) error {
	var e struct {
		Errors errorsJSON `json:"ietf-restconf:errors"`
		Patch  struct {
			Errors errorsJSON `json:"errors"`
			Status struct {
				Edit []struct {
					Errors errorsJSON `json:"errors"`
				} `json:"edit"`
			} `json:"edit-status"`
		} `json:"ietf-yang-patch:yang-patch-status"`
	}
	if json.Unmarshal(body, &e) == nil {
		all := append(e.Errors.Error, e.Patch.Errors.Error...)
		for _, one := range e.Patch.Status.Edit {
			all = append(all, one.Errors.Error...)
		}
		if len(all) > 0 {
			return errorsJSON{all}.refused()
		}
	}
	return fmt.Errorf("server answers %s", status)
}
