package notify

import op "vita/mgmt/operational"

// Streams provides the list of event streams in both of its forms: that of
// NETCONF (RFC 5277, section 3.2.5.1) and that of RESTCONF (RFC 8040, section
// 9.3), with the capabilities of the RESTCONF server (section 9.1).
type Streams struct {
	Hub          *Hub
	Capabilities []string          // of the RESTCONF server
	Locations    map[string]string // of the stream, by encoding
}

const streamText = "All events of the gateway and of its management servers."

var (
	netconfStreams = op.Name{Module: "nc-notifications", Name: "netconf"}
	restconfState  = op.Name{Module: "ietf-restconf-monitoring", Name: "restconf-state"}
)

// Roots names what is provided.
func (Streams) Roots() []op.Name { return []op.Name{netconfStreams, restconfState} }

// Root returns one of the two.
func (s Streams) Root(n op.Name) *op.Node {
	created, aged := s.Hub.LogStart()
	log := []*op.Node{op.Time("replayLogCreationTime", created), nil}
	if !aged.IsZero() {
		log[1] = op.Time("replayLogAgedTime", aged)
	}
	yes := &op.Node{Name: "replaySupport", Kind: op.Leaf, Type: op.Bare, Value: "true"}
	if n == netconfStreams {
		return op.Top(n, op.Group("streams", op.ListEntry("stream", 1,
			append([]*op.Node{op.Text("name", Stream), op.Text("description", streamText), yes}, log...)...)))
	}
	support := *yes
	support.Name = "replay-support"
	stream := []*op.Node{
		op.Text("name", Stream), op.Text("description", streamText), &support,
		op.Time("replay-log-creation-time", created),
	}
	for _, encoding := range []string{"json", "xml"} {
		stream = append(stream, op.ListEntry("access", 1, op.Text("encoding", encoding), op.Text("location", s.Locations[encoding])))
	}
	return op.Top(n, op.Group("capabilities", op.Items("capability", s.Capabilities...)...),
		op.Group("streams", op.ListEntry("stream", 1, stream...)))
}
