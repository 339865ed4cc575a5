package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// peer is ours beside ipsec-mb's sealing, ns a packet.
type peer struct {
	Key        int     `json:"key"`
	Size       int     `json:"size"`
	Ours       float64 `json:"ours_ns"` // the median of the rounds' medians
	OursMin    float64 `json:"ours_min_ns"`
	IPsecMB    float64 `json:"ipsec_mb_ns"`
	IPsecMBMin float64 `json:"ipsec_mb_min_ns"`
	Way        string  `json:"way"`   // of calling it that has the least median; see ipsecmb.c
	Ratio      float64 `json:"ratio"` // of the medians
	RatioMin   float64 `json:"ratio_min"`
}

const (
	peerBatch = 64 // packets a call; vitabench's default too
	peerSizes = "64,576,1420,8192"
)

// times are what the rounds have measured of one size.
type times struct{ medians, mins []float64 }

// beside measures ours and ipsec-mb in turn.
func (o *options) beside(ctx context.Context) ([]peer, error) {
	rounds, each := 7, 100
	if o.quick {
		rounds, each = 2, 3
	}
	var peers []peer
	for _, key := range []int{128, 256} {
		ours, theirs := make(map[int]*times), make(map[string]map[int]*times)
		for range rounds {
			result, err := o.measure(ctx, []string{
				"aead", "--key", strconv.Itoa(key), "--sizes", peerSizes, "--batch", strconv.Itoa(peerBatch),
				"--rounds", strconv.Itoa(each), "--cpu", strconv.Itoa(o.cpu),
			})
			if err != nil {
				return nil, err
			}
			if err := addOurs(ours, result); err != nil {
				return nil, err
			}
			args := []string{strconv.Itoa(key), strconv.Itoa(peerBatch), strconv.Itoa(each), strconv.Itoa(o.cpu)}
			out, err := output(ctx, o.ipsecMB, append(args, strings.Split(peerSizes, ",")...))
			if err != nil {
				return nil, err
			}
			if err := addTheirs(theirs, string(out)); err != nil {
				return nil, err
			}
		}
		of, err := compare(key, ours, theirs)
		if err != nil {
			return nil, err
		}
		peers = append(peers, of...)
	}
	return peers, nil
}

func addOurs(to map[int]*times, result map[string]any) error {
	rows, ok := result["results"].([]any)
	if !ok {
		return errors.New("vitabench aead: no results")
	}
	for _, row := range rows {
		fields, ok := row.(map[string]any)
		if !ok {
			return fmt.Errorf("vitabench aead: result %v", row)
		}
		size := int(number(fields, "size"))
		if to[size] == nil {
			to[size] = new(times)
		}
		to[size].medians = append(to[size].medians, number(fields, "ns"))
		to[size].mins = append(to[size].mins, number(fields, "min_ns"))
	}
	return nil
}

// addTheirs reads the harness's lines.
func addTheirs(to map[string]map[int]*times, out string) error {
	for line := range strings.Lines(out) {
		var way string
		var size int
		var median, least float64
		if n, err := fmt.Sscanf(line, "%s %d %f %f\n", &way, &size, &median, &least); n != 4 || err != nil || median <= 0 || least <= 0 {
			return fmt.Errorf("ipsecmb: line %q", line)
		}
		if to[way] == nil {
			to[way] = make(map[int]*times)
		}
		if to[way][size] == nil {
			to[way][size] = new(times)
		}
		to[way][size].medians = append(to[way][size].medians, median)
		to[way][size].mins = append(to[way][size].mins, least)
	}
	return nil
}

// compare sets ours beside ipsec-mb's best way of each size.
func compare(key int, ours map[int]*times, theirs map[string]map[int]*times) ([]peer, error) {
	var peers []peer
	for size, t := range ours {
		p := peer{Key: key, Size: size, Ours: median(t.medians), OursMin: slices.Min(t.mins)}
		for way, sizes := range theirs {
			if w := sizes[size]; w != nil {
				if m := median(w.medians); p.Way == "" || m < p.IPsecMB {
					p.Way, p.IPsecMB, p.IPsecMBMin = way, m, slices.Min(w.mins)
				}
			}
		}
		if p.Way == "" {
			return nil, fmt.Errorf("ipsecmb: nothing of %d bytes", size)
		}
		p.Ratio, p.RatioMin = p.Ours/p.IPsecMB, p.OursMin/p.IPsecMBMin
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(a, b peer) int { return a.Size - b.Size })
	return peers, nil
}

// median of values, the lower one of two in the middle.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[(len(v)-1)/2]
}

// number reads a field; one that is not there is 0.
func number(fields map[string]any, name string) float64 {
	v, _ := fields[name].(float64)
	return v
}
