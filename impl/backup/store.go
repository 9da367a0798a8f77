package backup

import (
	"context"
	"errors"
	"io"
	"iter"
	"regexp"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// A Store keeps files under names, which this package makes: nothing of what others wrote
// becomes one unchecked. Its methods but Lock are safe for concurrent use.
type Store interface {
	// String is the place, for people.
	String() string
	// Check reports whether the store can be used.
	Check(ctx context.Context) error
	// Lock makes this process the one that writes, until it calls release: ErrBusy when
	// another does. What writers left half-written that were killed is cleared away.
	Lock(ctx context.Context) (*Hold, error)
	// Put stores what r gives under a name, in the place of what is there: whole and
	// durable, or not at all. size is -1 where it is not known; where it is, r gives as many.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	// Open gives what is under a name, and its size. ErrNotFound.
	Open(ctx context.Context, name string) (io.ReadCloser, int64, error)
	// Remove removes what is under a name, if there is anything.
	Remove(ctx context.Context, name string) error
	// List gives what is under all names that begin so, in no particular order and without
	// ever holding the list. An error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
}

// A Hold is the right to write to a store.
type Hold struct {
	// Context ends, with ErrLost as its cause, when another process has come to write.
	Context context.Context
	// Still is ErrLost by then.
	Still func(ctx context.Context) error
	// Release gives the right back.
	Release func() error
}

// An Object is what lies under a name.
type Object struct {
	Name     string
	Size     int64 // in bytes
	Modified time.Time
}

var errName = errors.New("no name of this store")

var plainName = regexp.MustCompile(`^(lock|lease\.json|snapshots/[0-9]{8}T[0-9]{6}Z-[a-z2-7]{10}/[a-z.]{1,20})$`)

// checkName says whether a name is one that this package makes: nothing in it leads elsewhere.
func checkName(name string) error {
	if plainName.MatchString(name) {
		return nil
	}
	if _, _, ok := blobOf(name); ok {
		return nil
	}
	return errName
}

func blobPath(did syntax.DID, cid dagcbor.CID) string {
	return "blobs/" + did.String() + "/" + cid.String()
}

// blobOf reads the name of a blob.
func blobOf(name string) (did syntax.DID, cid dagcbor.CID, ok bool) {
	rest, ok := strings.CutPrefix(name, "blobs/")
	of, key, both := strings.Cut(rest, "/")
	did, err := syntax.ParseDID(of)
	if !ok || !both || err != nil || strings.ContainsAny(of, "/\\\x00") {
		return "", cid, false
	}
	cid, err = dagcbor.ParseCID(key)
	if err != nil || cid[1] != dagcbor.CodecRaw || cid.String() != key {
		return "", cid, false
	}
	return did, cid, true
}
