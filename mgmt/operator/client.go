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

// Options name a gateway and who asks. Server and User are required.
type Options struct {
	Server   string // https://HOST[:PORT]
	CA       string // file with the certificate to trust; "" = the system's
	User     string
	Password string
}

// New returns a client; nothing is sent yet.
func New(o Options) (*Client, error) {
	if !strings.HasPrefix(o.Server, "https://") {
		return nil, fmt.Errorf("--server %s: want https://HOST[:PORT]", o.Server)
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
	return &Client{
		server: strings.TrimSuffix(o.Server, "/"), user: o.User, password: o.Password,
		http: &http.Client{
			Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true},
			Timeout:   2 * time.Minute,
		},
	}, nil
}

const (
	mediaJSON = "application/yang-data+json"
	mediaXML  = "application/yang-data+xml"
	candidate = "/restconf/ds/ietf-datastores:candidate"
	running   = "/restconf/data"
)

// errAbsent says that a resource does not exist.
var errAbsent = errors.New("there is no such node in the data")

// do sends one request and returns the answer's body.
func (c *Client) do(ctx context.Context, method, path, media string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.SetBasicAuth(c.user, c.password)
	r.Header.Set("Accept", mediaJSON)
	if body != nil {
		r.Header.Set("Content-Type", media)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, trust(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, errAbsent
	case resp.StatusCode >= 300:
		return nil, refusal(resp.Status, answer)
	}
	return answer, nil
}

// trust says what to do about a certificate that is not trusted.
func trust(err error) error {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return fmt.Errorf("%w: name the gateway's certificate, tls.crt in its state directory, by --ca", err)
	}
	return err
}

// refusal turns the errors resource (RFC 8040 section 7.1) into one error.
func refusal(status string, body []byte) error {
	var e struct {
		Errors struct {
			Error []struct {
				Tag     string `json:"error-tag"`
				Path    string `json:"error-path"`
				Message string `json:"error-message"`
			} `json:"error"`
		} `json:"ietf-restconf:errors"`
	}
	if json.Unmarshal(body, &e) != nil || len(e.Errors.Error) == 0 {
		return fmt.Errorf("server answers %s", status)
	}
	var all []string
	for _, one := range e.Errors.Error {
		text := one.Message
		if text == "" {
			text = one.Tag
		}
		if one.Path != "" {
			text = strings.ReplaceAll(one.Path, "vita-esp-gateway:", "") + ": " + text
		}
		all = append(all, text)
	}
	return errors.New(strings.Join(all, "\n"))
}
