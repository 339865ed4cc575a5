package restconf

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/upgrade"
)

// Upgrades are what an appliance's upgrades are given to: *upgrade.Upgrader.
type Upgrades interface {
	Install(ctx context.Context, r io.Reader, o upgrade.Options) (version string, err error)
}

// uploadPause is how long a client may pause while it sends an upgrade.
const uploadPause = 2 * time.Minute

// upgrade takes an image from a client's request, as the operation of that name
// fetches one. It is no operation of RFC 8040, whose input is XML or JSON; rules
// treat it as that operation.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	if err := s.permitted(r, "vita-esp-gateway-ext", "upgrade", true); err != nil {
		writeError(w, r, 0, err)
		return
	}
	var o upgrade.Options
	for name, values := range r.URL.Query() {
		is := len(values) == 1 && values[0] == "true"
		if !is && (len(values) != 1 || values[0] != "false") {
			writeError(w, r, 0, badQuery("query: %s is true or false", name))
			return
		}
		switch name {
		case "downgrade":
			o.Downgrade = is
		case "restart":
			o.Restart = is
		default:
			writeError(w, r, 0, badQuery("query: no parameter %s", name))
			return
		}
	}
	user, _ := r.Context().Value(userKey{}).(string)
	s.o.Log.Info("upgrade begins", "user", user, "peer", r.RemoteAddr)
	// The whole has a limit by its size, its pieces by the time between them.
	c := http.NewResponseController(w)
	_ = c.SetWriteDeadline(time.Time{}) // HTTP/2 has no such deadline
	version, err := s.o.Upgrades.Install(r.Context(), &patient{r.Body, c}, o)
	_ = c.SetWriteDeadline(time.Now().Add(uploadPause))
	if err != nil {
		s.o.Log.Warn("upgrade refused", "user", user, "peer", r.RemoteAddr, "error", err)
		if !errors.As(err, new(*rpcerr.Error)) {
			err = &rpcerr.Error{Type: "application", Tag: "operation-failed", AppTag: "upgrade", Message: err.Error()}
		}
		writeError(w, r, 0, err)
		return
	}
	s.o.Log.Info("upgrade installed", "user", user, "peer", r.RemoteAddr, "version", version)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"version": version}) // a client that is gone is not told
}

// patient reads a body whose pieces may each take a while.
type patient struct {
	r io.Reader
	c *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(uploadPause)) // HTTP/2 has no such deadline
	return p.r.Read(b)
}
