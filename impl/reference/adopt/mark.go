package adopt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account"
)

// ErrChanged says that the source was written to since the adoption began.
var ErrChanged = errors.New("directory has changed since the adoption began")

// The files in the folder of an adoption.
const (
	markName = "adopting" // while it is under way
	// doneName is there from its end to the first start of the server.
	doneName = "adopted"
	// ReportName is the report as JSON.
	ReportName = "adoption.json"
)

// sourceValue is the meta value that says what a database was adopted from, a [Mark], until
// the operator says that it is finished: while it is there deletions stand still.
const sourceValue = account.AdoptionState

// A Mark says of what directory an adoption is, and how that was when it began.
type Mark struct {
	Source      string    `json:"source"`
	Fingerprint string    `json:"fingerprint"`
	Began       time.Time `json:"began"`
	// Old is where the old server answers when it is started again: base URLs.
	Old []string `json:"old"`
	// Layout is where the fingerprint comes from.
	Layout reference.Layout `json:"layout"`
}

// Changed reports whether the source was written to since. One that is gone, or that this
// process must not look at, counts as unchanged.
func (m Mark) Changed() bool {
	if m.Layout.AccountDB == "" {
		return false
	}
	now, err := m.Layout.Fingerprint()
	return err == nil && now != m.Fingerprint
}

// same reports whether both are of one state of one directory.
func (m Mark) same(other Mark) bool {
	return m.Source == other.Source && m.Fingerprint == other.Fingerprint
}

// ReadMark returns the mark in a folder and whether the adoption is done. It returns
// [fs.ErrNotExist] when there is none.
func ReadMark(folder string) (m Mark, done bool, err error) {
	b, err := os.ReadFile(filepath.Join(folder, markName))
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile(filepath.Join(folder, doneName))
		done = true
	}
	if err != nil {
		return Mark{}, false, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Mark{}, false, fmt.Errorf("mark of the adoption in %s: %w", folder, err)
	}
	return m, done, nil
}

// Forget removes the mark of an adoption that is done: the server has started.
func Forget(folder string) error {
	return errors.Join(removeIfThere(filepath.Join(folder, markName)), removeIfThere(filepath.Join(folder, doneName)))
}

// MarkDraft is a file that Begin may leave when it is killed, in a folder that has nothing
// else but a lock.
const MarkDraft = markName + draftEnding

// Begin makes folder, which is there, the one of an adoption of m, or finds that it is one
// already. What an adoption of something else, or of an earlier state of it, has left there
// is removed: again says why, empty otherwise. Blobs stay: they are what their names say.
// It returns db.ErrLocked when another process has the folder.
func Begin(folder string, m Mark) (again string, err error) {
	before, done, err := ReadMark(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err == nil && done:
		again = "the database that was adopted before is gone"
	case err != nil:
		again = "the mark of the adoption cannot be read"
	case before.Source != m.Source:
		again = "the adoption that began here was of " + before.Source
	case !before.same(m):
		again = m.Source + " has changed since the adoption began " + before.Began.UTC().Format(time.RFC3339)
	default:
		return "", nil
	}
	// The draft goes first: one with the new mark would be taken for its own.
	if err := db.RemoveDraft(folder); err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "", err
	}
	if err := writeFile(filepath.Join(folder, markName), append(b, '\n')); err != nil {
		return again, err
	}
	return again, removeIfThere(filepath.Join(folder, doneName))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Scratch makes an empty folder for copies of databases, which no other process uses until
// release is called, and removes it then. It returns db.ErrLocked when one does.
func Scratch(path string) (release func() error, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %s", db.ErrLocked, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// Copies that a process has left that was killed.
	left, err := f.Readdirnames(-1)
	for _, name := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(path, name)))
	}
	release = func() error { return errors.Join(os.RemoveAll(path), f.Close()) }
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

const draftEnding = ".new"

// writeFile puts a file in the place of what has its name, whole and on the disk.
func writeFile(path string, b []byte) (err error) {
	draft := path + draftEnding
	defer func() {
		if err != nil {
			_ = os.Remove(draft)
		}
	}()
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// CheckDraft is for db.Config.Check: it returns ErrChanged unless a draft is empty or of
// the source of m, whose it is then.
func CheckDraft(ctx context.Context, tx *db.Tx, m Mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b, err = tx.MetaOr(ctx, sourceValue, b)
	if err != nil {
		return err
	}
	var of Mark
	if err := json.Unmarshal(b, &of); err != nil {
		return fmt.Errorf("meta value %s: %w", sourceValue, err)
	}
	if !of.same(m) {
		return ErrChanged
	}
	return nil
}

// finish ends the adoption: from then on there is a database that a server opens.
func (a *Adoption) finish(ctx context.Context) error {
	m, _, err := ReadMark(a.Folder)
	if err != nil {
		return err
	}
	if err := a.unchanged(m); err != nil {
		return err
	}
	if err := a.Target.Check(ctx); err != nil {
		return err
	}
	b, err := json.MarshalIndent(a.report, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(a.Folder, ReportName), append(b, '\n')); err != nil {
		return err
	}
	if err := a.Target.Publish(ctx); err != nil {
		return err
	}
	return Settle(a.Folder)
}

// Settle says in the folder of an adoption that it is done. It is what is left to do when
// the database is there already.
func Settle(folder string) error {
	if err := os.Rename(filepath.Join(folder, markName), filepath.Join(folder, doneName)); err != nil {
		return err
	}
	return syncFolder(folder)
}

// unchanged returns an error when the source was written to since m was made, or somebody
// may write to it now.
func (a *Adoption) unchanged(m Mark) error {
	if err := a.Source.InUse(); err != nil {
		return err
	}
	now, err := a.Source.Fingerprint()
	if err != nil {
		return err
	}
	if now != m.Fingerprint {
		return fmt.Errorf("%w: was the old server started? Stop it and run this again", ErrChanged)
	}
	return nil
}
