package notify

import (
	"time"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/edit"
)

// Configuration tells a Hub what becomes of the configuration. It is a
// datastore's Events.
type Configuration struct{ Hub *Hub }

var _ datastore.Events = Configuration{}

func sessionOf(s *datastore.Session) Session {
	if s == nil {
		return Session{}
	}
	return Session{ID: s.ID, User: s.User, Peer: s.Peer}
}

// Changed implements datastore.Events.
func (c Configuration) Changed(by *datastore.Session, targets []edit.Target) {
	edits := make([]Edit, len(targets))
	for i, t := range targets {
		edits[i] = Edit{t.Path, t.Operation}
	}
	c.Hub.Publish(ConfigChange(sessionOf(by), string(datastore.Running), edits))
}

// Confirmed implements datastore.Events.
func (c Configuration) Confirmed(by *datastore.Session, event string, timeout time.Duration) {
	c.Hub.Publish(ConfirmedCommit(sessionOf(by), event, timeout))
}
