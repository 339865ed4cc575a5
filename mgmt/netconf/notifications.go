package netconf

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"time"

	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/notify"
	op "vita/mgmt/operational"
)

// Namespaces of RFC 5277: of the operation and the notification itself, and of
// what it says of the streams.
const (
	nsNotification = "urn:ietf:params:xml:ns:netconf:notification:1.0"
	nsStreams      = "urn:ietf:params:xml:ns:netmod:notification"
)

// subscribe begins to send events on the session (RFC 5277 section 2.1.1).
// Operations go on beside them (section 6).
func (n *session) subscribe(rpc *xmltree.Element) error {
	p, err := params(rpc, "stream", "filter", "startTime", "stopTime")
	if err != nil {
		return err
	}
	if s := p["stream"]; s != nil && strings.TrimSpace(s.Text) != notify.Stream {
		return &rpcerr.Error{
			Type: "application", Tag: "invalid-value", BadElement: "stream",
			Message: fmt.Sprintf("there is no stream %q: have %s", strings.TrimSpace(s.Text), notify.Stream),
		}
	}
	sel, err := filter(p["filter"])
	if err != nil {
		return err
	}
	start, stop, err := interval(p["startTime"], p["stopTime"])
	if err != nil {
		return err
	}
	if !n.subscribed.CompareAndSwap(false, true) {
		return &rpcerr.Error{Type: "application", Tag: "operation-failed", Message: "this session has a subscription: close it, or wait for its end"}
	}
	sub := n.server.o.Events.Subscribe(start, stop)
	n.after = func() { // the reply
		n.pumps.Go(func() {
			if err := n.pump(sub, sel); err != nil && !errors.Is(err, context.Canceled) {
				n.server.o.Log.Info("netconf notifications ended", "session", n.ds.ID, "error", err)
				_ = n.ch.Close() // what was sent may be a part of a message
			}
		})
	}
	return nil
}

// interval reads startTime and stopTime.
func interval(from, to *xmltree.Element) (start, stop time.Time, err error) {
	read := func(e *xmltree.Element) (t time.Time, err error) {
		if e == nil {
			return t, nil
		}
		if t, err = time.Parse(time.RFC3339Nano, strings.TrimSpace(e.Text)); err != nil {
			err = &rpcerr.Error{
				Type: "protocol", Tag: "bad-element", BadElement: e.Name.Local,
				Message: fmt.Sprintf("<%s> %q is no date and time, as in 2026-01-31T12:00:00Z", e.Name.Local, strings.TrimSpace(e.Text)),
			}
		}
		return t, err
	}
	if start, err = read(from); err != nil {
		return start, stop, err
	}
	if stop, err = read(to); err != nil {
		return start, stop, err
	}
	switch {
	case from == nil && to != nil:
		err = &rpcerr.Error{Type: "protocol", Tag: "missing-element", BadElement: "startTime", Message: "<stopTime> needs <startTime>"}
	case from != nil && start.After(time.Now()):
		err = &rpcerr.Error{Type: "protocol", Tag: "bad-element", BadElement: "startTime", Message: "<startTime> is in the future"}
	case to != nil && stop.Before(start):
		err = &rpcerr.Error{Type: "protocol", Tag: "bad-element", BadElement: "stopTime", Message: "<stopTime> is before <startTime>"}
	}
	return start, stop, err
}

// pump sends events until the subscription or the session ends.
func (n *session) pump(sub *notify.Subscription, sel selection) error {
	for {
		e, what, err := sub.Next(n.ctx)
		if err != nil {
			return err
		}
		var content bytes.Buffer
		switch what {
		case notify.ReplayComplete:
			fmt.Fprintf(&content, `<replayComplete xmlns="%s"/>`, nsStreams)
		case notify.Complete:
			fmt.Fprintf(&content, `<notificationComplete xmlns="%s"/>`, nsStreams)
			n.subscribed.Store(false) // who reads this may subscribe again
		case notify.Happened:
			readable := notify.Readable(n.access(), e.Content)
			if readable == nil {
				n.server.o.Datastore.Control().DeniedNotification()
				continue
			}
			picked := sel.event(readable)
			if picked == nil {
				continue
			}
			picked.WriteXML(&content)
		case notify.Lost:
			e.Content.WriteXML(&content)
		}
		var out bytes.Buffer
		fmt.Fprintf(&out, `<notification xmlns="%s"><eventTime>%s</eventTime>`, nsNotification, e.Time.UTC().Format(time.RFC3339Nano))
		out.Write(content.Bytes())
		out.WriteString("</notification>")
		if err := n.f.write(out.Bytes()); err != nil {
			return err
		}
		n.watch.Notified()
		if what == notify.Complete {
			return nil
		}
	}
}

// event returns what a filter lets through of an event, nil for nothing.
func (sel selection) event(e *op.Node) *op.Node {
	if sel.path != nil {
		if ok, err := notify.Matches(sel.path, e); err != nil || !ok {
			return nil
		}
		return e
	}
	return e.Select(sel.element)
}

var createSubscription = xml.Name{Space: nsNotification, Local: "create-subscription"}
