package operator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// CaptureResult is how a capture ended.
type CaptureResult struct {
	Packets uint64
	Missed  uint64 // came too fast to be kept; known only where Whole is true
	Whole   bool   // it ended by one of its limits, not by the caller or a broken connection
}

// Capture writes a packet capture to w, in pcapng, until one of its limits is
// reached or ctx ends. Options are those of the gateway, by their names. What is
// written consists of whole blocks at any moment, so that it can be read however
// the capture ends.
func (c *Client) Capture(ctx context.Context, options url.Values, w io.Writer) (CaptureResult, error) {
	var result CaptureResult
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+"/vita/capture?"+options.Encode(), nil)
	if err != nil {
		return result, err
	}
	c.authorize(r)
	r.Header.Set("Accept", "application/x-pcapng, "+mediaJSON) // the second for errors
	unlimited := *c.http
	unlimited.Timeout = 0
	resp, err := unlimited.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return result, nil
		}
		return result, trust(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return result, fmt.Errorf("read the answer: %w", err)
		}
		return result, refusal(resp.Status, answer)
	}
	result.Packets, err = copyBlocks(w, resp.Body)
	switch {
	case ctx.Err() != nil:
		return result, nil
	case err != nil:
		return result, err
	}
	result.Whole = true
	result.Missed, err = strconv.ParseUint(resp.Trailer.Get("Vita-Missed"), 10, 64)
	if err != nil {
		return result, errors.New("the gateway has not said how the capture ended")
	}
	return result, nil
}

// Blocks of pcapng: a header of type and length, the body, the length again.
const (
	blockHeader = 8
	blockLeast  = 12
	blockMost   = 1 << 20
	blockPacket = 6
)

// copyBlocks copies whole blocks of pcapng, and returns how many are packets.
func copyBlocks(w io.Writer, r io.Reader) (packets uint64, err error) {
	block := make([]byte, 64<<10)
	for {
		if _, err := io.ReadFull(r, block[:blockHeader]); errors.Is(err, io.EOF) {
			return packets, nil
		} else if err != nil {
			return packets, fmt.Errorf("the capture breaks off: %w", err)
		}
		n := binary.LittleEndian.Uint32(block[4:])
		if n < blockLeast || n > blockMost || n%4 != 0 {
			return packets, fmt.Errorf("the gateway sends a block of %d bytes: this is no capture", n)
		}
		if int(n) > len(block) {
			block = append(block[:blockHeader], make([]byte, int(n)-blockHeader)...)
		}
		if _, err := io.ReadFull(r, block[blockHeader:n]); errors.Is(err, io.EOF) {
			return packets, fmt.Errorf("the capture breaks off: %w", io.ErrUnexpectedEOF)
		} else if err != nil {
			return packets, fmt.Errorf("the capture breaks off: %w", err)
		}
		if _, err := w.Write(block[:n]); err != nil {
			return packets, err
		}
		if binary.LittleEndian.Uint32(block) == blockPacket {
			packets++
		}
	}
}
