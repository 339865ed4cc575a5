package capture

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/mgmt/internal/rpcerr"
)

// Limits and defaults of a capture.
const (
	minSnap        = 32
	defaultPackets = 10_000
	maxPackets     = 10_000_000
	defaultSeconds = 60
	maxSeconds     = 3600
)

// options are what a client asks for.
type options struct {
	filter  tables.Capture
	packets uint64
	time    time.Duration
}

var readers = map[string]func(o *options, values []string) error{
	"point":       (*options).points,
	"family":      one((*options).family),
	"protocol":    one((*options).protocol),
	"source":      one(func(o *options, v string) error { return o.prefix(v, &o.filter.Src, &o.filter.SrcBits) }),
	"destination": one(func(o *options, v string) error { return o.prefix(v, &o.filter.Dst, &o.filter.DstBits) }),
	"spi":         one((*options).spi),
	"reason":      (*options).reasons,
	"snap": one(func(o *options, v string) error {
		n, err := number(v, minSnap, tables.CaptureData)
		o.filter.Snap = uint16(n)
		return err
	}),
	"packets": one(func(o *options, v string) (err error) {
		o.packets, err = number(v, 1, maxPackets)
		return err
	}),
	"seconds": one(func(o *options, v string) error {
		n, err := number(v, 1, maxSeconds)
		o.time = time.Duration(n) * time.Second
		return err
	}),
}

// order is that in which options are read: a prefix must agree with the family.
var order = []string{"point", "family", "protocol", "source", "destination", "spi", "reason", "snap", "packets", "seconds"}

// parse reads a client's options. Its errors name the option.
func parse(q url.Values) (*options, error) {
	for name := range q {
		if readers[name] == nil {
			return nil, invalid(name, "there is no such option: have %s", strings.Join(order, ", "))
		}
	}
	o := &options{packets: defaultPackets, time: defaultSeconds * time.Second}
	o.filter.Snap = tables.CaptureData
	if !q.Has("point") {
		return nil, invalid("point", "is missing: want one or more of %s", strings.Join(pointNames(), ", "))
	}
	for _, name := range order {
		if !q.Has(name) {
			continue
		}
		if err := readers[name](o, q[name]); err != nil {
			return nil, invalid(name, "%v", err)
		}
	}
	if q.Has("reason") && o.filter.Points>>tables.Dropped&1 == 0 {
		return nil, invalid("reason", "is for dropped packets: add the point dropped")
	}
	return o, nil
}

func invalid(option, format string, a ...any) error {
	return &rpcerr.Error{
		Type: rpcerr.Protocol, Tag: "invalid-value", BadElement: option,
		Message: "capture: option " + option + ": " + fmt.Sprintf(format, a...),
	}
}

// one makes a reader of a single value.
func one(read func(o *options, v string) error) func(o *options, values []string) error {
	return func(o *options, values []string) error {
		if len(values) != 1 {
			return fmt.Errorf("is given %d times, want once", len(values))
		}
		return read(o, values[0])
	}
}

func number(v string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q: want a number from %d to %d", v, least, most)
	}
	return n, nil
}

func pointNames() (all []string) {
	for p := range tables.Point(tables.NumPoints) {
		all = append(all, p.String())
	}
	return all
}

// list splits values that are lists with commas.
func list(values []string) []string {
	return strings.Split(strings.Join(values, ","), ",")
}

func (o *options) points(values []string) error {
	for _, v := range list(values) {
		p := slices.Index(pointNames(), v)
		if p < 0 {
			return fmt.Errorf("%q: want one or more of %s", v, strings.Join(pointNames(), ", "))
		}
		o.filter.Points |= 1 << p
	}
	return nil
}

func (o *options) family(v string) error {
	switch v {
	case "ipv4":
		o.filter.Family = 4
	case "ipv6":
		o.filter.Family = 6
	default:
		return fmt.Errorf("%q: want ipv4 or ipv6", v)
	}
	return nil
}

var protocols = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "esp": 50, "icmpv6": 58}

func (o *options) protocol(v string) error {
	p, ok := protocols[v]
	if !ok {
		n, err := strconv.ParseUint(v, 10, 8)
		if err != nil {
			return fmt.Errorf("%q: want icmp, icmpv6, tcp, udp, esp or a number from 0 to 255", v)
		}
		p = uint8(n)
	}
	o.filter.HasProto, o.filter.Proto = 1, p
	return nil
}

// prefix reads an address or a prefix.
func (o *options) prefix(v string, addr *[16]byte, bits *uint8) error {
	p, err := netip.ParsePrefix(v)
	if err != nil {
		a, aerr := netip.ParseAddr(v)
		if aerr != nil || a.Zone() != "" {
			return fmt.Errorf("%q: want an address or a prefix, for example 10.1.0.0/16", v)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	family := uint8(6)
	if p.Addr().Is4() {
		family = 4
	}
	if o.filter.Family != 0 && o.filter.Family != family {
		return fmt.Errorf("%q is of IPv%d, another option asks for IPv%d", v, family, o.filter.Family)
	}
	o.filter.Family = family
	p = p.Masked()
	copy(addr[:], p.Addr().AsSlice())
	*bits = uint8(p.Bits())
	return nil
}

func (o *options) spi(v string) error {
	n, err := strconv.ParseUint(v, 0, 64)
	if err != nil || n > math.MaxUint32 {
		return fmt.Errorf("%q: want a number from 0 to %d, or in hexadecimal after 0x", v, uint32(math.MaxUint32))
	}
	o.filter.HasSPI, o.filter.SPI = 1, uint32(n)
	return nil
}

func (o *options) reasons(values []string) error {
	for _, v := range list(values) {
		found := false
		for r := range drop.Reason(drop.NumReasons) {
			if r.String() == v {
				o.filter.Reasons[r>>6] |= 1 << (r & 63)
				found = true
			}
		}
		if !found {
			return fmt.Errorf("%q: there is no such reason: docs/drops.md lists them", v)
		}
	}
	return nil
}
