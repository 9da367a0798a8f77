package xrpc

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"portico/api/brotli"
)

// A decoder undoes one Content-Encoding.
type decoder struct {
	// memory is what a reader takes at most, in bytes, judged by the first byte of what it
	// is to read. Some encodings let whoever sends some bytes choose a window of megabytes.
	memory func(first byte, most int64) int64
	// open returns a reader of the first most bytes; what comes behind them may be wrong.
	open func(r io.Reader, most int64) (io.Reader, error)
}

var decoders = map[string]decoder{
	"gzip":    {inflateMemory, gunzip},
	"deflate": {inflateMemory, func(r io.Reader, _ int64) (io.Reader, error) { return zlib.NewReader(r) }},
	"br":      {brotli.Memory, brotli.NewReader},
}

// decoderFor returns nil for a body that is sent as it is.
func decoderFor(r *http.Request) (*decoder, error) {
	encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	if encoding == "" || encoding == "identity" {
		return nil, nil
	}
	d, ok := decoders[encoding]
	if !ok {
		return nil, unsupported(`unsupported content encoding "` + encoding + `"`)
	}
	return &d, nil
}

func inflateMemory(byte, int64) int64 { return 64 << 10 } // a window of 32 KiB and tables

func gunzip(r io.Reader, _ int64) (io.Reader, error) {
	start := make([]byte, 2)
	n, err := io.ReadFull(r, start)
	if n > 0 && !strings.HasPrefix("\x1f\x8b", string(start[:n])) {
		return nil, gzip.ErrHeader // however short it is
	}
	if err != nil {
		return nil, err
	}
	return gzip.NewReader(io.MultiReader(bytes.NewReader(start), r))
}

// How much all bodies that are being decoded may take together, in bytes, and how long
// one waits for its share. The largest window that there is, 16 MiB, fits in once.
const (
	decodingMemory   = 32 << 20
	decodingPatience = 5 * time.Second
)

// decoding bounds the memory of a server's decoders. A body has a share only once all of
// it is here: who sends slowly holds up nobody.
type decoding struct {
	shares   chan struct{} // has one for each MiB that is taken
	turn     chan struct{} // has one while somebody gathers shares, so that two don't wait for each other's
	patience time.Duration
}

func newDecoding() decoding {
	return decoding{make(chan struct{}, decodingMemory>>20), make(chan struct{}, 1), decodingPatience}
}

// take waits for bytes of memory and returns how to give them back.
func (d decoding) take(ctx context.Context, bytes int64) (giveBack func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	taken := 0
	giveBack = func() {
		for range taken {
			<-d.shares
		}
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for range (bytes + 1<<20 - 1) >> 20 {
		select {
		case d.shares <- struct{}{}:
			taken++
		case <-ctx.Done():
			giveBack()
			return nil, ctx.Err()
		}
	}
	return giveBack, nil
}

// open returns a reader of what body is when decoded, of the first most bytes of it, and how to give back its share.
func (d decoding) open(ctx context.Context, how *decoder, body io.ReadSeeker, most int64) (r io.Reader, done func(), err error) {
	var first [1]byte
	if _, err := body.Read(first[:]); err != nil && err != io.EOF {
		return nil, nil, err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	if done, err = d.take(ctx, how.memory(first[0], most)); err != nil {
		busy := NotEnoughResources(d.patience).Because(err)
		busy.own = true
		return nil, nil, busy
	}
	if r, err = how.open(body, most); err != nil {
		done()
		return nil, nil, readFailure(err)
	}
	return r, done, nil
}

// spool reads body to its end into a file without a name, which takes no memory, and
// which the caller closes.
func spool(body io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "portico-body-")
	if err != nil {
		return nil, fmt.Errorf("keep body: %w", err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, body)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep body: %w", err), f.Close())
	}
	return f, nil
}
