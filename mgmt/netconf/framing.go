package netconf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

// Framing of RFC 6242: end-of-message (section 4.3) for the hello and for
// base:1.0 peers, chunks (section 4.2) once both sides speak base:1.1.

const endOfMessage = "]]>]]>"

// errFraming says that the peer's bytes are no NETCONF framing: the session
// cannot go on (RFC 6242 section 4.2, "MUST terminate").
var errFraming = errors.New("bytes on the channel are not NETCONF framing")

// errTooLarge says that a message went past the server's limit.
var errTooLarge = errors.New("message is larger than this server takes")

// framer reads and writes the messages of one session.
type framer struct {
	r       *bufio.Reader
	w       io.Writer
	limit   int // bytes a message, at most
	chunked bool
	within  time.Duration // a message has to be whole, from its first byte on; 0: for ever
	slow    func()        // ends the channel of a client that is slower
	writing sync.Mutex    // replies and notifications
}

func newFramer(rw io.ReadWriter, limit int) *framer {
	return &framer{r: bufio.NewReaderSize(rw, 32<<10), w: rw, limit: limit}
}

// read returns the next message. io.EOF means that the peer closed the channel
// between two messages.
func (f *framer) read() ([]byte, error) {
	if f.within > 0 {
		f.awaitMessage() // an error comes again below
		t := time.AfterFunc(f.within, f.slow)
		defer t.Stop()
	}
	if f.chunked {
		return f.readChunks()
	}
	return f.readToMark()
}

// awaitMessage returns once a message has begun. Between two messages a client
// may be silent for as long as it likes, even where it has ended the one before
// by a line feed of its own.
func (f *framer) awaitMessage() {
	if f.chunked {
		_, _ = f.r.Peek(len("\n#"))
		return
	}
	for {
		b, err := f.r.Peek(1)
		if err != nil || b[0] > ' ' {
			return
		}
		_, _ = f.r.Discard(1) // it is there
	}
}

func (f *framer) readToMark() ([]byte, error) {
	var msg []byte
	for {
		// The mark ends in '>', so each run up to one either ends the message
		// or is part of it.
		part, err := f.r.ReadSlice('>')
		msg = append(msg, part...)
		if len(msg) > f.limit+len(endOfMessage) {
			return nil, errTooLarge
		}
		if rest, ok := bytes.CutSuffix(msg, []byte(endOfMessage)); ok {
			return rest, nil
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(msg)) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

func (f *framer) readChunks() ([]byte, error) {
	var msg []byte
	for first := true; ; first = false {
		n, err := f.chunkHeader()
		if err != nil {
			if first && errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			if errors.Is(err, io.EOF) {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if n == 0 { // end-of-chunks
			if first {
				return nil, fmt.Errorf("%w: message of no chunk", errFraming)
			}
			return msg, nil
		}
		if n > f.limit-len(msg) {
			return nil, errTooLarge
		}
		// Grow by what arrives, not by what the header promises.
		got := bytes.NewBuffer(msg)
		if _, err := io.CopyN(got, f.r, int64(n)); err != nil {
			if errors.Is(err, io.EOF) {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
		msg = got.Bytes()
	}
}

// chunkHeader reads LF HASH size LF, or LF HASH HASH LF, which it returns as 0.
func (f *framer) chunkHeader() (int, error) {
	const longest = len("\n#4294967295\n")
	head := make([]byte, 0, longest)
	for {
		c, err := f.r.ReadByte()
		if err != nil {
			if len(head) > 0 && errors.Is(err, io.EOF) {
				return 0, io.ErrUnexpectedEOF
			}
			return 0, err
		}
		head = append(head, c)
		switch n := len(head); {
		case n == 1 && c != '\n', n == 2 && c != '#':
			return 0, fmt.Errorf("%w: chunk header %q", errFraming, head)
		case n == longest && c != '\n':
			return 0, fmt.Errorf("%w: chunk header %q", errFraming, head)
		case n < 3 || c != '\n':
			continue
		}
		size := string(head[2 : len(head)-1])
		if size == "#" {
			return 0, nil
		}
		// chunk-size is 1 to 4294967295 without sign or leading zero.
		n, err := strconv.ParseUint(size, 10, 32)
		if err != nil || size[0] < '1' || size[0] > '9' {
			return 0, fmt.Errorf("%w: chunk size %q", errFraming, size)
		}
		return int(n), nil
	}
}

// largeMessage is from which length on a message is not copied to be sent.
const largeMessage = 64 << 10

// write sends one message.
func (f *framer) write(msg []byte) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	var head []byte
	tail := endOfMessage
	if f.chunked {
		head = append(strconv.AppendInt([]byte("\n#"), int64(len(msg)), 10), '\n')
		tail = "\n##\n"
	}
	if len(msg) < largeMessage { // in one packet
		_, err := f.w.Write(append(append(append(make([]byte, 0, len(head)+len(msg)+len(tail)), head...), msg...), tail...))
		return err
	}
	for _, part := range [][]byte{head, msg, []byte(tail)} {
		if _, err := f.w.Write(part); err != nil {
			return err
		}
	}
	return nil
}
