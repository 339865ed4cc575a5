package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"vita/forwarding/client"
)

// engineStart bounds how long an engine may take until it answers.
const engineStart = 30 * time.Second

var errEngineSilent = errors.New("vita-engine does not answer: see its log")

// attach attaches to the engine that runs, or begins one where there is none, and
// says whether that is to be waited for. An appliance's init begins it, beside vitad.
func (c *runCmd) attach(ctx context.Context, engine *client.Client, log *slog.Logger) (wait bool, ended <-chan error, err error) {
	switch err := engine.Attach(ctx, c.socket()); {
	case err == nil:
		log.Info("attached to the running engine", "pid", engine.Engine().Pid)
		return false, nil, nil
	case !errors.Is(err, client.ErrNoEngine):
		return false, nil, err
	case c.Appliance == "":
		ended, err = c.startEngine(log)
		return true, ended, err
	}
	return true, nil, nil
}

// await attaches to the engine once it answers. Sessions are served meanwhile, and
// what needs the engine waits.
func (c *runCmd) await(ctx context.Context, engine *client.Client, ended <-chan error, log *slog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, engineStart, errEngineSilent)
	defer cancel()
	for {
		err := engine.Attach(ctx, c.socket())
		if err == nil {
			log.Info("attached to the engine that has started", "pid", engine.Engine().Pid)
			return nil
		}
		if !errors.Is(err, client.ErrNoEngine) {
			return err
		}
		select {
		case err := <-ended:
			return fmt.Errorf("vita-engine ended at its start: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// startEngine runs vita-engine as a process that outlives this one.
func (c *runCmd) startEngine(log *slog.Logger) (<-chan error, error) {
	program, err := c.engineProgram()
	if err != nil {
		return nil, err
	}
	args := []string{"--socket", c.socket(), "--log-level", string(c.LogLevel)}
	if c.Cpus != "" {
		args = append(args, "--cpus", c.Cpus)
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	// A session of its own: a signal to vitad's group must not stop forwarding.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		log.Info("vita-engine ended", "status", cmd.ProcessState.String())
		if err == nil {
			err = errors.New("exit status 0")
		}
		ended <- err
	}()
	return ended, nil
}

func (c *runCmd) engineProgram() (string, error) {
	if c.Engine != "" {
		return c.Engine, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "vita-engine")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	p, err := exec.LookPath("vita-engine")
	if err != nil {
		return "", fmt.Errorf("no vita-engine beside vitad nor in PATH: name it by --engine: %w", err)
	}
	return p, nil
}
