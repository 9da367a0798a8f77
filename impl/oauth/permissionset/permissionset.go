// Package permissionset finds the permission sets that scopes include, in the repositories of
// those whose names they have (specification "Permission", "Lexicon Resolution"), and remembers
// them.
package permissionset

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/oauth/scope"
)

// Errors of [Sets.Find] and [Sets.Expand].
var (
	// ErrNotFound says that there is no such set, or that nobody can be asked for it.
	ErrNotFound = errors.New("permission set not found")
	// ErrNotASet says that the document of that name is something else.
	ErrNotASet = errors.New("lexicon is no permission set")
)

// An Error says which set could not be had, and why: one of the above.
type Error struct {
	NSID   syntax.NSID
	Reason string // for the app's developer
	Err    error
}

func (e *Error) Error() string { return string(e.NSID) + ": " + e.Reason }
func (e *Error) Unwrap() error { return e.Err }

// Sets are the permission sets of the network. It is safe for concurrent use.
type Sets struct{}

// Find returns a set, asked for anew when what is remembered is older than five minutes. When
// nobody answers the remembered one stays good. It returns an [*Error].
func (s *Sets) Find(ctx context.Context, nsid syntax.NSID) (*scope.PermissionSet, error) {
	panic("not written")
}

// Expand spells out the includes of a scope: what they give comes first, in order, then the
// other values. It returns an [*Error].
func (s *Sets) Expand(ctx context.Context, text string) (string, error) { panic("not written") }
