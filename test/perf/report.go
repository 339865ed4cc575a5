package main

import (
	"fmt"
	"html"
	"os"
	"slices"
	"strings"
)

// field is the median of a field over a step's results, least its minimum.
func (s *step) field(name string) float64 { return median(s.values(name)) }

func (s *step) least(name string) float64 {
	if v := s.values(name); len(v) > 0 {
		return slices.Min(v)
	}
	return 0
}

func (s *step) values(name string) []float64 {
	var v []float64
	for _, r := range s.Results {
		v = append(v, number(r, name))
	}
	return v
}

// of are the steps of a group that have a result.
func (r *run) of(group string) []*step {
	var out []*step
	for _, s := range r.Steps {
		if s.Group == group && len(s.Results) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// tables writes what was measured in Markdown.
func (r *run) tables() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Measured %s\n%s; %s; processor %d; load before %s, after %s\n", r.Started, r.Machine, r.Go, r.CPU, r.Load[0], r.Load[1])
	table := func(group, title string, columns []string, row func(s *step) []string) {
		steps := r.of(group)
		if len(steps) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n| | %s |\n|%s\n", title, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)+1))
		for _, s := range steps {
			fmt.Fprintf(&b, "| %s | %s |\n", s.Name, strings.Join(row(s), " | "))
		}
	}
	f := func(decimals int, v ...float64) []string {
		out := make([]string, len(v))
		for i := range v {
			out[i] = fmt.Sprintf("%.*f", decimals, v[i])
		}
		return out
	}
	table("softbench", "The whole plane, medians of the rounds", []string{"ns a packet", "CPU ns", "least ns", "Mpps", "Gbit/s", "tier"}, func(s *step) []string {
		tier, _ := s.Results[0]["tier"].(string)
		return append(f(1, s.field("ns_per_packet"), s.field("cpu_ns_per_packet"), s.least("min_ns_per_packet"), s.field("mpps"), s.field("gbps")), tier)
	})
	table("aead", "AES-GCM, ns a packet, median (least), Go's own", []string{"64 B", "576 B", "1420 B", "8192 B"}, func(s *step) []string {
		var cells []string
		rows, _ := s.Results[0]["results"].([]any)
		for _, row := range rows {
			m, _ := row.(map[string]any)
			cells = append(cells, fmt.Sprintf("%.1f (%.1f), %.1f", number(m, "ns"), number(m, "min_ns"), number(m, "peer_ns")))
		}
		return cells
	})
	if len(r.Peers) > 0 {
		b.WriteString("\n## Seal beside ipsec-mb, in turn, ns a packet, median (least)\n| key | bytes | ours | ipsec-mb | called | ratio of medians | of the least |\n|---|---|---|---|---|---|---|\n")
		for _, p := range r.Peers {
			fmt.Fprintf(&b, "| %d | %d | %.1f (%.1f) | %.1f (%.1f) | %s | %.2f | %.2f |\n", p.Key, p.Size, p.Ours, p.OursMin, p.IPsecMB, p.IPsecMBMin, p.Way, p.Ratio, p.RatioMin)
		}
	}
	table("lpm", "Longest-prefix match", []string{"ns a lookup", "best", "bart ns", "build ms", "update µs", "MB"}, func(s *step) []string {
		return f(1, s.field("ns_per_lookup"), s.field("min_ns_per_lookup"), s.field("bart_ns_per_lookup"), s.field("build_ms"), s.field("update_us"), s.field("bytes")/1e6)
	})
	for _, s := range r.of("gap") {
		fmt.Fprintf(&b, "\n## Without a poll, µs: %.0f routes, %.0f commits of %.0f ms\n| | p50 | p99 | p99.99 | p99.9999 | longest | polls |\n|---|---|---|---|---|---|---|\n",
			s.field("routes"), s.field("commits"), s.field("commit_ms"))
		for _, who := range []struct{ name, prefix string }{{"worker", ""}, {"floor", "floor_"}} {
			cells := []string{}
			for _, name := range []string{"p50_us", "p99_us", "p9999_us", "p999999_us", "max_us"} {
				cells = append(cells, f(1, s.field(who.prefix+name))...)
			}
			fmt.Fprintf(&b, "| %s | %s | %.0f |\n", who.name, strings.Join(cells, " | "), s.field(who.prefix+"polls"))
		}
	}
	table("commit", "Management", []string{"commit ms (p95)", "PUT ms", "subtree ms", "XPath ms", "get all MB/s", "load s", "sessions/s", "CPU ms", "RSS MB"}, func(s *step) []string {
		spread := func(name, part string) float64 {
			m, _ := s.Results[0][name].(map[string]any)
			return number(m, part)
		}
		cells := []string{fmt.Sprintf("%.2f (%.2f)", spread("netconf_commit_ms", "median"), spread("netconf_commit_ms", "p95"))}
		cells = append(cells, f(2, spread("restconf_put_ms", "median"), spread("get_one_subtree_ms", "median"), spread("get_one_xpath_ms", "median"))...)
		return append(cells, f(1, s.field("get_all_mb_s"), s.field("load_s"), s.field("sessions_per_s"), s.field("cpu_ms_per_commit"), s.field("rss_mb"))...)
	})
	if len(r.Missing) > 0 {
		b.WriteString("\n## Not measured\n")
		for _, m := range r.Missing {
			fmt.Fprintf(&b, "- %s\n", m)
		}
	}
	return b.String()
}

// What make bench writes of a document lies between these lines.
const (
	docBegin = "<!-- make bench writes from here -->\n"
	docEnd   = "<!-- to here -->\n"
)

// insert writes that part of a document anew. Headings of text are one level
// deeper there.
func insert(doc, text string) error {
	old, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), docBegin)
	_, tail, ends := strings.Cut(rest, docEnd)
	if !ok || !ends {
		return fmt.Errorf("%s: has no lines %q and %q to write between", doc, strings.TrimSpace(docBegin), strings.TrimSpace(docEnd))
	}
	text = strings.ReplaceAll("\n"+text, "\n#", "\n##")
	return os.WriteFile(doc, []byte(head+docBegin+text[1:]+docEnd+tail), 0o644)
}

// bar of the chart.
type bar struct {
	label string
	value float64
	fill  string
}

const (
	oursFill = "#2a78b5"
	peerFill = "#b0b0b0"
	rowPitch = 18
)

// chart draws two panels of bars: the plane, and sealing beside ipsec-mb.
func (r *run) chart() string {
	var plane, seal []bar
	for _, s := range r.of("softbench") {
		plane = append(plane, bar{s.Name, s.field("cpu_ns_per_packet"), oursFill})
	}
	for _, p := range r.Peers {
		seal = append(seal,
			bar{fmt.Sprintf("%d B, AES-%d, ours", p.Size, p.Key), p.Ours, oursFill},
			bar{"ipsec-mb", p.IPsecMB, peerFill})
	}
	var b strings.Builder
	y := 0
	for _, panel := range []struct {
		title string
		bars  []bar
	}{{"The whole plane: ns of processor a packet", plane}, {"Sealing: ns a packet", seal}} {
		if len(panel.bars) > 0 {
			y = draw(&b, y, panel.title, panel.bars)
		}
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 %d\" width=\"640\" font-family=\"sans-serif\" font-size=\"12\">\n"+
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n%s</svg>\n", y+10, b.String())
}

// draw draws one panel and returns where it ends.
func draw(b *strings.Builder, y int, title string, bars []bar) int {
	longest := 0.0
	for _, v := range bars {
		longest = max(longest, v.value)
	}
	y += 24
	fmt.Fprintf(b, "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y, html.EscapeString(title))
	y += 8
	for _, v := range bars {
		width := 0.0
		if longest > 0 {
			width = 380 * v.value / longest
		}
		fmt.Fprintf(b, "<text x=\"190\" y=\"%d\" text-anchor=\"end\">%s</text>", y+12, html.EscapeString(v.label))
		fmt.Fprintf(b, "<rect x=\"196\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>", y+2, width, rowPitch-5, v.fill)
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\">%.1f</text>\n", 202+width, y+12, v.value)
		y += rowPitch
	}
	return y
}
