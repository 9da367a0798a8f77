package repo

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/blob/rows"
	"portico/impl/records"
	"portico/impl/repo"
	"portico/impl/repo/tree"
)

// Names of the protocol that no lexicon declares.
var (
	errBlobNotFound    = xrpc.Undeclared("BlobNotFound")
	errInvalidMimeType = xrpc.Undeclared("InvalidMimeType")
	errInvalidSize     = xrpc.Undeclared("InvalidSize")
)

// owner returns the account to whose repository the caller writes: it has to be the
// caller's own, and active.
func (s *Service) owner(ctx context.Context, name syntax.AtIdentifier) (*db.Account, error) {
	caller := auth.Caller(ctx)
	a := caller.Account
	if a == nil || name.String() != a.DID.String() {
		var err error
		if a, err = s.account(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := auth.Active(a); err != nil {
		return nil, err
	}
	if a.DID != caller.DID {
		return nil, xrpc.AuthenticationRequired("Authentication Required")
	}
	return a, nil
}

// A chooser returns the record key that the client gave, or one that it chooses.
type chooser func(given *syntax.RecordKey) syntax.RecordKey

// choices is how often the keys of a request are chosen.
const choices = 5

// choosing calls do, and again while a key that was chosen for it is taken: another server
// may choose the same one in the same microsecond. What do returned last is returned.
func (s *Service) choosing(do func(choose chooser) error) error {
	next := s.Keys.Next
	for choice := 1; ; choice++ {
		var chosen []syntax.RecordKey
		err := do(func(given *syntax.RecordKey) syntax.RecordKey {
			if given != nil {
				return *given
			}
			chosen = append(chosen, next())
			return chosen[len(chosen)-1]
		})
		exists, ok := errors.AsType[*tree.ExistsError](err)
		if !ok || choice == choices {
			return err
		}
		_, key, _ := strings.Cut(exists.Path, "/")
		if !slices.Contains(chosen, syntax.RecordKey(key)) {
			return err
		}
		next = s.Keys.Anew
	}
}

// write writes, and answers what cannot be. An unmet condition has the name that the
// method declares.
func (s *Service) write(
	ctx context.Context, a *db.Account, swap *syntax.CID, invalidSwap *xrpc.DeclaredError, writes ...records.Write,
) (*records.Result, error) {
	write := s.Records.Write
	if a.Held() {
		write = s.Records.WriteHeld
	}
	result, err := write(ctx, a.DID, (*string)(swap), writes...)
	if failed, ok := errors.AsType[*records.SwapError](err); ok {
		return nil, invalidSwap.New(http.StatusBadRequest, failed.Of+" was at "+cmp.Or(failed.At, "null"))
	}
	if refused, ok := errors.AsType[*rows.MentionError](err); ok {
		return nil, mentionError(refused)
	}
	switch {
	case errors.Is(err, tree.ErrExists):
		return nil, xrpc.InvalidRequest("Record already exists").Because(err)
	case errors.Is(err, tree.ErrNotFound):
		return nil, xrpc.InvalidRequest("Record does not exist").Because(err)
	case errors.Is(err, tree.ErrPath):
		return nil, xrpc.InvalidRequest("Invalid record path").Because(err)
	case errors.Is(err, tree.ErrTooWide):
		return nil, xrpc.InvalidRequest("Too many record keys of the same place in the tree").Because(err)
	case errors.Is(err, repo.ErrTooLarge):
		return nil, xrpc.InvalidRequest("Too many writes. Max event size: 2MB").Because(err)
	case errors.Is(err, records.ErrQuota), errors.Is(err, rows.ErrQuota):
		return nil, xrpc.InvalidRequest("Account has as many records as this server allows").Because(err)
	case errors.Is(err, db.ErrNotFound): // deleted since the token was checked
		return nil, auth.AccountNotFound()
	}
	return result, answer.Blobs(err)
}

func mentionError(err *rows.MentionError) error {
	differs := ". Expected: " + err.Stored + ", Got: " + err.Got
	switch {
	case errors.Is(err, rows.ErrMIME):
		return errInvalidMimeType.New(http.StatusBadRequest, "Referenced Mimetype does not match stored blob"+differs)
	case errors.Is(err, rows.ErrSize):
		return errInvalidSize.New(http.StatusBadRequest, "Referenced Size does not match stored blob"+differs)
	}
	return errBlobNotFound.New(http.StatusBadRequest, "Could not find blob: "+err.CID)
}

func commitMeta(r *records.Result) *api.CommitMeta {
	return &api.CommitMeta{CID: syntax.CID(r.Commit.String()), Rev: r.Rev}
}
