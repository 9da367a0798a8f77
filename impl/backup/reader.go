package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// lineMost is how long a line of the list of blobs is at most.
const lineMost = 4 << 10

// BlobRows gives the list of the blobs of a snapshot. An error, with what was given before
// then as nothing, ends it.
func (r *Repository) BlobRows(ctx context.Context, m *Manifest) iter.Seq2[BlobRow, error] {
	return func(yield func(BlobRow, error) bool) {
		part, err := r.OpenPart(ctx, m, Blobs)
		if err != nil {
			yield(BlobRow{}, err)
			return
		}
		defer part.Close()
		lines := bufio.NewScanner(part)
		lines.Buffer(make([]byte, lineMost), lineMost)
		for lines.Scan() {
			row, err := parseLine(lines.Text())
			if err != nil {
				yield(BlobRow{}, fmt.Errorf("%s of snapshot %s: %w: %w", Blobs, m.Snapshot, ErrDamaged, err))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(BlobRow{}, err)
		}
	}
}

// OpenBlob reads a blob of a snapshot. Its last bytes are given only when all are what the
// CID says, else ErrDamaged. ErrNotFound.
func (r *Repository) OpenBlob(ctx context.Context, row BlobRow) (io.ReadCloser, error) {
	file, size, err := r.Store.Open(ctx, blobPath(row.DID, row.CID))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", row, err)
	}
	if size != row.Size {
		return nil, errors.Join(fmt.Errorf("blob %s is %w: it has %d bytes, and had %d", row, ErrDamaged, size, row.Size), file.Close())
	}
	return &blobReader{proved{r: contextReader{ctx, file}, row: row, sum: sha256.New()}, file}, nil
}

type blobReader struct {
	proved
	io.Closer
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.proved.Read(p)
	if errors.Is(err, errOther) {
		err = fmt.Errorf("blob %s is %w: %w", b.row, ErrDamaged, err)
	}
	return n, err
}

// MissingBlobs returns those blobs of a snapshot that the store has not, or has of another
// size, up to most of them, and how many there are.
func (r *Repository) MissingBlobs(ctx context.Context, m *Manifest, most int) (missing []BlobRow, count int64, err error) {
	var there marks
	for o, err := range r.Store.List(ctx, "blobs/") {
		if err != nil {
			return nil, 0, fmt.Errorf("list blobs: %w", err)
		}
		if did, cid, ok := blobOf(o.Name); ok {
			there = append(there, BlobRow{DID: did, CID: cid, Size: o.Size}.mark())
		}
	}
	slices.SortFunc(there, compareMarks)
	for row, err := range r.BlobRows(ctx, m) {
		if err != nil {
			return nil, 0, err
		}
		if there.has(row.mark()) {
			continue
		}
		if count++; len(missing) < most {
			missing = append(missing, row)
		}
	}
	return missing, count, nil
}

// A Verification is what was read, and what of it is wrong.
type Verification struct {
	Snapshots int      `json:"snapshots"`
	Blobs     int64    `json:"blobs"`
	Bytes     int64    `json:"bytes"` // of the blobs and of the parts as they are stored
	Findings  []string `json:"findings"`
	More      int      `json:"more,omitempty"` // findings that are not listed
}

// findingsMost is how many findings are listed.
const findingsMost = 100

func (v *Verification) find(err error) {
	if len(v.Findings) == findingsMost {
		v.More++
		return
	}
	v.Findings = append(v.Findings, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// Verify reads all of some snapshots, and the blobs that they name, once, and holds them
// against their sums. Its error is one that kept it from going on.
func (r *Repository) Verify(ctx context.Context, snapshots []string) (*Verification, error) {
	v := &Verification{Snapshots: len(snapshots), Findings: []string{}}
	var named marks
	var whole []*Manifest
	for _, name := range snapshots {
		m, err := r.Manifest(ctx, name)
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			v.find(err)
			continue
		}
		for _, p := range m.Parts {
			if p.Name == Blobs {
				continue
			}
			if err := r.readPart(ctx, m, p.Name); err != nil && ctx.Err() == nil {
				v.find(err)
			}
			v.Bytes += p.Stored
		}
		count, ok := int64(0), true
		for row, err := range r.BlobRows(ctx, m) {
			if err != nil {
				v.find(err)
				ok = false
				break
			}
			count++
			named = append(named, row.mark())
		}
		if ok && count != m.Blobs.Count {
			v.find(fmt.Errorf("%s of snapshot %s: %w: it has %d lines, and had %d", Blobs, name, ErrDamaged, count, m.Blobs.Count))
		}
		if ok {
			whole = append(whole, m)
		}
		slices.SortFunc(named, compareMarks)
		named = slices.Compact(named)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	there, err := r.verifyBlobs(ctx, named, v)
	if err != nil {
		return nil, err
	}
	if len(there) == len(named) {
		return v, nil
	}
	told := make(map[mark]bool)
	for _, m := range whole {
		for row, err := range r.BlobRows(ctx, m) {
			if err != nil {
				return nil, err
			}
			if k := row.mark(); !there.has(k) && !told[k] {
				told[k] = true
				v.find(fmt.Errorf("blob %s of snapshot %s: %w, or of another size", row, m.Snapshot, ErrNotFound))
			}
		}
	}
	return v, nil
}

func (r *Repository) readPart(ctx context.Context, m *Manifest, name string) error {
	part, err := r.OpenPart(ctx, m, name)
	if err != nil {
		return err
	}
	defer part.Close()
	_, err = io.Copy(io.Discard, part)
	return err
}

// verifyBlobs reads those blobs that are named, and returns which were there.
func (r *Repository) verifyBlobs(ctx context.Context, named marks, v *Verification) (there marks, err error) {
	var mu sync.Mutex
	all, reading := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	for o, err := range r.Store.List(reading, "blobs/") {
		if err != nil {
			return nil, errors.Join(fmt.Errorf("list blobs: %w", err), all.Wait())
		}
		did, cid, ok := blobOf(o.Name)
		row := BlobRow{DID: did, CID: cid, Size: o.Size}
		if !ok || !named.has(row.mark()) {
			continue
		}
		all.Go(func() error {
			file, err := r.OpenBlob(reading, row)
			if err == nil {
				_, err = io.Copy(io.Discard, file)
				err = errors.Join(err, file.Close())
			}
			if reading.Err() != nil {
				return context.Cause(reading)
			}
			mu.Lock()
			defer mu.Unlock()
			there = append(there, row.mark())
			v.Blobs++
			v.Bytes += row.Size
			if err != nil {
				v.find(err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(there, compareMarks)
	return there, nil
}
