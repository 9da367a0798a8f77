package backup

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// windowMost bounds what whoever reads a part keeps of it.
const windowMost = 8 << 20

// sealedParts are the parts that are sealed where there is a key. The list of blobs is not:
// the names of their files say as much.
var sealedParts = map[string]bool{Database: true, Secrets: true, Settings: true}

// counter counts and sums up what is written.
type counter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.h.Write(p[:n])
	return n, err
}

// put stores what r gives as a part of a snapshot. It is read as it is sent, and never
// in memory whole.
func (r *Repository) put(ctx context.Context, snapshot, name string, from io.Reader) (Part, error) {
	p := Part{Name: name, Sealed: r.Key != nil && sealedParts[name]}
	reader, writer := io.Pipe()
	out := &counter{w: writer, h: sha256.New()}
	written := make(chan struct{})
	go func() {
		defer close(written)
		n, err := r.pack(out, p, snapshot, from)
		p.Size = n
		writer.CloseWithError(err) // nil is an end
	}()
	err := r.Store.Put(ctx, partPath(snapshot, name), reader, -1)
	reader.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	<-written
	if err != nil {
		return p, fmt.Errorf("store %s: %w", name, err)
	}
	p.Stored, p.SHA256 = out.n, hex.EncodeToString(out.h.Sum(nil))
	return p, nil
}

// pack compresses and seals.
func (r *Repository) pack(to io.Writer, p Part, snapshot string, from io.Reader) (int64, error) {
	end := func() error { return nil }
	if p.Sealed {
		s, err := r.Key.seal(to, partPath(snapshot, p.Name))
		if err != nil {
			return 0, err
		}
		to, end = s, s.Close
	}
	z, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(4<<20))
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(z, from)
	if err != nil {
		z.Close() // what it wrote is no part
		return n, err
	}
	if err := z.Close(); err != nil {
		return n, err
	}
	return n, end()
}

// OpenPart reads a part of a snapshot. What it gives is as long as the manifest says, and
// once it has given io.EOF, the sum of the file was right: before that nothing is. Errors are
// ErrNotFound, ErrDamaged, ErrKey, and those of the store.
func (r *Repository) OpenPart(ctx context.Context, m *Manifest, name string) (io.ReadCloser, error) {
	p, ok := m.part(name)
	if !ok {
		return nil, fmt.Errorf("%s of snapshot %s: %w", name, m.Snapshot, ErrNotFound)
	}
	if p.Sealed && r.Key == nil {
		return nil, fmt.Errorf("%s of snapshot %s: %w is missing: it is sealed", name, m.Snapshot, ErrKey)
	}
	file, size, err := r.Store.Open(ctx, partPath(m.Snapshot, name))
	if err != nil {
		return nil, fmt.Errorf("%s of snapshot %s: %w", name, m.Snapshot, err)
	}
	o := &partReader{file: file, part: p, snapshot: m.Snapshot, sum: sha256.New()}
	if size != p.Stored {
		return nil, errors.Join(o.damaged(fmt.Errorf("it has %d bytes, and had %d", size, p.Stored)), file.Close())
	}
	o.raw = io.TeeReader(contextReader{ctx, io.LimitReader(file, p.Stored)}, o.sum)
	from := o.raw
	if p.Sealed {
		if from, err = r.Key.open(o.raw, partPath(m.Snapshot, name)); err != nil {
			return nil, errors.Join(o.damaged(err), file.Close())
		}
	}
	if o.z, err = zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowMost), zstd.WithDecoderMaxMemory(4*windowMost)); err != nil {
		return nil, errors.Join(o.damaged(err), file.Close())
	}
	return o, nil
}

type partReader struct {
	file     io.ReadCloser
	part     Part
	snapshot string
	sum      hash.Hash
	raw      io.Reader
	z        *zstd.Decoder
	n        int64
	err      error
}

// damaged says where an error was found. Those of the decoder are of a damaged file.
func (o *partReader) damaged(err error) error {
	if !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fmt.Errorf("%s of snapshot %s: %w", o.part.Name, o.snapshot, err)
}

func (o *partReader) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.z.Read(p)
	if o.n += int64(n); o.n > o.part.Size {
		o.err = o.damaged(fmt.Errorf("it has more than %d bytes", o.part.Size))
		return 0, o.err
	}
	switch {
	case errors.Is(err, io.EOF):
		o.err = o.end()
		return n, o.err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrLost):
		o.err = err
	case err != nil:
		o.err = o.damaged(err)
	}
	return n, o.err
}

// end is io.EOF when all of the file was what it should be.
func (o *partReader) end() error {
	if _, err := io.Copy(io.Discard, o.raw); err != nil {
		return err
	}
	want, _ := hex.DecodeString(o.part.SHA256)
	switch {
	case subtle.ConstantTimeCompare(o.sum.Sum(nil), want) != 1:
		return o.damaged(errors.New("its sum is not that of the manifest"))
	case o.n != o.part.Size:
		return o.damaged(fmt.Errorf("it has %d bytes, and had %d", o.n, o.part.Size))
	}
	return io.EOF
}

func (o *partReader) Close() error {
	o.z.Close()
	return o.file.Close()
}
