package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"vita/mgmt/operator"

	"golang.org/x/term"
)

// captureCmd has the gateway's options by their names; the gateway checks them.
type captureCmd struct {
	Point       []string `required:"" help:"Where: private-rx, private-tx, public-rx, public-tx, inner-outbound (before encryption), inner-inbound (after decryption), dropped. Several with commas." placeholder:"POINT"`
	Family      string   `help:"Only ipv4 or ipv6." placeholder:"F"`
	Protocol    string   `help:"Only icmp, icmpv6, tcp, udp, esp or a number." placeholder:"P"`
	Source      string   `help:"Only from an address or prefix." placeholder:"PREFIX"`
	Destination string   `help:"Only to an address or prefix." placeholder:"PREFIX"`
	Spi         string   `help:"Only ESP packets with this SPI, and what was in them." placeholder:"N"`
	Reason      []string `help:"Only packets dropped for these reasons; see docs/drops.md." placeholder:"REASON"`
	Snap        string   `help:"Bytes kept of a packet; default all." placeholder:"N"`
	Packets     string   `help:"End after so many packets; default 10000." placeholder:"N"`
	Seconds     string   `help:"End after so many seconds; default 60, at most 3600." placeholder:"N"`
	Write       string   `short:"w" default:"-" help:"File to write to; default standard output." placeholder:"FILE"`
}

func (c *captureCmd) Run(s *session) error {
	q := url.Values{}
	for name, values := range map[string][]string{
		"point": c.Point, "family": {c.Family}, "protocol": {c.Protocol}, "source": {c.Source}, "destination": {c.Destination},
		"spi": {c.Spi}, "reason": c.Reason, "snap": {c.Snap}, "packets": {c.Packets}, "seconds": {c.Seconds},
	} {
		for _, v := range values {
			if v != "" {
				q.Add(name, v)
			}
		}
	}
	return with(s, func(o *operator.Client) (err error) {
		w := io.Writer(os.Stdout)
		if c.Write != "-" {
			f, err := os.OpenFile(c.Write, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // packets are nobody else's business
			if err != nil {
				return fmt.Errorf("--write: %w", err)
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			w = f
		} else if term.IsTerminal(int(os.Stdout.Fd())) {
			return errors.New("a capture is nothing to read on a terminal: name a file by --write, or pipe it to a program")
		}
		r, err := o.Capture(s, q, w)
		if err != nil {
			return err
		}
		if r.Whole {
			fmt.Fprintf(os.Stderr, "%d packets, %d missed\n", r.Packets, r.Missed)
		} else {
			fmt.Fprintf(os.Stderr, "%d packets\n", r.Packets)
		}
		return nil
	})
}
