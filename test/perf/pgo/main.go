// Command pgo writes the profile by which the compiler lays out the packet path:
// what vitabench softbench spends its time on, for several kinds of traffic. The
// programs that hold the path, vita-engine and vitabench, are built by it.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/pprof/profile"
)

// traffic is what is measured, as arguments of softbench.
var traffic = []string{
	"--routes 1", "--routes 1000", "--size imix", "--size 1454", "--family 6",
	"--family 6 --routes 1000 --size imix", "--direction outbound --routes 100",
}

func main() {
	log.SetFlags(0)
	if err := run("cmd/vita-engine/default.pgo"); err != nil {
		log.Fatal("pgo: ", err)
	}
}

func run(to string) error {
	dir, err := os.MkdirTemp("", "pgo")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // in the system's temporary folder
	bench := filepath.Join(dir, "vitabench")
	if err := command("go", "build", "-trimpath", "-pgo=off", "-o", bench, "./cmd/vitabench"); err != nil {
		return err
	}
	var all []*profile.Profile
	for i, t := range traffic {
		fmt.Printf("%d of %d: softbench %s\n", i+1, len(traffic), t)
		file := filepath.Join(dir, "profile")
		if err := command(bench, append([]string{"softbench", "--seconds", "3", "--profile", file}, strings.Fields(t)...)...); err != nil {
			return err
		}
		p, err := read(file)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	p, err := profile.Merge(all)
	if err != nil {
		return err
	}
	// The compiler looks at functions and lines alone: nothing is kept that
	// says where or when this was.
	for _, m := range p.Mapping {
		m.File, m.BuildID = "", ""
	}
	p.TimeNanos, p.DurationNanos = 0, 0
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := p.Write(f); err != nil {
		return err
	}
	return f.Close()
}

func command(name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}

func read(file string) (*profile.Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	p, err := profile.Parse(f)
	return p, errors.Join(err, f.Close())
}
