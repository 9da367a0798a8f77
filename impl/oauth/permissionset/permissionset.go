// Package permissionset finds the permission sets that scopes include, in the repositories of
// those whose names they have (specification "Permission", "Lexicon Resolution"), and remembers
// them.
//
// Whose repository it is, DNS says; that it has the document, a proof that was signed with the
// key of its DID document. Names, documents and servers are strangers': servers are asked at
// public addresses only, without redirects, bounded in size and time, and paid for by whom
// [Sets.Pay] names.
package permissionset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/singleflight"

	"portico/impl/identity/resolve"
	"portico/impl/oauth/scope"
)

const (
	// Fresh is how long what was found is not asked for again.
	Fresh = 5 * time.Minute
	// MaxIncludes is how many sets a scope may include.
	MaxIncludes = 10
	// MaxScope is how long a scope may be once its includes are spelled out, in bytes.
	MaxScope = 64 << 10
	// Timeout is how long it may take to find a set when nothing else is said.
	Timeout = 6 * time.Second

	// maxFlights is how many sets are looked for at once. Each may take some MB of memory.
	maxFlights = 16
)

// Errors of [Sets.Find], [Sets.All] and [Sets.Expand].
var (
	// ErrNotFound says that there is no such set, or that nobody can be asked for it.
	ErrNotFound = errors.New("permission set not found")
	// ErrNotASet says that the document of that name is something else.
	ErrNotASet = errors.New("lexicon is no permission set")
	// ErrMany says that a scope includes more than it may.
	ErrMany = errors.New("scope includes too much")
	// ErrBusy says that too many sets are looked for just now to look for one more. It says
	// nothing of the set, and is never inside of an [Error].
	ErrBusy = errors.New("too many permission sets are looked for")
)

// An Error says which set could not be had, and why: one of the above.
type Error struct {
	NSID   syntax.NSID
	Reason string // for the app's developer
	Err    error
}

func (e *Error) Error() string { return string(e.NSID) + ": " + e.Reason }
func (e *Error) Unwrap() error { return e.Err }

// Stored is what is remembered of a set.
type Stored struct {
	Document  string    // "" for none
	FetchedAt time.Time // when it was read
	TriedAt   time.Time // when somebody was asked last
}

// A Store remembers sets. Its methods may be called concurrently.
type Store interface {
	// PermissionSet returns nil, without an error, where nothing is remembered.
	PermissionSet(ctx context.Context, nsid syntax.NSID) (*Stored, error)
	// SavePermissionSet remembers s in the place of what was.
	SavePermissionSet(ctx context.Context, nsid syntax.NSID, s Stored) error
}

// Sets are the permission sets of the network. It is safe for concurrent use.
type Sets struct {
	Store Store
	// Authority is whose repository has all sets; "" is for whom DNS says.
	Authority syntax.DID
	TXT       resolve.LookupTXT // nil: the system's resolver
	// Document finds DID documents; [resolve.Cache.Resolve] is one.
	Document func(ctx context.Context, did syntax.DID, fresh bool) (*resolve.Document, error)
	// Own returns a record of the collection "com.atproto.lexicon.schema" in the repository of an
	// account of this server, in DAG-CBOR, nil if there is none; here is whether the account is one.
	Own   func(ctx context.Context, did syntax.DID, key syntax.NSID) (record []byte, here bool, err error)
	Fetch *http.Client // reaches public addresses alone; see [resolve.NewClient]
	// Pay is asked before anybody is. Its error is what they get who have nothing remembered.
	Pay     func(ctx context.Context) error
	Now     func() time.Time
	Log     *slog.Logger
	Timeout time.Duration // for one set; default [Timeout]

	flights singleflight.Group
	running atomic.Int32
}

// Find returns a set, asked for anew when what is remembered is older than [Fresh]. When
// nobody answers the remembered one stays good; when the answer is that there is none, it is
// gone. It returns an [*Error], ErrBusy where nothing is remembered, or what Pay or the store does.
func (s *Sets) Find(ctx context.Context, nsid syntax.NSID) (*scope.PermissionSet, error) {
	stored, err := s.Store.PermissionSet(ctx, nsid)
	if err != nil {
		return nil, err
	}
	if now := s.Now(); stored == nil || now.Sub(stored.TriedAt) >= Fresh || stored.TriedAt.After(now) {
		if stored, err = s.again(ctx, nsid, stored); err != nil {
			return nil, err
		}
	}
	if stored.Document == "" {
		return nil, &Error{nsid, "nobody publishes this permission set", ErrNotFound}
	}
	set, err := scope.ParsePermissionSet([]byte(stored.Document))
	if err != nil {
		return nil, &Error{nsid, err.Error(), ErrNotASet}
	}
	return set, nil
}

// again asks for a set, together with all who ask for it now. One who hangs up does not end
// that for the others.
func (s *Sets) again(ctx context.Context, nsid syntax.NSID, had *Stored) (*Stored, error) {
	if err := s.Pay(ctx); err != nil {
		if had != nil && had.Document != "" {
			return had, nil
		}
		return nil, err
	}
	flight := s.flights.DoChan(nsid.String(), func() (any, error) {
		return s.ask(context.WithoutCancel(ctx), nsid)
	})
	select {
	case r := <-flight:
		if errors.Is(r.Err, ErrBusy) && had != nil && had.Document != "" {
			return had, nil
		}
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Stored), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("find permission set %s: %w", nsid, ctx.Err())
	}
}

// ask asks for a set and remembers what came of it.
func (s *Sets) ask(ctx context.Context, nsid syntax.NSID) (*Stored, error) {
	defer s.running.Add(-1)
	if s.running.Add(1) > maxFlights {
		return nil, fmt.Errorf("find permission set %s: %w", nsid, ErrBusy)
	}
	had, err := s.Store.PermissionSet(ctx, nsid)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	found := Stored{FetchedAt: now, TriedAt: now}
	document, failure := s.fetch(ctx, nsid)
	switch {
	case failure == nil:
		found.Document = document
	case errors.Is(failure, errNone):
	case had != nil:
		found.Document, found.FetchedAt = had.Document, had.FetchedAt
	}
	if failure != nil {
		s.Log.InfoContext(ctx, "permission set not found", "nsid", nsid, "error", failure, "kept", found.Document != "")
	}
	if err := s.Store.SavePermissionSet(ctx, nsid, found); err != nil {
		return nil, err
	}
	if failure != nil && found.Document == "" {
		return nil, &Error{nsid, reason(failure), ErrNotFound}
	}
	return &found, nil
}

// All returns the sets that a scope includes. It returns what Find does, and an [*Error] that
// is ErrMany.
func (s *Sets) All(ctx context.Context, text string) (map[syntax.NSID]*scope.PermissionSet, error) {
	sets := map[syntax.NSID]*scope.PermissionSet{}
	includes := 0
	for _, v := range scope.Values(text) {
		i, ok := scope.ParseInclude(v)
		if !ok {
			continue
		}
		if includes++; includes > MaxIncludes {
			return nil, &Error{i.NSID, fmt.Sprintf("a scope may include %d permission sets", MaxIncludes), ErrMany}
		}
		if sets[i.NSID] != nil {
			continue
		}
		set, err := s.Find(ctx, i.NSID)
		if err != nil {
			return nil, err
		}
		sets[i.NSID] = set
	}
	return sets, nil
}

// Expand spells out the includes of a scope: what they give comes first, in order, then the
// other values, each once. It returns what All does.
func (s *Sets) Expand(ctx context.Context, text string) (string, error) {
	sets, err := s.All(ctx, text)
	if err != nil {
		return "", err
	}
	var given, others []string
	var last syntax.NSID
	for _, v := range scope.Values(text) {
		if i, ok := scope.ParseInclude(v); ok {
			given = append(given, i.Expand(sets[i.NSID])...)
			last = i.NSID
		} else {
			others = append(others, v)
		}
	}
	if last == "" {
		return strings.Join(others, " "), nil
	}
	expanded := strings.Join(scope.Values(strings.Join(append(given, others...), " ")), " ")
	if len(expanded) > MaxScope {
		return "", &Error{last, fmt.Sprintf("what the scope includes has more than %d bytes", MaxScope), ErrMany}
	}
	return expanded, nil
}
