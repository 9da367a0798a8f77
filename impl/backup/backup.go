// Package backup keeps backups of a server in a folder or in an S3 bucket: many of them,
// which share the blobs.
//
// What lies there is a promise to those who will read it in years:
//
//	snapshots/20260131T040000Z-abcdefghij/manifest.json
//	snapshots/20260131T040000Z-abcdefghij/database     and other parts, see [Part]
//	blobs/DID/CID                                      as they were uploaded
//	lock or lease.json                                 who writes now, if anybody does
//
// A snapshot is there only with its manifest, which is written last and says of each part
// how long it is and its SHA-256. A part is compressed by zstd; those with secrets, and the
// database, are sealed after that where there is a [Key]: in a bucket always. Blobs are
// neither: whoever reads the store reads them, and a CID proves each. A blob is there once
// for all snapshots that name it.
//
// The key also signs the manifest, and with it the sums of all parts. So whoever has the
// store, but not the key, can take backups away or offer an older one, and never make one.
//
// One process writes to a store at a time. One that ends in the middle leaves no snapshot,
// but parts without a manifest, which the next removes. Nothing here reads a database: what
// is in a part is the caller's.
package backup

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	// ErrNotFound says that there is no such thing in the store.
	ErrNotFound = errors.New("not in the store")
	// ErrBusy says that another process writes to the store.
	ErrBusy = errors.New("another backup is being written")
	// ErrLost says that another process has come to write to the store meanwhile.
	ErrLost = errors.New("another process writes to the store now")
	// ErrDamaged says that something is not as it was written. The error says what.
	ErrDamaged = errors.New("damaged")
	// ErrKey says that the key is missing, or is not the one that something was sealed with.
	ErrKey = errors.New("key of the backup")
	// ErrVersion says that a later version of this program has made a snapshot.
	ErrVersion = errors.New("made by a later version")
	// ErrForeign says that the store has the backups of another server.
	ErrForeign = errors.New("the store has the backups of another server")
)

const (
	format  = "portico backup"
	version = 1

	manifestName = "manifest.json"
	// manifestMost is how long a manifest is at most.
	manifestMost = 1 << 20
)

// The parts of a snapshot.
const (
	// Database is the database: a file of SQLite, or what pg_dump writes in its own format.
	Database = "database"
	// Blobs is the list of the blobs, see [BlobRow].
	Blobs = "blobs"
	// Secrets is the file of secrets in the data directory.
	Secrets = "secrets"
	// Settings is lines of settings with the secrets that are configured.
	Settings = "settings"
)

var partNames = []string{Database, Blobs, Secrets, Settings}

// A Manifest says what a snapshot is.
type Manifest struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Snapshot is the name of the snapshot.
	Snapshot string `json:"snapshot"`
	// Time is when the database was as it is in the snapshot; Ended when all was there.
	Time  time.Time `json:"time"`
	Ended time.Time `json:"ended"`
	// Server tells servers apart: it stays the same for as long as the database lives.
	Server   string `json:"server"`
	Hostname string `json:"hostname"`
	Release  string `json:"release"`
	Engine   string `json:"engine"` // sqlite or postgres
	Schema   string `json:"schema"` // the last step that the database has seen
	// Oldest is a step that a version has to know to work with the database. Empty: Schema.
	Oldest   string `json:"oldest,omitempty"`
	Sequence int64  `json:"sequence"`
	// Canary is sealed with the key-encryption key of the database, and tells it.
	Canary []byte `json:"canary"`
	Parts  []Part `json:"parts"`
	// Blobs says what the snapshot has of the blobs.
	Blobs BlobCount `json:"blobs"`
	// Absent is the names of the settings with secrets that are not in the snapshot, and
	// without which something is lost.
	Absent []string `json:"absent"`
}

// A Part is a file of a snapshot.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`   // in bytes, of what was backed up
	Stored int64  `json:"stored"` // in bytes, of the file
	SHA256 string `json:"sha256"` // of the file, in hex
	Sealed bool   `json:"sealed"`
}

// BlobCount is what a snapshot has of the blobs.
type BlobCount struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
	// Missing is how many the database knows that were nowhere, or were not what their
	// CID says.
	Missing int64 `json:"missing"`
	// Elsewhere is empty, or says where the blobs are that are not in the store.
	Elsewhere string `json:"elsewhere,omitempty"`
}

// part returns a part by its name.
func (m *Manifest) part(name string) (Part, bool) {
	i := slices.IndexFunc(m.Parts, func(p Part) bool { return p.Name == name })
	if i < 0 {
		return Part{}, false
	}
	return m.Parts[i], true
}

// Has reports whether the snapshot has a part.
func (m *Manifest) Has(name string) bool {
	_, ok := m.part(name)
	return ok
}

// Size is how many bytes a part has when it is read; 0 where there is none.
func (m *Manifest) Size(name string) int64 {
	p, _ := m.part(name)
	return p.Size
}

// Sealed reports whether a key is needed to read the snapshot.
func (m *Manifest) Sealed() bool {
	return slices.ContainsFunc(m.Parts, func(p Part) bool { return p.Sealed })
}

// signed is a manifest as it lies in the store.
type signed struct {
	Manifest json.RawMessage `json:"manifest"`
	// Key is the name of the key, and MAC what it makes of the bytes of the manifest; both
	// are empty where there is no key.
	Key string `json:"key,omitempty"`
	MAC string `json:"mac,omitempty"`
}

var snapshotName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z2-7]{10}$`)

func newName(at time.Time) string {
	var b [8]byte
	rand.Read(b[:])
	random := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))[:10]
	return at.UTC().Format("20060102T150405Z") + "-" + random
}

func partPath(snapshot, part string) string { return "snapshots/" + snapshot + "/" + part }

// encode writes a manifest as it lies in the store.
func (m *Manifest) encode(key *Key) ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	s := signed{Manifest: text}
	if key != nil {
		s.Key, s.MAC = key.name, hex.EncodeToString(key.sign(text))
	}
	return json.Marshal(s)
}

// decode reads the manifest of a snapshot and checks it: what is returned has the names,
// and only those, that this package gives. With a key a manifest without a signature is
// ErrKey, since anybody may have made it.
func decode(text []byte, snapshot string, key *Key) (*Manifest, error) {
	var s signed
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("manifest is %w: %w", ErrDamaged, err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(s.Manifest, m); err != nil {
		return nil, fmt.Errorf("manifest is %w: %w", ErrDamaged, err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("manifest is %w: it is of no backup", ErrDamaged)
	}
	if m.Version > version {
		return nil, fmt.Errorf("%w: its format is %d, and this one reads %d", ErrVersion, m.Version, version)
	}
	switch {
	case s.MAC == "" && key != nil:
		return nil, fmt.Errorf("%w: the snapshot is not sealed; to take it from where nobody else writes, give no key", ErrKey)
	case s.MAC == "" && m.Sealed():
		return nil, fmt.Errorf("manifest is %w: it has no signature", ErrDamaged)
	case s.MAC != "" && key != nil && key.name != s.Key:
		return nil, fmt.Errorf("%w: the snapshot is sealed with %q, and the key is %q", ErrKey, printable(s.Key), key.name)
	case s.MAC != "" && key != nil:
		mac, err := hex.DecodeString(s.MAC)
		if err != nil || !hmac.Equal(mac, key.sign(s.Manifest)) {
			return nil, fmt.Errorf("manifest is %w: its signature is wrong", ErrDamaged)
		}
	}
	if err := m.check(snapshot); err != nil {
		return nil, fmt.Errorf("manifest is %w: %w", ErrDamaged, err)
	}
	return m, nil
}

// printable is the beginning of a text of others, for a message.
func printable(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// mostBytes is more than any part has.
const mostBytes = 1 << 50

func (m *Manifest) check(snapshot string) error {
	if m.Version < 1 {
		return fmt.Errorf("version %d", m.Version)
	}
	if m.Snapshot != snapshot {
		return errors.New("it is of another snapshot")
	}
	if m.Engine != "sqlite" && m.Engine != "postgres" {
		return fmt.Errorf("engine %q", printable(m.Engine))
	}
	seen := make(map[string]bool)
	for _, p := range m.Parts {
		if !slices.Contains(partNames, p.Name) || seen[p.Name] {
			return fmt.Errorf("part %q", printable(p.Name))
		}
		seen[p.Name] = true
		if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("sum of the %s", p.Name)
		}
		if p.Size < 0 || p.Stored < 0 || p.Size > mostBytes || p.Stored > mostBytes {
			return fmt.Errorf("size of the %s", p.Name)
		}
	}
	if b := m.Blobs; b.Count < 0 || b.Missing < 0 || b.Bytes < 0 || b.Bytes > mostBytes {
		return errors.New("count of blobs")
	}
	if !seen[Database] || !seen[Blobs] {
		return errors.New("it has no database, or no list of blobs")
	}
	return nil
}

// A Repository is the backups in one store.
type Repository struct {
	Store Store
	// Key seals what is written and opens what is read; nil: nothing is sealed.
	Key *Key
	Now func() time.Time
}

// A Snapshot is an entry of a listing.
type Snapshot struct {
	Name string
	Time time.Time // of its name
	// Manifest is nil where it cannot be read, for Err.
	Manifest *Manifest
	Err      error
}

// names are the names of the snapshots in the store, in the order of their times, those
// that have a manifest and those that have not.
func (r *Repository) names(ctx context.Context) (complete, others []string, err error) {
	found := make(map[string]bool)
	for o, err := range r.Store.List(ctx, "snapshots/") {
		if err != nil {
			return nil, nil, fmt.Errorf("list snapshots: %w", err)
		}
		rest, _ := strings.CutPrefix(o.Name, "snapshots/")
		name, file, _ := strings.Cut(rest, "/")
		if snapshotName.MatchString(name) {
			found[name] = found[name] || file == manifestName
		}
	}
	for name, whole := range found {
		if whole {
			complete = append(complete, name)
		} else {
			others = append(others, name)
		}
	}
	slices.Sort(complete)
	return complete, others, nil
}

// Snapshots lists the snapshots that have a manifest, the latest first.
func (r *Repository) Snapshots(ctx context.Context) ([]Snapshot, error) {
	names, _, err := r.names(ctx)
	if err != nil {
		return nil, err
	}
	slices.Reverse(names)
	all := make([]Snapshot, len(names))
	for i, name := range names {
		all[i] = Snapshot{Name: name, Time: timeOf(name)}
		all[i].Manifest, all[i].Err = r.Manifest(ctx, name)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func timeOf(name string) time.Time {
	t, _ := time.Parse("20060102T150405Z", name[:16])
	return t
}

// Latest is the name of the latest snapshot. ErrNotFound.
func (r *Repository) Latest(ctx context.Context) (string, error) {
	names, _, err := r.names(ctx)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("snapshot: %w", ErrNotFound)
	}
	if err != nil {
		return "", err
	}
	return names[len(names)-1], nil
}

// unproved is Manifest without the key: what it returns anybody may have written who writes
// to the store, and it tells servers apart that have keys of their own.
func (r *Repository) unproved(ctx context.Context, snapshot string) (*Manifest, error) {
	return (&Repository{Store: r.Store, Now: r.Now}).Manifest(ctx, snapshot)
}

// Manifest reads the manifest of a snapshot and checks all that can be checked of it alone.
func (r *Repository) Manifest(ctx context.Context, snapshot string) (*Manifest, error) {
	if !snapshotName.MatchString(snapshot) {
		return nil, fmt.Errorf("%q is no name of a snapshot", printable(snapshot))
	}
	f, size, err := r.Store.Open(ctx, partPath(snapshot, manifestName))
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: manifest: %w", snapshot, err)
	}
	defer f.Close()
	if size > manifestMost {
		return nil, fmt.Errorf("snapshot %s: manifest is %w: it has %d bytes", snapshot, ErrDamaged, size)
	}
	text, err := io.ReadAll(io.LimitReader(f, manifestMost))
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: read manifest: %w", snapshot, err)
	}
	m, err := decode(bytes.TrimSpace(text), snapshot, r.Key)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", snapshot, err)
	}
	return m, nil
}
