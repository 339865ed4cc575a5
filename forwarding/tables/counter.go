package tables

//go:generate go run gen.go

// Counter is one leaf of the model's gateway-state that workers count. The
// interfaces' statistics, the inbound SAs' and the key exchange's are kept
// elsewhere: by the ports, the SA entries and vitad.
type Counter uint16

// NoCounter stands for "the model has no counter for this".
const NoCounter Counter = 1<<16 - 1

type counterInfo struct{ path, doc string }

// Path returns the leaf's path in the model: "gateway-state/private-router/route-errors".
func (c Counter) Path() string {
	if int(c) >= len(counterList) {
		return ""
	}
	return counterList[c].path
}

// Doc returns one sentence on what is counted.
func (c Counter) Doc() string {
	if int(c) >= len(counterList) {
		return ""
	}
	return counterList[c].doc
}

// String returns the counter's path.
func (c Counter) String() string { return c.Path() }
