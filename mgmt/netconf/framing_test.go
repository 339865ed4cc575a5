package netconf

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

type pipe struct {
	io.Reader
	io.Writer
}

func framerOf(in string, chunked bool, limit int) *framer {
	f := newFramer(pipe{strings.NewReader(in), io.Discard}, limit)
	f.chunked = chunked
	return f
}

func TestReadChunks(t *testing.T) {
	f := framerOf("\n#4\n<rpc\n#18\n message-id=\"102\"\n\n#3\n/>\n\n##\n\n#1\nx\n##\n", true, 1000)
	for _, want := range []string{"<rpc message-id=\"102\"\n/>\n", "x"} {
		got, err := f.read()
		if err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	if _, err := f.read(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last message: %v", err)
	}
}

func TestReadToMark(t *testing.T) {
	f := framerOf("<hello>a > b ]]>]] </hello>]]>]]>\n<x/>]]>]]>\n ", false, 1000)
	for _, want := range []string{"<hello>a > b ]]>]] </hello>", "\n<x/>"} {
		got, err := f.read()
		if err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	if _, err := f.read(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last message: %v", err)
	}
}

func TestBadFramingIsRefused(t *testing.T) {
	for _, c := range []struct {
		in      string
		chunked bool
		want    error
	}{
		{"<rpc/>", true, errFraming},
		{"\n#0\n\n##\n", true, errFraming},
		{"\n#01\nx\n##\n", true, errFraming},
		{"\n#-1\nx\n##\n", true, errFraming},
		{"\n#4294967296\n", true, errFraming},
		{"\n#99999999999999999999\n", true, errFraming},
		{"\n##\n", true, errFraming},
		{"\n#101\n", true, errTooLarge},
		{"\n#60\n" + strings.Repeat("x", 60) + "\n#60\n", true, errTooLarge},
		{"\n#5\nab", true, io.ErrUnexpectedEOF},
		{"\n#1\na", true, io.ErrUnexpectedEOF},
		{"\n#", true, io.ErrUnexpectedEOF},
		{"<rpc>", false, io.ErrUnexpectedEOF},
		{strings.Repeat("x", 200), false, errTooLarge},
	} {
		if got, err := framerOf(c.in, c.chunked, 100).read(); !errors.Is(err, c.want) {
			t.Errorf("%q: read %q, %v; want %v", c.in, got, err, c.want)
		}
	}
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte("\n#4\n<rpc\n#2\n/>\n##\n"), true)
	f.Add([]byte("<hello/>]]>]]>"), false)
	f.Add([]byte("\n#4294967295\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, chunked bool) {
		fr := newFramer(pipe{bytes.NewReader(in), io.Discard}, 1<<16)
		fr.chunked = chunked
		for {
			msg, err := fr.read()
			if err != nil {
				return
			}
			if len(msg) > 1<<16+len(endOfMessage) {
				t.Fatalf("message of %d bytes", len(msg))
			}
			// What was read, written again, reads the same.
			if chunked && len(msg) == 0 {
				t.Fatal("empty chunked message")
			}
			var out bytes.Buffer
			again := newFramer(pipe{&out, &out}, 1<<17)
			again.chunked = chunked
			if !chunked && bytes.Contains(append(bytes.Clone(msg), ']'), []byte("]]>]]")) {
				continue // could form the mark together with what follows
			}
			if err := again.write(bytes.Clone(msg)); err != nil {
				t.Fatal(err)
			}
			if got, err := again.read(); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%q came back as %q, %v", msg, got, err)
			}
		}
	})
}
