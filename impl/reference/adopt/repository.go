package adopt

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/blob"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

var (
	// errRecords says that the table of records is not what the tree has.
	errRecords = errors.New("table of records differs from the tree")
	// errRow says that a row has what it cannot have.
	errRow = errors.New("row is damaged")
	// errTarget says that what failed is not the source.
	errTarget = errors.New("write to the new database")
)

const (
	// smallStore is up to how many bytes of blocks a store is read into memory, in the order
	// in which it lies on disk; of larger ones blocks are asked for one by one.
	smallStore = 4 << 20
	// batchRows and batchBytes are how much of a large store is written at a time.
	batchRows, batchBytes = 5000, 4 << 20
)

// A figures counts what was read of stores.
type figures struct {
	Repositories int64 `json:"repositories"`
	Blocks       int64 `json:"blocks"`  // rows
	Dropped      int64 `json:"dropped"` // of those: what no root leads to
	Nodes        int64 `json:"nodes"`
	Records      int64 `json:"records"`
	Twins        int64 `json:"twins"`    // records of the same value as another one of the account
	Mentions     int64 `json:"mentions"` // of blobs
	Blobs        int64 `json:"blobs"`
	BlobsDropped int64 `json:"blobsDropped"` // of those: without a name that a blob can have
	Preferences  int64 `json:"preferences"`
	// Preferring are the accounts that have preferences.
	Preferring int64 `json:"preferring"`
}

func (f *figures) add(g figures) {
	f.Repositories += g.Repositories
	f.Blocks += g.Blocks
	f.Dropped += g.Dropped
	f.Nodes += g.Nodes
	f.Records += g.Records
	f.Twins += g.Twins
	f.Mentions += g.Mentions
	f.Blobs += g.Blobs
	f.BlobsDropped += g.BlobsDropped
	f.Preferences += g.Preferences
	f.Preferring += g.Preferring
}

// A batch is some rows of a repository, to be written together.
type batch struct {
	nodes       []db.Node
	records     []db.Record
	mentions    []db.RecordBlob
	collections []string
	blobs       []db.Blob
	count       int
	bytes       int
}

func (r *batch) full() bool { return r.count >= batchRows || r.bytes >= batchBytes }

func (r *batch) grow(bytes int) {
	r.count++
	r.bytes += bytes
}

// write stores the rows in the place of those that an earlier run left there, which are the
// same.
func (r *batch) write(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	if err := tx.PutNodes(ctx, did, r.nodes...); err != nil {
		return err
	}
	if err := tx.PutRecords(ctx, did, r.records...); err != nil {
		return err
	}
	if err := tx.PutRecordBlobs(ctx, did, r.mentions); err != nil {
		return err
	}
	for _, name := range r.collections {
		if err := tx.AddCollection(ctx, did, name); err != nil {
			return err
		}
	}
	return tx.PutBlobs(ctx, did, r.blobs...)
}

// A repository is one that was read: all of it, or what of it is not written yet.
type repository struct {
	did         syntax.DID
	row         db.Repo // but for the figures of blobs
	rows        batch
	preferences []json.RawMessage
	figures     figures
	findings    []Finding
}

// finish writes what is left of the repository, and its row, which says that all is there.
func (r *repository) finish(ctx context.Context, tx *db.Tx) error {
	if err := r.rows.write(ctx, tx, r.did); err != nil {
		return err
	}
	if err := tx.PutPreferences(ctx, r.did, r.preferences); err != nil {
		return err
	}
	row := r.row
	if r.figures.Blobs > 0 || r.figures.Mentions > 0 {
		counts, err := tx.BlobCounts(ctx, r.did)
		if err != nil {
			return err
		}
		row.ExpectedBlobs, row.ImportedBlobs = counts.Expected, counts.Imported
	}
	return tx.InsertRepo(ctx, r.did, row)
}

// A reading goes through the store of one account and checks it: that every block is what
// its name says, that the tree is whole and the one tree of its keys, and that it has the
// records of the table.
type reading struct {
	repository
	store *reference.Store
	// flush writes the rows so far. Nil: they are few, and kept.
	flush func(*batch) error
	// blocks are all of a small store.
	blocks map[dagcbor.CID]*block
	// reached has the beginnings of the names of the blocks of a large store that the root
	// led to, with doubles.
	reached []uint64
	rev     string // of the block that was asked for last
	// mentions and mentioned are sums over the mentions of blobs that the table has, and
	// that the records' values have.
	tabled, valued sum

	next    func() (reference.Record, error, bool)
	current reference.Record // the next row of the table
	more    bool
}

type block struct {
	rev     string
	data    []byte
	reached bool
}

// A sum is of a set, whatever the order in which its members come.
type sum struct{ count, of uint64 }

func (s *sum) add(path string, cid []byte) {
	hash := dagcbor.Sum(dagcbor.CodecRaw, append([]byte(path+" "), cid...))
	s.count++
	s.of += prefix(hash)
}

func prefix(name dagcbor.CID) uint64 { return binary.BigEndian.Uint64(name[4:]) }

// errLarge says that a store is not read into memory.
var errLarge = errors.New("store is large")

// readSmall reads the store of an account whole. It returns errLarge for one that is not
// small; all other errors but the context's are of a store that is damaged.
func readSmall(ctx context.Context, s *reference.Store, did syntax.DID) (*repository, error) {
	r := &reading{repository: repository{did: did}, store: s, blocks: make(map[dagcbor.CID]*block)}
	bytes := 0
	for b, err := range s.Blocks(ctx) {
		if err != nil {
			return nil, err
		}
		name, err := dagcbor.ParseCID(b.CID)
		if err != nil {
			return nil, fmt.Errorf("%w: block %q: %w", errRow, b.CID, err)
		}
		if bytes += len(b.Content); bytes > smallStore {
			return nil, errLarge
		}
		r.blocks[name] = &block{rev: b.RepoRev, data: b.Content}
	}
	r.figures.Blocks = int64(len(r.blocks))
	if err := r.all(ctx); err != nil {
		return nil, err
	}
	reached := 0
	for _, b := range r.blocks {
		if b.reached {
			reached++
		}
	}
	r.end(reached)
	return &r.repository, nil
}

// readLarge reads the store of an account and lets flush write its rows, some at a time,
// but for the last.
func readLarge(ctx context.Context, s *reference.Store, did syntax.DID, flush func(*batch) error) (*repository, error) {
	r := &reading{repository: repository{did: did}, store: s, flush: flush}
	var err error
	if r.figures.Blocks, err = s.BlockCount(ctx); err != nil {
		return nil, err
	}
	if err := r.all(ctx); err != nil {
		return nil, err
	}
	slices.Sort(r.reached)
	r.end(len(slices.Compact(r.reached)))
	return &r.repository, nil
}

// end counts, when all is read, with how many blocks that were reached.
func (r *reading) end(reached int) {
	r.figures.Dropped = r.figures.Blocks - int64(reached)
	r.figures.Nodes, r.figures.Records = int64(r.row.Nodes), int64(r.row.Records)
	r.figures.Twins = 1 + r.figures.Nodes + r.figures.Records - int64(reached)
}

// all reads all of the store.
func (r *reading) all(ctx context.Context) error {
	r.figures.Repositories = 1
	data, err := r.commit(ctx)
	if err != nil {
		return err
	}
	if err := r.tree(ctx, data); err != nil {
		return err
	}
	if err := r.blobs(ctx); err != nil {
		return err
	}
	if err := r.mentions(ctx); err != nil {
		return err
	}
	return r.prefer(ctx)
}

// commit reads the root, and returns that of the tree.
func (r *reading) commit(ctx context.Context) (data dagcbor.CID, err error) {
	root, err := r.store.Root(ctx)
	if err != nil {
		return data, err
	}
	name, err := dagcbor.ParseCID(root.CID)
	if err != nil {
		return data, fmt.Errorf("%w: root %q: %w", errRow, root.CID, err)
	}
	if _, err := syntax.ParseTID(root.Rev); err != nil {
		return data, fmt.Errorf("%w: rev %q of the root: %w", errRow, root.Rev, err)
	}
	b, err := r.block(ctx, name)
	if err != nil {
		return data, fmt.Errorf("commit: %w", err)
	}
	if err := (car.Block{CID: name, Data: b.data}).Check(); err != nil {
		return data, fmt.Errorf("commit: %w", err)
	}
	c, err := repo.ParseCommit(b.data)
	if err != nil {
		return data, fmt.Errorf("commit %s: %w", name, err)
	}
	r.row = db.Repo{CommitCID: name[:], CommitBlock: b.data, Rev: root.Rev}
	return c.Data, nil
}

// block returns the block with a name, or tree.ErrMissing. That it is what the name says
// is for who asks.
func (r *reading) block(ctx context.Context, name dagcbor.CID) (*block, error) {
	if r.blocks != nil {
		b := r.blocks[name]
		if b == nil {
			return nil, fmt.Errorf("%w: block %s", tree.ErrMissing, name)
		}
		b.reached = true
		return b, nil
	}
	b, err := r.store.Block(ctx, name.String())
	if errors.Is(err, db.ErrNotFound) {
		return nil, fmt.Errorf("%w: block %s", tree.ErrMissing, name)
	}
	if err != nil {
		return nil, err
	}
	r.reached = append(r.reached, prefix(name))
	return &block{rev: b.RepoRev, data: b.Content}, nil
}

// tree goes through the tree and, beside it, through the table of records.
func (r *reading) tree(ctx context.Context, data dagcbor.CID) error {
	next, stop := iter.Pull2(r.store.Records(ctx))
	defer stop()
	r.next = next
	if err := r.advance(); err != nil {
		return err
	}
	root, err := tree.Walk(ctx, tree.Root{CID: data, Layer: tree.AnyLayer}, r.node, tree.Visitor{
		Node: func(row tree.Row) error {
			r.row.Nodes++
			r.rows.nodes = append(r.rows.nodes, db.Node{
				Low: row.Place.Low, Layer: row.Place.Layer, CID: row.CID[:], Rev: r.rev, Data: row.Data,
			})
			r.rows.grow(len(row.Data))
			return r.flushed()
		},
		Record: func(path string, name dagcbor.CID) error { return r.record(ctx, path, name) },
	})
	if err != nil {
		return err
	}
	if r.more {
		return fmt.Errorf("%w: %s is not in the tree", errRecords, r.current.URI)
	}
	r.row.DataCID, r.row.Layer = root.CID[:], root.Layer
	return nil
}

// node is a [tree.Getter].
func (r *reading) node(ctx context.Context, _ tree.Place, name dagcbor.CID) ([]byte, error) {
	b, err := r.block(ctx, name)
	if err != nil {
		return nil, err
	}
	r.rev = b.rev
	return b.data, nil
}

func (r *reading) flushed() error {
	if r.flush == nil || !r.rows.full() {
		return nil
	}
	err := r.flush(&r.rows)
	last := r.rows.collections
	r.rows = batch{collections: last[max(0, len(last)-1):]}
	return err
}

// advance goes on in the table of records.
func (r *reading) advance() (err error) {
	r.current, err, r.more = r.next()
	return err
}

// record takes a record of the tree with its row of the table.
func (r *reading) record(ctx context.Context, path string, name dagcbor.CID) error {
	of := r.current
	switch uri := "at://" + r.did.String() + "/" + path; {
	case !r.more || of.URI > uri:
		return fmt.Errorf("%w: %s is not in the table", errRecords, uri)
	case of.URI < uri:
		return fmt.Errorf("%w: %s is not in the tree", errRecords, of.URI)
	case of.CID != name.String():
		return fmt.Errorf("%w: %s has another CID", errRecords, uri)
	}
	b, err := r.block(ctx, name)
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	if err := (car.Block{CID: name, Data: b.data}).Check(); err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	at, err := reference.ParseTime(of.IndexedAt)
	if err != nil {
		return fmt.Errorf("%w: record %s: %w", errRow, path, err)
	}
	r.row.Records++
	row := db.Record{Path: path, CID: name[:], Rev: of.RepoRev, IndexedAt: at, TakedownRef: takedown(of.TakedownRef), Value: b.data}
	r.index(&row)
	r.rows.records = append(r.rows.records, row)
	r.rows.grow(len(row.Value))
	if collection := store.Collection(path).String(); len(r.rows.collections) == 0 || r.rows.collections[len(r.rows.collections)-1] != collection {
		r.rows.collections = append(r.rows.collections, collection)
	}
	if err := r.flushed(); err != nil {
		return err
	}
	return r.advance()
}

// index takes what is kept beside a record from its value: where it points, and the blobs
// that it mentions.
func (r *reading) index(row *db.Record) {
	index, err := store.Index(row)
	if err != nil {
		// It is what its name says, and stays so. It just has no JSON.
		r.find("record-unreadable", "record "+row.Path+" is not one that can be shown: "+err.Error())
		return
	}
	row.LinkTo = index.LinkTo
	for _, name := range index.Blobs {
		r.rows.mentions = append(r.rows.mentions, db.RecordBlob{Path: row.Path, CID: name[:]})
		r.rows.grow(len(row.Path) + len(name))
		r.valued.add(row.Path, name[:])
	}
}

func (r *reading) find(name, text string) {
	r.findings = append(r.findings, Finding{Name: name, DID: r.did, Text: text})
}

// takedown is the reference of a takedown: one that says nothing is one, too.
func takedown(ref *string) string {
	if ref == nil {
		return ""
	}
	if *ref == "" {
		return "taken down"
	}
	return *ref
}

// blobs reads the table of blobs.
func (r *reading) blobs(ctx context.Context) error {
	for b, err := range r.store.Blobs(ctx) {
		if err != nil {
			return err
		}
		r.figures.Blobs++
		name, err := parseBlobCID(b.CID)
		if err != nil {
			r.figures.BlobsDropped++
			r.find("blob-name", fmt.Sprintf("blob %q has no name that a blob can have, and is left behind", b.CID))
			continue
		}
		at, err := reference.ParseTime(b.CreatedAt)
		if err != nil {
			return fmt.Errorf("%w: blob %s: %w", errRow, b.CID, err)
		}
		row := db.Blob{CID: name[:], MIME: b.MimeType, Size: b.Size, CreatedAt: at, TakedownRef: takedown(b.TakedownRef)}
		if b.TempKey != nil {
			row.TempKey = *b.TempKey
			if !blob.IsKey(row.TempKey) {
				r.figures.BlobsDropped++
				r.find("blob-name", fmt.Sprintf("blob %s waits under %q, where none can be, and is left behind", b.CID, row.TempKey))
				continue
			}
		}
		r.rows.blobs = append(r.rows.blobs, row)
		r.rows.grow(100)
		if err := r.flushed(); err != nil {
			return err
		}
	}
	return nil
}

// parseBlobCID reads a CID that a blob can have.
func parseBlobCID(text string) (dagcbor.CID, error) {
	name, err := dagcbor.ParseCID(text)
	if err == nil && name[1] != dagcbor.CodecRaw {
		err = fmt.Errorf("%w: %q is of no blob", errRow, text)
	}
	return name, err
}

// mentions compares the table of mentions of blobs with what the records say, which counts:
// this server keeps a blob as long as a record names it.
func (r *reading) mentions(ctx context.Context) error {
	own := "at://" + r.did.String() + "/"
	for m, err := range r.store.RecordBlobs(ctx) {
		if err != nil {
			return err
		}
		r.figures.Mentions++
		name, err := dagcbor.ParseCID(m.BlobCID)
		if err != nil || len(m.RecordURI) < len(own) || m.RecordURI[:len(own)] != own {
			r.tabled.count++
			continue
		}
		r.tabled.add(m.RecordURI[len(own):], name[:])
	}
	if r.tabled != r.valued {
		r.find("mentions-differ", fmt.Sprintf(
			"the table of mentions of blobs has %d rows, the records have %d: it is made anew from the records", r.tabled.count, r.valued.count))
	}
	r.figures.Mentions = int64(r.valued.count)
	return nil
}

// prefer reads the preferences.
func (r *reading) prefer(ctx context.Context) error {
	for p, err := range r.store.Preferences(ctx) {
		if err != nil {
			return err
		}
		if !json.Valid([]byte(p.ValueJSON)) {
			return fmt.Errorf("%w: preference %d is not JSON", errRow, p.ID)
		}
		// What is no object may keep all of them from their owner.
		if !strings.HasPrefix(strings.TrimLeft(p.ValueJSON, " \t\r\n"), "{") {
			r.find("preference-left", fmt.Sprintf("preference %d is no object, and is left behind", p.ID))
			continue
		}
		r.preferences = append(r.preferences, json.RawMessage(p.ValueJSON))
		r.figures.Preferences++
	}
	if len(r.preferences) > 0 {
		r.figures.Preferring = 1
	}
	return nil
}
