package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// devicesCmd asks vita-engine, which has the drivers: what a machine has in its
// slots is of interest before there is a gateway to ask.
type devicesCmd struct {
	Engine string `help:"Program to ask. Default: beside vitactl, or in PATH." placeholder:"FILE" complete:"file"`
}

func (c *devicesCmd) Run(s *session) error {
	program := c.Engine
	if self, err := os.Executable(); program == "" && err == nil {
		beside := filepath.Join(filepath.Dir(self), "vita-engine")
		if _, err := os.Stat(beside); err == nil {
			program = beside
		}
	}
	if program == "" {
		var err error
		if program, err = exec.LookPath("vita-engine"); err != nil {
			return fmt.Errorf("no vita-engine beside vitactl nor in PATH: name it by --engine: %w", err)
		}
	}
	cmd := exec.CommandContext(s, program, "--devices")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
