package modules

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Packed is what the name of a module's file ends in, after .ko, where it is packed.
const Packed = ".gz"

// maxModule bounds what is unpacked: the kernel's largest are smaller.
const maxModule = 32 << 20

// Pack packs a module's file, always the same way.
func Pack(module []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(module)
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

func unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err == nil && len(b) > maxModule {
		err = fmt.Errorf("more than %d bytes", maxModule)
	}
	return b, err
}
