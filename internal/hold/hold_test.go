package hold

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestMain is the program that waits, where the test has started it as that.
func TestMain(m *testing.M) {
	if os.Getenv("HOLD_TEST") == "" {
		os.Exit(m.Run())
	}
	fmt.Println("begun")
	Here()
	fmt.Printf("goes on %q\n", os.Getenv(variable))
}

func program(t *testing.T) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HOLD_TEST=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func expect(t *testing.T, out *bufio.Scanner, want string) {
	t.Helper()
	if !out.Scan() || out.Text() != want {
		t.Fatalf("%q, %v, want %q", out.Text(), out.Err(), want)
	}
}

func TestCommand(t *testing.T) {
	cmd, out := program(t)
	release, err := Command(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	expect(t, out, "begun")
	went := make(chan struct{})
	go func() { out.Scan(); close(went) }()
	select {
	case <-went:
		t.Fatalf("it does not wait: %q", out.Text())
	case <-time.After(100 * time.Millisecond):
	}
	release()
	<-went
	if want := `goes on ""`; out.Text() != want {
		t.Errorf("%q, want %q", out.Text(), want)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestNobodyAsks: a program that nobody asks to does not wait, whatever its
// standard input is.
func TestNobodyAsks(t *testing.T) {
	cmd, out := program(t)
	in, err := cmd.StdinPipe() // stays open
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	expect(t, out, "begun")
	expect(t, out, `goes on ""`)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
