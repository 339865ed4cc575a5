package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"vita/mgmt/internal/schema"
)

// Table is state as a table.
type Table struct {
	Name    string
	Columns []Column
	Rows    [][]string
}

// Column is one column of a table.
type Column struct {
	Name    string
	Key     bool // rows are told apart by it
	Number  bool
	Counter bool // it only grows, so that a rate says something
}

// view is a table that there is by name.
type view struct {
	name, help string
	make       func(ctx context.Context, c *Client) (Table, error)
}

// views are the tables by name, in the order in which all of them are printed.
var views = []view{
	{"interfaces", "packets and bytes of both sides", interfaces},
	{"devices", "drivers and links of the network interfaces", listed("port", "side queue", "name driver mtu device-queues zero-copy link-up resets fault")},
	{"routes", "routes with what they carry", routes},
	{"associations", "security associations", listed("security-association", "route queue direction spi", "active packets bytes age time-left")},
	{"neighbours", "stations that packets are handed to", listed("neighbour", "interface ip", "mac state age")},
	{"workers", "what the workers do", listed("worker", "queue", "busy idle waiting-messages")},
	{"drops", "packets dropped, by reason", listed("drop", "reason", "packets")},
	{"counters", "all counters of the gateway that are not zero", counters},
}

// Tables returns the names of the tables, with what each is about.
func Tables() (names, help []string) {
	for _, v := range views {
		names, help = append(names, v.name), append(help, v.help)
	}
	return names, help
}

// Table reads the table of a name.
func (c *Client) Table(ctx context.Context, name string) (Table, error) {
	i := slices.IndexFunc(views, func(v view) bool { return v.name == name })
	if i < 0 {
		names, _ := Tables()
		return Table{}, fmt.Errorf("there is no table %q: have %s, or name a path, as /gateway-state/drop", name, strings.Join(names, ", "))
	}
	t, err := views[i].make(ctx, c)
	t.Name = name
	return t, err
}

// fields reads parts of the data resource, named by RESTCONF's fields parameter.
func (c *Client) fields(ctx context.Context, content, fields string) (map[string]any, error) {
	q := "?fields=" + url.QueryEscape(fields)
	if content != "" {
		q += "&content=" + content
	}
	body, err := c.do(ctx, http.MethodGet, running+q, "", nil)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if body, err = unwrap(body); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	return m, nil
}

// get returns what is at a way of names in an answer, without regard to modules.
func get(v any, names ...string) any {
	for _, name := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = nil
		for k, inner := range m {
			if _, local, ok := strings.Cut(k, ":"); ok {
				k = local
			}
			if k == name {
				v = inner
			}
		}
	}
	return v
}

func entries(v any, names ...string) []any {
	list, _ := get(v, names...).([]any)
	return list
}

func text(v any, names ...string) string {
	switch v := get(v, names...).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

const gatewayState = "vita-esp-gateway:gateway-state"

// columnOf describes the column of a leaf.
func columnOf(list *schema.Node, name string, key bool) Column {
	col := Column{Name: name, Key: key}
	if n := named(list, name); n != nil && n.Type != nil {
		col.Number = n.Type.Base == schema.Uint || n.Type.Base == schema.Int
		col.Counter = strings.Contains(n.Type.Name, "counter")
	}
	return col
}

// listed returns a view of a list of gateway-state.
func listed(list, keys, leafs string) func(context.Context, *Client) (Table, error) {
	return func(ctx context.Context, c *Client) (Table, error) {
		n := named(named(schema.Root(), "gateway-state"), list)
		var t Table
		for name := range strings.FieldsSeq(keys) {
			t.Columns = append(t.Columns, columnOf(n, name, true))
		}
		for name := range strings.FieldsSeq(leafs) {
			t.Columns = append(t.Columns, columnOf(n, name, false))
		}
		names := make([]string, len(t.Columns))
		for i, col := range t.Columns {
			names[i] = col.Name
		}
		m, err := c.fields(ctx, "nonconfig", gatewayState+"/"+n.QName()+"("+strings.Join(names, ";")+")")
		if err != nil {
			return t, err
		}
		for _, e := range entries(m, "gateway-state", list) {
			row := make([]string, len(names))
			for i, name := range names {
				row[i] = text(e, name)
			}
			t.Rows = append(t.Rows, row)
		}
		t.sort()
		return t, nil
	}
}

// sort orders the rows by their keys.
func (t *Table) sort() {
	slices.SortStableFunc(t.Rows, func(a, b []string) int {
		for i, col := range t.Columns {
			if !col.Key {
				continue
			}
			if col.Number && len(a[i]) != len(b[i]) {
				return len(a[i]) - len(b[i])
			}
			if d := strings.Compare(a[i], b[i]); d != 0 {
				return d
			}
		}
		return 0
	})
}

// routes puts what is configured of each route beside what is counted of it.
func routes(ctx context.Context, c *Client) (Table, error) {
	t := Table{Columns: []Column{
		{Name: "id", Key: true},
		{Name: "net"},
		{Name: "spi", Number: true},
		{Name: "gateway"},
		{Name: "sent-packets", Number: true, Counter: true},
		{Name: "sent-bytes", Number: true, Counter: true},
		{Name: "received-packets", Number: true, Counter: true},
		{Name: "received-bytes", Number: true, Counter: true},
		{Name: "last-use", Number: true},
	}}
	of := "(id;net;spi;gateway/ip;vita-esp-gateway-ext:further-net/net)"
	m, err := c.fields(ctx, "", "vita-esp-gateway:route4"+of+";vita-esp-gateway:route6"+of+";"+gatewayState+"/vita-esp-gateway-ext:route(id;sent-packets;sent-bytes;received-packets;received-bytes;last-use)")
	if err != nil {
		return t, err
	}
	counted := map[string]any{}
	for _, e := range entries(m, "gateway-state", "route") {
		counted[text(e, "id")] = e
	}
	for _, e := range slices.Concat(entries(m, "route4"), entries(m, "route6")) {
		id := text(e, "id")
		row := []string{id, text(e, "net"), text(e, "spi"), ""}
		for _, n := range entries(e, "further-net") {
			row[1] += " " + text(n, "net")
		}
		var gateways []string
		for _, g := range entries(e, "gateway") {
			gateways = append(gateways, text(g, "ip"))
		}
		row[3] = strings.Join(gateways, " ")
		for _, col := range t.Columns[4:] {
			row = append(row, text(counted[id], col.Name))
		}
		t.Rows = append(t.Rows, row)
	}
	t.sort()
	return t, nil
}

func interfaces(ctx context.Context, c *Client) (Table, error) {
	leafs := []string{"rxpackets", "rxbytes", "rxdrop", "rxerrors", "txpackets", "txbytes", "txdrop", "txerrors"}
	t := Table{Columns: []Column{{Name: "side", Key: true}}}
	for _, name := range leafs {
		t.Columns = append(t.Columns, Column{Name: name, Number: true, Counter: true})
	}
	m, err := c.fields(ctx, "nonconfig", gatewayState+"(private-interface;public-interface)")
	if err != nil {
		return t, err
	}
	for _, side := range []string{"private", "public"} {
		row := []string{side}
		for _, name := range leafs {
			row = append(row, text(m, "gateway-state", side+"-interface", name))
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func counters(ctx context.Context, c *Client) (Table, error) {
	t := Table{Columns: []Column{{Name: "counter", Key: true}, {Name: "total", Number: true, Counter: true}}}
	lines, err := c.counters(ctx, false)
	if err != nil {
		return t, err
	}
	for _, l := range lines {
		name := strings.TrimPrefix(l.Path, "/gateway-state/")
		if at, err := parse(l.Path); err == nil && at.Schema().Type != nil && strings.Contains(at.Schema().Type.Name, "counter") && l.Value != "0" {
			t.Rows = append(t.Rows, []string{name, l.Value})
		}
	}
	return t, nil
}

// key tells a row from others.
func (t *Table) key(row []string) string {
	var b strings.Builder
	for i, col := range t.Columns {
		if col.Key {
			b.WriteString(row[i] + "\x00")
		}
	}
	return b.String()
}

// Write prints a table. With the one that was there some time ago, counters that
// have grown since have their rate beside them.
func (t *Table) Write(w io.Writer, before *Table, since time.Duration) {
	old := map[string][]string{}
	if before != nil {
		for _, row := range before.Rows {
			old[t.key(row)] = row
		}
	}
	cells := [][]string{nil}
	var number []bool
	for _, col := range t.Columns {
		cells[0] = append(cells[0], strings.ToUpper(col.Name))
		number = append(number, col.Number)
		if before != nil && col.Counter {
			cells[0] = append(cells[0], "/S")
			number = append(number, true)
		}
	}
	for _, row := range t.Rows {
		var out []string
		for i, col := range t.Columns {
			v := row[i]
			if v == "" {
				v = "-"
			}
			out = append(out, v)
			if before != nil && col.Counter {
				out = append(out, rate(row[i], old[t.key(row)], i, since))
			}
		}
		cells = append(cells, out)
	}
	align(w, cells, number)
}

// rate returns how fast a counter has grown.
func rate(now string, old []string, column int, since time.Duration) string {
	if old == nil || since <= 0 {
		return ""
	}
	a, errA := strconv.ParseUint(old[column], 10, 64)
	b, errB := strconv.ParseUint(now, 10, 64)
	if errA != nil || errB != nil || b < a {
		return ""
	}
	return strconv.FormatFloat(float64(b-a)/since.Seconds(), 'f', 0, 64)
}

// align writes cells in columns, numbers to the right.
func align(w io.Writer, cells [][]string, number []bool) {
	width := make([]int, len(number))
	for _, row := range cells {
		for i, c := range row {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, row := range cells {
		var b strings.Builder
		for i, c := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if number[i] {
				b.WriteString(pad + c)
			} else {
				b.WriteString(c + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// JSON returns a table as an array of objects, numbers as text.
func (t *Table) JSON() []byte {
	out := make([]map[string]string, 0, len(t.Rows))
	for _, row := range t.Rows {
		m := map[string]string{}
		for i, col := range t.Columns {
			if row[i] != "" {
				m[col.Name] = row[i]
			}
		}
		out = append(out, m)
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil { // maps of strings always marshal
		return nil
	}
	return append(b, '\n')
}

// Watch prints a table again and again, with rates.
func (c *Client) Watch(ctx context.Context, w io.Writer, name string, o TopOptions) error {
	before := &Table{}
	return o.repeat(ctx, w, func() (func(time.Duration), error) {
		t, err := c.Table(ctx, name)
		return func(since time.Duration) {
			t.Write(w, before, since)
			before = &t
		}, err
	})
}
