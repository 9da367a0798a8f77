// Package car reads and writes content addressable archives of version 1, the form in
// which repositories travel: a header with roots, then blocks, each under its name.
//
// Both ways are streams. What is read may come from anybody: lengths are bounded before
// anything is allocated, every block is hashed, and a reader holds one block at a time,
// whatever the length of the archive. How many blocks and bytes there may be in all is
// the caller's to bound.
package car

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/atdata"

	"portico/impl/repo/dagcbor"
)

const (
	// MaxHeader is the length up to which a header is read, in bytes. Those of
	// repositories, with their one root, have 58.
	MaxHeader = 4096
	// MaxBlock is the length up to which a block is read, in bytes without its name.
	MaxBlock = 2 << 20
)

var (
	// ErrFormat says that what was read is not an archive of version 1 with names as
	// the protocol uses them, is cut short, or has a header or block beyond the bounds.
	ErrFormat = errors.New("malformed archive")
	// ErrHash says that a block is not what its name says.
	ErrHash = errors.New("block does not match its name")
)

// A Block is some data under its name.
type Block struct {
	CID  dagcbor.CID
	Data []byte
}

// Check returns ErrHash unless the data is what the name says.
func (b Block) Check() error {
	if dagcbor.Sum(b.CID[1], b.Data) != b.CID {
		return fmt.Errorf("%w: %s", ErrHash, b.CID)
	}
	return nil
}

// A Reader reads one archive. It is not safe for concurrent use.
type Reader struct {
	roots  []dagcbor.CID
	r      *bufio.Reader
	buf    []byte
	offset int64 // of what follows
	block  int64 // of the data of the latest block
	err    error
}

// NewReader reads the header. Errors are ErrFormat, or those of r.
func NewReader(r io.Reader) (*Reader, error) {
	c := &Reader{r: bufio.NewReaderSize(r, 32<<10)}
	n, err := c.length(MaxHeader)
	if err == nil {
		err = c.fill(n)
	}
	if err == nil {
		c.roots, err = parseHeader(c.buf)
	}
	if err == io.EOF {
		err = fmt.Errorf("%w: empty", ErrFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("header of archive: %w", err)
	}
	return c, nil
}

// Roots returns the roots that the header names, which need not be among the blocks.
func (c *Reader) Roots() []dagcbor.CID { return c.roots }

// Next returns the next block, whose data is overwritten by the next call, or io.EOF at
// the end of the archive. Other errors are ErrFormat, ErrHash, or those of the
// underlying reader; after one there is nothing more to be had.
func (c *Reader) Next() (Block, error) {
	if c.err != nil {
		return Block{}, c.err
	}
	b, err := c.next()
	if err != nil && err != io.EOF {
		err = fmt.Errorf("block of archive at byte %d: %w", c.offset, err)
	}
	c.err = err
	return b, err
}

// Offset returns where in the archive the data of the block begins that Next returned
// last.
func (c *Reader) Offset() int64 { return c.block }

func (c *Reader) next() (Block, error) {
	var b Block
	n, err := c.length(len(b.CID) + MaxBlock)
	if err != nil {
		return Block{}, err
	}
	if n < len(b.CID) {
		return Block{}, fmt.Errorf("%w: no room for a name", ErrFormat)
	}
	if err := c.fill(n); err != nil {
		return Block{}, err
	}
	b.Data = c.buf[copy(b.CID[:], c.buf):]
	if !b.CID.Valid() {
		return Block{}, fmt.Errorf("%w: a name of another kind", ErrFormat)
	}
	if err := b.Check(); err != nil {
		return Block{}, err
	}
	c.block = c.offset - int64(len(b.Data))
	return b, nil
}

// length reads a varint that is at most limit, in its one shortest form. It returns
// io.EOF when there is nothing at all.
func (c *Reader) length(limit int) (int, error) {
	n := 0
	for shift := 0; ; shift += 7 {
		x, err := c.r.ReadByte()
		if err == io.EOF && shift > 0 {
			return 0, fmt.Errorf("%w: cut short", ErrFormat)
		}
		if err != nil {
			return 0, err
		}
		c.offset++
		n |= int(x&0x7f) << shift
		if n > limit || shift > 21 {
			return 0, fmt.Errorf("%w: longer than %d bytes", ErrFormat, limit)
		}
		if x < 0x80 {
			if x == 0 && shift > 0 {
				return 0, fmt.Errorf("%w: length not in its shortest form", ErrFormat)
			}
			return n, nil
		}
	}
}

// fill reads n bytes into buf.
func (c *Reader) fill(n int) error {
	if cap(c.buf) < n {
		c.buf = make([]byte, n, max(n, min(2*cap(c.buf), MaxBlock)))
	}
	c.buf = c.buf[:n]
	got, err := io.ReadFull(c.r, c.buf)
	c.offset += int64(got)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: cut short", ErrFormat)
	}
	return err
}

func parseHeader(b []byte) ([]dagcbor.CID, error) {
	entries, err := dagcbor.Entries(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	header, err := atdata.UnmarshalCBOR(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if header["version"] != int64(1) {
		return nil, fmt.Errorf("%w: not of version 1", ErrFormat)
	}
	list, ok := header["roots"].([]any)
	if !ok || len(entries) != 2 {
		return nil, fmt.Errorf("%w: not roots and a version", ErrFormat)
	}
	roots := make([]dagcbor.CID, len(list))
	for i, item := range list {
		link, ok := item.(atdata.CIDLink)
		if !ok {
			return nil, fmt.Errorf("%w: a root is no link", ErrFormat)
		}
		if roots[i], err = dagcbor.ParseCID(link.String()); err != nil {
			return nil, fmt.Errorf("%w: root: %w", ErrFormat, err)
		}
	}
	return roots, nil
}

// A Writer writes one archive. It is not safe for concurrent use, and buffers nothing.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter writes the header. Errors are those of w.
func NewWriter(w io.Writer, roots ...dagcbor.CID) (*Writer, error) {
	if _, err := w.Write(appendHeader(nil, roots)); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return &Writer{w: w}, nil
}

// Write writes one block. Whether it is what its name says is the caller's care. Errors
// are those of the underlying writer.
func (c *Writer) Write(b Block) error {
	c.buf = appendName(c.buf[:0], b)
	_, err := c.w.Write(c.buf)
	if err == nil {
		_, err = c.w.Write(b.Data)
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// Marshal returns the archive of some blocks, in the given order, with one root.
func Marshal(root dagcbor.CID, blocks ...Block) []byte {
	size := 64
	for _, b := range blocks {
		size += binary.MaxVarintLen32 + len(b.CID) + len(b.Data)
	}
	out := appendHeader(make([]byte, 0, size), []dagcbor.CID{root})
	for _, b := range blocks {
		out = append(appendName(out, b), b.Data...)
	}
	return out
}

func appendHeader(b []byte, roots []dagcbor.CID) []byte {
	header := dagcbor.AppendText(dagcbor.AppendMap(make([]byte, 0, 64), 2), "roots")
	header = dagcbor.AppendArray(header, len(roots))
	for _, root := range roots {
		header = dagcbor.AppendLink(header, root)
	}
	header = dagcbor.AppendInt(dagcbor.AppendText(header, "version"), 1)
	return append(binary.AppendUvarint(b, uint64(len(header))), header...)
}

func appendName(b []byte, block Block) []byte {
	b = binary.AppendUvarint(b, uint64(len(block.CID)+len(block.Data)))
	return append(b, block.CID[:]...)
}
