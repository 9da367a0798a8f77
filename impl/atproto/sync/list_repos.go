package sync

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
)

// ListRepos lists the repositories that are here, also those of accounts that are not
// active, in the order in which the accounts were made.
func (s *Service) ListRepos(ctx context.Context, p *api.ListReposParams) (*api.ListReposOutput, error) {
	var after time.Time
	var did syntax.DID
	if p.Cursor != nil {
		var err error
		if after, did, err = listedUpTo(*p.Cursor); err != nil {
			return nil, err
		}
	}
	hosted, err := db.ReadPublic(ctx, s.DB, func(r *db.Reader) ([]db.HostedRepo, error) {
		after := after
		if p.Cursor != nil {
			var err error
			if after, err = moreExactly(ctx, r, after, did); err != nil {
				return nil, err
			}
		}
		return r.HostedRepos(ctx, after, did, int(p.Limit))
	})
	if err != nil {
		return nil, err
	}
	out := &api.ListReposOutput{}
	for _, r := range hosted {
		one := api.ListReposRepo{DID: r.DID, Head: head(r.CommitCID), Rev: syntax.TID(r.Rev), Active: new(r.Status == "active")}
		if !*one.Active {
			one.Status = new(r.Status)
		}
		out.Repos = append(out.Repos, one)
		out.Cursor = new(strconv.FormatInt(r.CreatedAt.UnixMilli(), 10) + "::" + r.DID.String())
	}
	return out, nil
}

// maxMillis is the last time that others can tell, in milliseconds since 1970.
const maxMillis = 8.64e15

// listedUpTo reads a cursor: when an account was made, to the millisecond, and its DID.
func listedUpTo(cursor string) (time.Time, syntax.DID, error) {
	millis, did, ok := strings.Cut(cursor, "::")
	at, err := strconv.ParseInt(millis, 10, 64)
	if !ok || err != nil || at > maxMillis || at < -maxMillis || did == "" {
		return time.Time{}, "", xrpc.InvalidRequest("Malformed cursor")
	}
	return time.UnixMilli(at), syntax.DID(did), nil
}

// moreExactly returns when the account of a cursor was made: the account itself says it. When
// that has gone, whoever was made in the same millisecond may be listed twice.
func moreExactly(ctx context.Context, r *db.Reader, made time.Time, did syntax.DID) (time.Time, error) {
	a, err := r.AccountByDID(ctx, did)
	a, err = auth.Seen(ctx, a, err)
	switch {
	case err == nil && a.CreatedAt.UnixMilli() == made.UnixMilli():
		return a.CreatedAt, nil
	case err != nil && !errors.Is(err, db.ErrNotFound):
		return time.Time{}, err
	}
	return made, nil
}
