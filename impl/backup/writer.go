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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/errgroup"

	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
)

// atOnce is how many blobs are sent, read or removed at a time.
const atOnce = 8

// A BlobRow is a blob that the database knows.
type BlobRow struct {
	DID       syntax.DID
	CID       dagcbor.CID
	Size      int64  // in bytes
	Key       string // of its temporary file, while no record names it; else empty
	TakenDown bool
}

// A mark stands for a blob of a size: 16 bytes, since there are many.
type mark [16]byte

func (r BlobRow) mark() mark {
	sum := sha256.Sum256([]byte(r.DID.String() + "/" + r.CID.String() + "/" + strconv.FormatInt(r.Size, 10)))
	return mark(sum[:16])
}

func (r BlobRow) String() string { return r.DID.String() + "/" + r.CID.String() }

// marks are sorted, which takes no more than themselves.
type marks []mark

func compareMarks(a, b mark) int { return strings.Compare(string(a[:]), string(b[:])) }

func (m marks) has(k mark) bool {
	_, ok := slices.BinarySearchFunc(m, k, compareMarks)
	return ok
}

// A Writer writes one snapshot. It is used by one goroutine.
type Writer struct {
	// Context ends when another process has come to write to the store.
	Context context.Context
	// Sent is how many blobs the writer has brought to the store, and their bytes.
	Sent, SentBytes int64

	r      *Repository
	hold   *Hold
	name   string
	server string
	parts  []Part
	had    marks         // in the store since before
	added  map[mark]bool // by this writer
}

// Begin begins a snapshot: ErrBusy while another process writes. server is the one that
// it is of, as in [Manifest]; ErrForeign when the latest snapshot is of another, also of one
// with another key, and an error when its manifest cannot be read. What is left of snapshots
// that were never finished is removed. Who begins must Close.
func (r *Repository) Begin(ctx context.Context, server string) (_ *Writer, err error) {
	hold, err := r.Store.Lock(ctx)
	if err != nil {
		return nil, err
	}
	w := &Writer{Context: hold.Context, r: r, hold: hold, server: server, added: make(map[mark]bool)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	complete, others, err := r.names(w.Context)
	if err != nil {
		return nil, err
	}
	at := r.Now()
	if len(complete) > 0 {
		name := complete[len(complete)-1]
		latest, err := r.unproved(w.Context, name)
		if err != nil {
			return nil, fmt.Errorf("look whose backups these are: %w", err)
		}
		if latest.Server != server {
			return nil, fmt.Errorf("%w, %s: name another", ErrForeign, printable(latest.Hostname))
		}
		// The latest made has the latest name: also of several in a second, and when the
		// clock was put back a little.
		if before := timeOf(name); !at.Truncate(time.Second).After(before) && before.Sub(at) < time.Hour {
			at = before.Add(time.Second)
		}
	}
	w.name = newName(at)
	for _, name := range others {
		if err := r.remove(w.Context, name); err != nil {
			return nil, err
		}
	}
	for o, err := range r.Store.List(w.Context, "blobs/") {
		if err != nil {
			return nil, fmt.Errorf("list blobs: %w", err)
		}
		if did, cid, ok := blobOf(o.Name); ok {
			w.had = append(w.had, BlobRow{DID: did, CID: cid, Size: o.Size}.mark())
		}
	}
	slices.SortFunc(w.had, compareMarks)
	return w, nil
}

// Close ends the writing. Without [Writer.Finish] there is no snapshot.
func (w *Writer) Close() error { return w.hold.Release() }

func (w *Writer) has(k mark) bool { return w.had.has(k) || w.added[k] }

// Send brings those blobs to the store that it lacks, wherever they are in source. It
// returns those that are nowhere there, or are not what their CID says.
func (w *Writer) Send(source blob.Store, rows iter.Seq2[BlobRow, error]) (missing map[string]bool, err error) {
	missing = make(map[string]bool)
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(w.Context)
	all.SetLimit(atOnce)
	for row, err := range rows {
		if err != nil {
			return nil, errors.Join(err, all.Wait())
		}
		if ctx.Err() != nil {
			break
		}
		k := row.mark()
		mu.Lock()
		has := w.has(k)
		mu.Unlock()
		if has {
			continue
		}
		all.Go(func() error {
			sent, err := w.send(ctx, source, row)
			if err != nil {
				return fmt.Errorf("blob %s: %w", row, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !sent {
				missing[row.String()] = true
				return nil
			}
			w.added[k] = true
			w.Sent++
			w.SentBytes += row.Size
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	return missing, context.Cause(w.Context)
}

// tries is how often a blob is sent at most, since requests fail now and then.
const tries = 3

func (w *Writer) send(ctx context.Context, source blob.Store, row BlobRow) (sent bool, err error) {
	for try := 1; ; try++ {
		sent, err = w.sendOnce(ctx, source, row)
		if err == nil || ctx.Err() != nil || try == tries {
			return sent, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(try*try) * 100 * time.Millisecond):
		}
	}
}

func (w *Writer) sendOnce(ctx context.Context, source blob.Store, row BlobRow) (bool, error) {
	// It may be on its way from one place to another, and in each it is under its CID.
	names := []blob.Name{blob.PermanentName(row.DID, row.CID), blob.QuarantineName(row.DID, row.CID), blob.PermanentName(row.DID, row.CID)}
	if row.Key != "" {
		names = slices.Insert(names, 0, blob.TemporaryName(row.DID, row.Key))
	}
	for _, name := range names {
		file, info, err := source.Open(ctx, name)
		if errors.Is(err, blob.ErrNotFound) || err == nil && info.Size != row.Size {
			if err == nil {
				file.Close()
			}
			continue
		}
		if err != nil {
			return false, err
		}
		reader := &proved{r: file, row: row, sum: sha256.New()}
		if row.Size == 0 && !reader.right() {
			err = errOther // nobody would read it
		} else {
			err = w.r.Store.Put(ctx, blobPath(row.DID, row.CID), reader, row.Size)
		}
		file.Close()
		if reader.other || errors.Is(err, errOther) {
			continue
		}
		return err == nil, err
	}
	return false, nil
}

var errOther = errors.New("its bytes are those of another blob")

// proved reads a blob. Its last bytes are given only when all are what the CID says.
type proved struct {
	r   io.Reader
	row BlobRow
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	n     int64
	other bool // they are not; whoever reads may not pass the error on
}

func (p *proved) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.sum.Write(b[:n])
	p.n += int64(n)
	if p.n > p.row.Size || p.n == p.row.Size && n > 0 && !p.right() || err == io.EOF && (p.n < p.row.Size || p.n == 0 && !p.right()) {
		p.other = true
		return 0, errOther
	}
	return n, err
}

func (p *proved) right() bool {
	c := dagcbor.CID{0x01, dagcbor.CodecRaw, 0x12, sha256.Size}
	p.sum.Sum(c[:4])
	return c == p.row.CID
}

// Blobs stores the list of those blobs that the store has by now, as the database has them
// that goes into the snapshot.
func (w *Writer) Blobs(rows iter.Seq2[BlobRow, error]) (BlobCount, error) {
	var count BlobCount
	reader, writer := io.Pipe()
	listed := make(chan struct{})
	go func() {
		defer close(listed)
		out := bufio.NewWriter(writer)
		err := func() error {
			for row, err := range rows {
				if err != nil {
					return err
				}
				if !w.has(row.mark()) {
					count.Missing++
					continue
				}
				count.Count++
				count.Bytes += row.Size
				if _, err := out.WriteString(row.line()); err != nil {
					return err
				}
			}
			return out.Flush()
		}()
		writer.CloseWithError(err)
	}()
	err := w.Part(Blobs, reader)
	reader.CloseWithError(io.ErrClosedPipe)
	<-listed
	return count, err
}

// A line of the list of blobs is: DID, CID, size, and - or taken-down.
func (r BlobRow) line() string {
	state := "-"
	if r.TakenDown {
		state = "taken-down"
	}
	return fmt.Sprintf("%s %s %d %s\n", r.DID, r.CID, r.Size, state)
}

func parseLine(line string) (r BlobRow, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 4 || fields[3] != "-" && fields[3] != "taken-down" {
		return r, errors.New("no line of a list of blobs")
	}
	did, cid, ok := blobOf("blobs/" + fields[0] + "/" + fields[1])
	if !ok {
		return r, errors.New("no name of a blob")
	}
	r = BlobRow{DID: did, CID: cid, TakenDown: fields[3] != "-"}
	if r.Size, err = strconv.ParseInt(fields[2], 10, 64); err != nil || r.Size < 0 || r.Size > mostBytes {
		return r, errors.New("no size of a blob")
	}
	return r, nil
}

// Part stores a part of the snapshot, see [Database] and those beside it.
func (w *Writer) Part(name string, from io.Reader) error {
	p, err := w.r.put(w.Context, w.name, name, from)
	if err == nil {
		w.parts = append(w.parts, p)
	}
	return err
}

// Finish makes the snapshot: with the manifest, of which the caller says what it knows.
func (w *Writer) Finish(m Manifest) (*Manifest, error) {
	m.Format, m.Version, m.Snapshot, m.Parts, m.Ended = format, version, w.name, w.parts, w.r.Now().UTC().Truncate(time.Second)
	m.Time = m.Time.UTC().Truncate(time.Second)
	if m.Absent == nil {
		m.Absent = []string{}
	}
	if err := m.check(w.name); err != nil {
		return nil, err
	}
	text, err := m.encode(w.r.Key)
	if err != nil {
		return nil, err
	}
	if err := w.hold.Still(w.Context); err != nil {
		return nil, err
	}
	err = w.r.Store.Put(w.Context, partPath(w.name, manifestName), strings.NewReader(string(text)), int64(len(text)))
	if err != nil {
		return nil, fmt.Errorf("store manifest: %w", err)
	}
	return &m, nil
}

// remove removes a snapshot, its manifest first.
func (r *Repository) remove(ctx context.Context, name string) error {
	if err := r.Store.Remove(ctx, partPath(name, manifestName)); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", name, err)
	}
	var files []string
	for o, err := range r.Store.List(ctx, "snapshots/"+name+"/") {
		if err != nil {
			return fmt.Errorf("remove snapshot %s: %w", name, err)
		}
		files = append(files, o.Name)
	}
	for _, file := range files {
		if err := r.Store.Remove(ctx, file); err != nil {
			return fmt.Errorf("remove snapshot %s: %w", name, err)
		}
	}
	return nil
}

// Keep says which snapshots are kept: the latest one always, and the latest of each of as
// many hours, days and weeks (of UTC) that have one. The zero Keep keeps all.
type Keep struct{ Hours, Days, Weeks int }

// kept is the names that stay, of those given in the order of their times.
func (k Keep) kept(names []string) map[string]bool {
	kept := make(map[string]bool)
	for i, name := range names {
		if k == (Keep{}) || i == len(names)-1 {
			kept[name] = true
		}
	}
	for _, rule := range []struct {
		count int
		of    func(time.Time) string
	}{
		{k.Hours, func(t time.Time) string { return t.Format("2006-01-02 15") }},
		{k.Days, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{k.Weeks, func(t time.Time) string { year, week := t.ISOWeek(); return fmt.Sprint(year, " ", week) }},
	} {
		seen := make(map[string]bool)
		for _, name := range slices.Backward(names) {
			if at := rule.of(timeOf(name)); !seen[at] && len(seen) < rule.count {
				seen[at] = true
				kept[name] = true
			}
		}
	}
	return kept
}

// Pruned is what was removed.
type Pruned struct {
	Snapshots int   `json:"snapshots"`
	Blobs     int   `json:"blobs"`
	Bytes     int64 `json:"bytes"` // of the blobs
}

// grace is how old a blob must be that is removed.
const grace = 24 * time.Hour

// Prune removes, after Finish, the snapshots of this server that are not to be kept, and once
// in a day the blobs that none of those that are left names: not one while a snapshot cannot
// be read. What is of another server, or has a manifest that cannot be read, stays.
func (w *Writer) Prune(keep Keep) (Pruned, error) {
	var p Pruned
	all, _, err := w.r.names(w.Context)
	if err != nil || keep == (Keep{}) {
		return p, err
	}
	if !slices.Contains(all, w.name) {
		return p, errors.New("nothing is removed before there is a new snapshot")
	}
	var names []string
	var failed []error
	for _, name := range all {
		m, err := w.r.unproved(w.Context, name)
		if err := context.Cause(w.Context); err != nil {
			return p, err
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("not removed, however old it is: %w", err))
		} else if m.Server == w.server {
			names = append(names, name)
		}
	}
	kept := keep.kept(names)
	var left []string
	for _, name := range all {
		if kept[name] || !slices.Contains(names, name) {
			left = append(left, name)
			continue
		}
		if err := w.hold.Still(w.Context); err != nil {
			return p, err
		}
		if err := w.r.remove(w.Context, name); err != nil {
			return p, err
		}
		p.Snapshots++
	}
	// The first of a day: this one is the only one.
	day := w.name[:8]
	if !slices.ContainsFunc(names, func(name string) bool { return name != w.name && name[:8] == day }) {
		failed = append(failed, w.removeBlobs(left, &p))
	}
	return p, errors.Join(failed...)
}

func (w *Writer) removeBlobs(left []string, p *Pruned) error {
	var named marks
	for _, name := range left {
		m, err := w.r.Manifest(w.Context, name)
		if err != nil {
			return fmt.Errorf("no blob is removed: %w", err)
		}
		for row, err := range w.r.BlobRows(w.Context, m) {
			if err != nil {
				return fmt.Errorf("no blob is removed: %w", err)
			}
			row.Size = 0 // of whatever size it is in the store
			named = append(named, row.mark())
		}
		slices.SortFunc(named, compareMarks)
		named = slices.Compact(named)
	}
	if err := w.hold.Still(w.Context); err != nil {
		return err
	}
	old := w.r.Now().Add(-grace)
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(w.Context)
	all.SetLimit(atOnce)
	for o, err := range w.r.Store.List(ctx, "blobs/") {
		if err != nil {
			return errors.Join(fmt.Errorf("list blobs: %w", err), all.Wait())
		}
		did, cid, ok := blobOf(o.Name)
		if !ok || !o.Modified.Before(old) || named.has(BlobRow{DID: did, CID: cid}.mark()) {
			continue
		}
		all.Go(func() error {
			if err := w.r.Store.Remove(ctx, o.Name); err != nil {
				return fmt.Errorf("remove blob: %w", err)
			}
			mu.Lock()
			defer mu.Unlock()
			p.Blobs++
			p.Bytes += o.Size
			return nil
		})
	}
	return all.Wait()
}
