package car

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"portico/impl/repo/dagcbor"
)

// ErrNotFound says that a block is not in an archive.
var ErrNotFound = errors.New("block is not in the archive")

// A Spool is an archive in a file, or a short one in memory, of which each block is at
// hand. It is safe for concurrent use.
type Spool struct {
	// Roots are those of the header, and Blocks is how many there are, doubles too.
	Roots  []dagcbor.CID
	Blocks int

	blocks         map[dagcbor.CID][]byte // of a short one, which has no files
	archive, index *os.File
	first          []uint64 // key of the first entry of each page of the index
}

const (
	entrySize = 16
	pageSize  = 256 * entrySize
	// runSize is how much of the index is sorted in memory at once.
	runSize = 1 << 18 * entrySize
)

// An entry says where a block is.
type entry struct {
	key uint64 // what its hash begins with
	at  uint64 // where its data begins, and in the lowest bits how long it is
}

const lengthBits = 24 // MaxBlock is less

// short is how long an archive may be, in bytes, that is kept in memory: that of somebody
// who has written a thousand posts is shorter.
const short = 1 << 20

// NewSpool reads a whole archive, one that is not short into a file in a directory that is
// there, and indexes it on disk: it takes less than 20 MB of memory, whatever the archive.
// The files have no names, and so are gone with the process; [Spool.Close] gives their
// space back before. Errors are those of [NewReader] and [Reader.Next], of the files and of
// the context.
func NewSpool(ctx context.Context, r io.Reader, dir string) (_ *Spool, err error) {
	s := new(Spool)
	defer func() {
		if err != nil {
			_ = s.Close()
			err = fmt.Errorf("spool archive: %w", err)
		}
	}()
	head, err := io.ReadAll(io.LimitReader(r, short+1))
	if err != nil {
		return nil, err
	}
	if len(head) <= short {
		return s, s.keep(ctx, head)
	}
	r = io.MultiReader(bytes.NewReader(head), r)
	if s.archive, err = unnamed(dir); err != nil {
		return nil, err
	}
	if s.index, err = unnamed(dir); err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(s.archive, 256<<10)
	runs, err := s.read(ctx, io.TeeReader(r, out))
	if err == nil {
		err = out.Flush()
	}
	if err == nil && len(runs) > 1 {
		err = s.merge(ctx, runs, dir)
	}
	if err == nil {
		err = s.page()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// keep reads an archive that stays in memory.
func (s *Spool) keep(ctx context.Context, archive []byte) error {
	c, err := NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	s.Roots, s.blocks = c.Roots(), make(map[dagcbor.CID][]byte)
	for {
		b, err := c.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		s.Blocks++
		s.blocks[b.CID] = archive[c.Offset():][:len(b.Data):len(b.Data)]
	}
}

// unnamed returns a new file without a name.
func unnamed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "archive-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Close gives the space of the files back. The spool is of no use after it.
func (s *Spool) Close() error {
	s.blocks = nil
	var errs []error
	for _, f := range []*os.File{s.archive, s.index} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Get returns a block's data, which is not to be written to, ErrNotFound, or an error of
// the files.
func (s *Spool) Get(c dagcbor.CID) ([]byte, error) {
	if s.archive == nil {
		if s.blocks == nil {
			return nil, fmt.Errorf("read block of archive: %w", os.ErrClosed)
		}
		data, ok := s.blocks[c]
		if !ok {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, c)
		}
		return data, nil
	}
	key := binary.BigEndian.Uint64(c[4:])
	// The page before the first that begins with the key or more may end with it.
	page := max(sort.Search(len(s.first), func(i int) bool { return s.first[i] >= key })-1, 0)
	buf := make([]byte, pageSize)
	for ; page < len(s.first) && s.first[page] <= key; page++ {
		n, err := s.index.ReadAt(buf, int64(page)*pageSize)
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read index of archive: %w", err)
		}
		for rest := buf[:n]; len(rest) >= entrySize; rest = rest[entrySize:] {
			e := getEntry(rest)
			if e.key != key {
				continue
			}
			at, length := int64(e.at>>lengthBits), int(e.at&(1<<lengthBits-1))
			block := make([]byte, len(c)+length)
			if _, err := s.archive.ReadAt(block, at-int64(len(c))); err != nil {
				return nil, fmt.Errorf("read block of archive: %w", err)
			}
			if data, ok := bytes.CutPrefix(block, c[:]); ok {
				return data, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, c)
}

// read reads the archive and writes its index in runs, each of which is sorted. It returns
// where they end.
func (s *Spool) read(ctx context.Context, r io.Reader) (runs []int64, err error) {
	c, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	s.Roots = c.Roots()
	var run []entry
	end := int64(0)
	write := func() error {
		slices.SortFunc(run, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
		out := bufio.NewWriterSize(s.index, 64<<10)
		for _, e := range run {
			if err := putEntry(out, e); err != nil {
				return err
			}
		}
		end += int64(len(run)) * entrySize
		runs, run = append(runs, end), run[:0]
		return out.Flush()
	}
	for {
		b, err := c.Next()
		if err == io.EOF {
			return runs, write()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		s.Blocks++
		run = append(run, entry{binary.BigEndian.Uint64(b.CID[4:]), uint64(c.Offset())<<lengthBits | uint64(len(b.Data))})
		if len(run) == runSize/entrySize {
			if err := write(); err != nil {
				return nil, err
			}
		}
	}
}

// merge makes one run of all.
func (s *Spool) merge(ctx context.Context, ends []int64, dir string) error {
	type run struct {
		next entry
		r    *bufio.Reader
	}
	var runs []*run // in the order of what is next
	add := func(r *run) error {
		var buf [entrySize]byte
		if _, err := io.ReadFull(r.r, buf[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		r.next = getEntry(buf[:])
		i := sort.Search(len(runs), func(i int) bool { return runs[i].next.key >= r.next.key })
		runs = slices.Insert(runs, i, r)
		return nil
	}
	start := int64(0)
	for _, end := range ends {
		if err := add(&run{r: bufio.NewReaderSize(io.NewSectionReader(s.index, start, end-start), 16<<10)}); err != nil {
			return err
		}
		start = end
	}
	merged, err := unnamed(dir)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(merged, 256<<10)
	for err == nil && len(runs) > 0 {
		r := runs[0]
		runs = runs[:copy(runs, runs[1:])]
		if err = putEntry(out, r.next); err == nil {
			err = add(r)
		}
		if err == nil {
			err = ctx.Err()
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		_ = merged.Close()
		return err
	}
	old := s.index
	s.index = merged
	return old.Close()
}

// page notes how each page of the index begins.
func (s *Spool) page() error {
	var buf [entrySize]byte
	for at := int64(0); at < int64(s.Blocks)*entrySize; at += pageSize {
		if _, err := s.index.ReadAt(buf[:], at); err != nil {
			return err
		}
		s.first = append(s.first, getEntry(buf[:]).key)
	}
	return nil
}

func putEntry(w *bufio.Writer, e entry) error {
	b := binary.BigEndian.AppendUint64(w.AvailableBuffer(), e.key)
	_, err := w.Write(binary.BigEndian.AppendUint64(b, e.at))
	return err
}

func getEntry(b []byte) entry {
	return entry{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}
