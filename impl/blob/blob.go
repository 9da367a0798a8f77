// Package blob keeps the bytes of blobs: in folders of a disk or in an S3 bucket, either
// laid out as the reference does it, so that one server can be pointed at what the other
// left.
//
// A blob is temporary from its upload until a record names it, then permanent, and in
// quarantine while it is taken down. Each account has its own: the same bytes of two
// accounts are two files. A [Store] holds files and knows no rows; these rules, which the
// database and the caller keep, make sure that no row is ever without its bytes:
//
//   - Upload first, then the row with the temporary key. Upload returns when the bytes
//     would outlive a power cut.
//   - MakePermanent first, while the row stands and has its temporary key, then the
//     transaction in which the row loses the key, provided that it is still the same;
//     after COMMIT, and only then, the temporary file is removed.
//   - A permanent file without a row goes under a claim, by [Cleaner.Discard]: while the
//     claim is held no row can come to be for it.
//   - A takedown is in the row before Quarantine moves the file, and stays there until
//     Restore has moved it back.
//
// Whatever ends in between leaves a file without a row, and [Cleaner.Run] finds those.
package blob

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

var (
	// ErrNotFound says that there is no such file.
	ErrNotFound = errors.New("no such blob")
	// ErrName says that a name is none that a store gives: no DID, no CID of a blob, no
	// key.
	ErrName = errors.New("malformed name of a blob")
	// ErrTooLarge says that an upload has more bytes than it may.
	ErrTooLarge = errors.New("blob is too large")
	// ErrBody says that what an upload is read from failed before its end. It comes
	// with the reader's error.
	ErrBody = errors.New("body of the upload")
	// ErrMismatch says that bytes do not have the CID they came under.
	ErrMismatch = errors.New("bytes do not have this CID")
	// ErrBusy says that uploads under way, of the account or of all, take what they may.
	ErrBusy = errors.New("too many uploads under way")
	// ErrFull says that the disk, or its owner's share of it, is full.
	ErrFull = errors.New("no space left for blobs")
	// ErrTimeout says that the S3 store did not answer in time.
	ErrTimeout = errors.New("blob store timed out")
	// ErrAway says that the S3 store cannot be reached, or does not do what it is asked to.
	ErrAway = errors.New("blob store fails")
)

// An Area is one of the places that a blob of an account can be in.
type Area byte

// The areas of a store.
const (
	// Permanent blobs have a CID for a key and are served.
	Permanent Area = iota
	// Temporary blobs have a key of their own: no record names them yet.
	Temporary
	// Quarantine holds the permanent blobs that are taken down.
	Quarantine
	// Partial files are those still being copied, or left over by that.
	Partial
)

var areas = [...]string{"permanent", "temporary", "quarantine", "partial"}

func (a Area) String() string { return areas[a] }

// A Name says where the bytes of a blob are. The store checks it whenever it is used:
// nothing but a DID, and a CID or key, ever becomes part of a path.
type Name struct {
	Area Area
	DID  syntax.DID
	Key  string
}

// PermanentName is the name of a blob that records name.
func PermanentName(did syntax.DID, cid dagcbor.CID) Name {
	return Name{Area: Permanent, DID: did, Key: cid.String()}
}

// QuarantineName is the name of a blob that is taken down.
func QuarantineName(did syntax.DID, cid dagcbor.CID) Name {
	return Name{Area: Quarantine, DID: did, Key: cid.String()}
}

// TemporaryName is the name of a blob that was uploaded under this key.
func TemporaryName(did syntax.DID, key string) Name {
	return Name{Area: Temporary, DID: did, Key: key}
}

// String is for logs.
func (n Name) String() string { return n.Area.String() + " " + n.DID.String() + "/" + n.Key }

// A File is what a store holds under a name.
type File struct {
	Name     Name
	Size     int64     // in bytes
	Modified time.Time // when its bytes were written
}

// An Upload is a temporary blob that has arrived.
type Upload struct {
	Key  string // of the temporary file
	CID  dagcbor.CID
	Size int64 // in bytes
	// Type is what the bytes show themselves to be, or what the client said.
	Type string
}

// A Store keeps blobs. Its methods are safe for concurrent use, by several processes
// too; no blob is in memory whole, whatever its size. Besides those named, errors are
// ErrName, ErrFull, ErrTimeout, ErrAway, ErrBusy where too many wait for the S3 store, the
// context's, and those of the disk.
//
// What a method wrote is durable when it returns without error. When it ends in the
// middle, what is left are files that [Store.Files] gives; never half a file under the
// name of a permanent blob.
type Store interface {
	// Upload reads a new temporary blob of did from r, to its end, as it is hashed and
	// written. More bytes than limit are ErrTooLarge, found while reading; declared is
	// the type that the client says it has, see [Type]. Errors of r are ErrBody. After
	// an error nothing is left behind. When uploads under way take what they may, of
	// all accounts or of this one: ErrBusy.
	Upload(ctx context.Context, did syntax.DID, r io.Reader, limit int64, declared string) (Upload, error)
	// MakePermanent lets the temporary blob with this key be had as the permanent one
	// too. Doing so again, also after the temporary one went, changes nothing. With
	// neither there: ErrNotFound.
	MakePermanent(ctx context.Context, did syntax.DID, key string, cid dagcbor.CID) error
	// Put stores what r gives, size bytes, as a permanent blob, replacing one that is
	// there: from a backup or from another store. Other bytes than the CID's are
	// ErrMismatch, errors of r ErrBody.
	Put(ctx context.Context, did syntax.DID, cid dagcbor.CID, r io.Reader, size int64) error
	// Open gives the bytes under a name, which the caller closes, and what is known of
	// them. ErrNotFound.
	Open(ctx context.Context, name Name) (io.ReadCloser, File, error)
	// Stat is what is known of the bytes under a name. ErrNotFound.
	Stat(ctx context.Context, name Name) (File, error)
	// Quarantine moves a permanent blob out of reach, Restore moves it back. Moving
	// what was moved changes nothing. In neither place: ErrNotFound.
	Quarantine(ctx context.Context, did syntax.DID, cid dagcbor.CID) error
	Restore(ctx context.Context, did syntax.DID, cid dagcbor.CID) error
	// Remove removes the file of this name, if there is one.
	Remove(ctx context.Context, name Name) error
	// RemoveAccount removes all files of an account.
	RemoveAccount(ctx context.Context, did syntax.DID) error
	// Files gives all files, of all accounts or of one (did is empty or not), in no
	// particular order and without ever holding the list of them; those that come and go
	// meanwhile are given or not. What lies there under other names is passed over. An
	// error ends it.
	Files(ctx context.Context, did syntax.DID) iter.Seq2[File, error]
}

// Sum reads r to its end and returns the CID and the number of its bytes.
func Sum(r io.Reader) (dagcbor.CID, int64, error) {
	h := newHash()
	n, err := io.Copy(h, r)
	if err != nil {
		return dagcbor.CID{}, n, err
	}
	return h.cid(), n, nil
}

// Keys of temporary files are 32 random bytes, written as the reference does.
var keyEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newKey() string {
	var b [32]byte
	rand.Read(b[:])
	return keyEncoding.EncodeToString(b[:])
}

// check says whether nothing in a name can lead elsewhere.
func (n Name) check() error {
	if err := checkDID(n.DID); err != nil {
		return err
	}
	ok := false
	switch n.Area {
	case Permanent, Quarantine:
		ok = isCID(n.Key)
	case Temporary:
		ok = IsKey(n.Key)
	case Partial: // a copy on disk, or an upload in parts to S3 under either kind of key
		ok = isCID(n.Key) || IsKey(n.Key)
	}
	if !ok {
		return fmt.Errorf("%w: key %q", ErrName, n.Key)
	}
	return nil
}

func checkDID(did syntax.DID) error {
	if _, err := syntax.ParseDID(did.String()); err != nil {
		return fmt.Errorf("%w: DID %q", ErrName, did)
	}
	return nil
}

func isCID(s string) bool {
	c, err := dagcbor.ParseCID(s)
	return err == nil && c[1] == dagcbor.CodecRaw
}

// IsKey reports whether a temporary blob can be under a key.
func IsKey(s string) bool {
	if len(s) != 52 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
