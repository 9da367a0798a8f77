// Package reference reads the data directory of a reference PDS, the server in TypeScript,
// and writes one: account.sqlite, sequencer.sqlite, and for every account a folder with its
// signing key and store.sqlite.
//
// Reading writes nothing there, not even a lock: SQLite leaves files beside a database that
// it opens for reading, and without its log a database lacks what was written last. So a
// database whose log holds something is copied with it to a scratch folder and read there,
// and others are read in place as what does not change. Whether it did is for the caller to
// compare, see [Source.Fingerprint].
package reference

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/uptrace/bun"
)

// A Layout says where the parts of a data directory are, as whole paths on this machine.
type Layout struct {
	AccountDB   string
	SequencerDB string
	Actors      string // the folder of the stores
	Blobs       string // empty: in a bucket
	Temporary   string // folder of the blobs that no record names yet
	Quarantine  string // folder of the blobs that are taken down
	Settings    string // the file of the settings, may be empty
}

// How a directory is refused.
var (
	// ErrInUse says that a process has one of the databases open.
	ErrInUse = errors.New("directory is in use")
	// ErrTooOld says that the directory is of an edition from before there was a file for
	// each account.
	ErrTooOld = errors.New("edition is too old")
	// ErrUnknownEdition says that a migration was run that is not known here, or one was
	// cut off.
	ErrUnknownEdition = errors.New("edition is not known")
	// ErrEntryway says that accounts live on another server, of which this is a part.
	ErrEntryway = errors.New("server is behind an entryway")
	// ErrDamaged says that a file is not what it must be.
	ErrDamaged = errors.New("file is damaged")
	// ErrNoStore says that an account has no store.
	ErrNoStore = errors.New("no store")
)

// The migrations that are known, by their names in the databases.
var (
	accountMigrations = []string{"001", "002", "003", "004", "005", "006", "007"}
	otherMigrations   = []string{"001"}
)

// Source is a data directory that is read. Its methods may be called by several goroutines.
// Rows that do not have what their table promises end a sequence with ErrDamaged.
type Source struct {
	layout    Layout
	scratch   string
	accounts  *database
	sequencer *database
}

// Open opens the two databases of a directory. Copies go to scratch, a folder of the
// caller's, and leave it with Close; a store takes the room of its copy there while it is
// open. What a process that was killed left in scratch is the caller's to remove.
//
// It returns ErrInUse with the process that has a database open, ErrTooOld,
// ErrUnknownEdition, and ErrDamaged when a database does not pass SQLite's check.
func Open(ctx context.Context, l Layout, scratch string) (_ *Source, err error) {
	s := &Source{layout: l, scratch: scratch}
	if err := s.tooOld(); err != nil {
		return nil, err
	}
	if err := s.InUse(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.accounts, err = openAccounts(ctx, l.AccountDB, scratch); err != nil {
		return nil, err
	}
	if s.sequencer, err = openChecked(ctx, l.SequencerDB, scratch, otherMigrations); err != nil {
		return nil, err
	}
	return s, s.sequencer.need("repo_seq")
}

// CheckAccounts returns an error unless a database of accounts, with the log beside it, can
// be opened and passes SQLite's check.
func CheckAccounts(ctx context.Context, path, scratch string) error {
	d, err := openAccounts(ctx, path, scratch)
	if err != nil {
		return err
	}
	return d.close()
}

func openAccounts(ctx context.Context, path, scratch string) (*database, error) {
	d, err := openChecked(ctx, path, scratch, accountMigrations)
	if err != nil {
		return nil, err
	}
	if err := d.need("actor", "account", "app_password", "refresh_token", "email_token", "invite_code", "invite_code_use"); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func openChecked(ctx context.Context, path, scratch string, known []string) (*database, error) {
	d, err := openDatabase(ctx, path, scratch, known)
	if err != nil || d.copied != "" {
		return d, err
	}
	if err := d.check(ctx); err != nil {
		return nil, errors.Join(d.fail("", err), d.close())
	}
	return d, nil
}

// tooOld looks for the one database that had everything.
func (s *Source) tooOld() error {
	_, err := os.Stat(s.layout.AccountDB)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, old := os.Stat(filepath.Join(filepath.Dir(s.layout.AccountDB), "pds.sqlite")); old == nil {
		return fmt.Errorf("%w: there is pds.sqlite in place of %s", ErrTooOld, filepath.Base(s.layout.AccountDB))
	}
	return err
}

func (s *Source) Close() error {
	var errs []error
	for _, d := range []*database{s.accounts, s.sequencer} {
		if d != nil {
			errs = append(errs, d.close())
		}
	}
	return errors.Join(errs...)
}

// InUse returns ErrInUse, with the process, when one has a database open on this machine.
func (s *Source) InUse() error {
	return errors.Join(inUse(s.layout.AccountDB), inUse(s.layout.SequencerDB))
}

// Migrations are the names of the migrations that were run on account.sqlite.
func (s *Source) Migrations() []string { return slices.Clone(s.accounts.migrations) }

// Fingerprint is that of the layout.
func (s *Source) Fingerprint() (string, error) { return s.layout.Fingerprint() }

// Fingerprint changes with the sizes and times of the two databases, their logs and the
// settings file: one of an earlier time is the same when nothing has been written since. It
// opens none of them.
func (l Layout) Fingerprint() (string, error) {
	files := []string{l.Settings}
	for _, path := range []string{l.AccountDB, l.SequencerDB} {
		path, err := filepath.EvalSymlinks(path)
		if err != nil {
			return "", err
		}
		files = append(files, path)
		for _, suffix := range logs {
			files = append(files, path+suffix)
		}
	}
	h := sha256.New()
	for i, path := range files {
		info, err := os.Stat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		// An empty log is as good as none.
		if err == nil && (info.Size() > 0 || i == 0) {
			fmt.Fprintln(h, i, info.Size(), info.ModTime().UnixNano())
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// The rows of account.sqlite, in the order of their primary keys. An error ends them.

func (s *Source) Actors(ctx context.Context) iter.Seq2[Actor, error] {
	return rows[Actor](ctx, s.accounts, func() (*bun.SelectQuery, error) {
		q, err := selectAll[Actor](s.accounts, "account")
		if err != nil {
			return nil, err
		}
		return q.Join("LEFT JOIN account ON account.did = actor.did").Order("actor.did"), nil
	})
}

func (s *Source) AppPasswords(ctx context.Context) iter.Seq2[AppPassword, error] {
	return ordered[AppPassword](ctx, s.accounts, "did", "name")
}

func (s *Source) RefreshTokens(ctx context.Context) iter.Seq2[RefreshToken, error] {
	return ordered[RefreshToken](ctx, s.accounts, "id")
}

func (s *Source) EmailTokens(ctx context.Context) iter.Seq2[EmailToken, error] {
	return ordered[EmailToken](ctx, s.accounts, "purpose", "did")
}

func (s *Source) InviteCodes(ctx context.Context) iter.Seq2[InviteCode, error] {
	return ordered[InviteCode](ctx, s.accounts, "code")
}

func (s *Source) InviteCodeUses(ctx context.Context) iter.Seq2[InviteCodeUse, error] {
	return ordered[InviteCodeUse](ctx, s.accounts, "code", "usedBy")
}

// RepoRoots are the copies of the roots of the stores, in the order of their DIDs.
func (s *Source) RepoRoots(ctx context.Context) iter.Seq2[RepoRoot, error] {
	return ordered[RepoRoot](ctx, s.accounts, "did")
}

// ordered are the rows of a table in the order of columns.
func ordered[T any](ctx context.Context, d *database, columns ...string) iter.Seq2[T, error] {
	return rows[T](ctx, d, func() (*bun.SelectQuery, error) {
		q, err := selectAll[T](d)
		if err != nil {
			return nil, err
		}
		return q.Order(columns...), nil
	})
}

// OAuthGrants counts the clients that are signed in by OAuth.
func (s *Source) OAuthGrants(ctx context.Context) (int, error) {
	if s.accounts.columns["token"] == nil { // an edition from before
		return 0, nil
	}
	grants := s.accounts.db.NewSelect().TableExpr("token").ColumnExpr("count(*)").Where("did IN (SELECT did FROM actor)")
	var n int64
	err := s.accounts.first(ctx, grants, "token", &n)
	return int(n), err
}

// Events are those with numbers above after, in order.
func (s *Source) Events(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return rows[Event](ctx, s.sequencer, func() (*bun.SelectQuery, error) {
		q, err := selectAll[Event](s.sequencer)
		if err != nil {
			return nil, err
		}
		return q.Where("seq > ?", after).Order("seq"), nil
	})
}

// An EventCount is how many events there are that have all this in common.
type EventCount struct {
	Type        string
	Invalidated bool
	Older       bool
	Events      int64
}

// EventCounts counts the events. Older ones have numbers up to last.
func (s *Source) EventCounts(ctx context.Context, last int64) ([]EventCount, error) {
	d := s.sequencer
	found, err := d.db.NewSelect().TableExpr("repo_seq").Column("eventType", "invalidated").
		ColumnExpr("seq <= ? AS older", last).ColumnExpr("count(*) AS events").GroupExpr("1, 2, 3").Rows(ctx)
	if err != nil {
		return nil, d.fail("table repo_seq", err)
	}
	defer found.Close()
	var counts []EventCount
	for found.Next() {
		var c EventCount
		err := found.Scan(place{&c.Type, "eventType"}, place{&c.Invalidated, "invalidated"}, place{&c.Older, "seq"}, place{&c.Events, "events"})
		if err != nil {
			return nil, d.fail("table repo_seq", damaged(err))
		}
		counts = append(counts, c)
	}
	return counts, d.fail("table repo_seq", found.Err())
}

// LastEvent is the highest number given, whether that event is still there or not, and
// when the last one was sequenced. A sequence that never began has 0 and "".
func (s *Source) LastEvent(ctx context.Context) (seq int64, at string, err error) {
	d := s.sequencer
	last := d.db.NewSelect().TableExpr("repo_seq").Column("seq", "sequencedAt").Order("seq DESC").Limit(1)
	if err := d.first(ctx, last, "repo_seq", &seq, &at); err != nil {
		return 0, "", err
	}
	if d.columns["sqlite_sequence"] == nil {
		return seq, at, nil
	}
	var given int64
	counter := d.db.NewSelect().TableExpr("sqlite_sequence").Column("seq").Where("name = 'repo_seq'")
	err = d.first(ctx, counter, "sqlite_sequence", &given)
	return max(seq, given), at, err
}

// LastBefore is the highest number of the events that were sequenced before a time, 0 when
// none was: those that Events gives after it are not older.
func (s *Source) LastBefore(ctx context.Context, t time.Time) (seq int64, err error) {
	before := s.sequencer.db.NewSelect().TableExpr("repo_seq").ColumnExpr("coalesce(max(seq), 0)").
		Where(`"sequencedAt" < ?`, FormatTime(t))
	err = s.sequencer.first(ctx, before, "repo_seq", &seq)
	return seq, err
}
