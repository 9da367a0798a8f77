package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/admin"
	"portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
)

// GetSubjectStatus says whether an account, a record or a blob is taken down.
func (s *Service) GetSubjectStatus(ctx context.Context, p *api.GetSubjectStatusParams) (*api.GetSubjectStatusOutput, error) {
	switch {
	case p.Blob != nil && p.DID == nil:
		return nil, xrpc.InvalidRequest("Must provide a did to request blob state")
	case p.Blob != nil:
		return s.blobStatus(ctx, *p.DID, *p.Blob)
	case p.URI != nil:
		did, err := p.URI.Authority().AsDID()
		if err != nil {
			return nil, repoNotFound()
		}
		return s.recordStatus(ctx, did, *p.URI)
	case p.DID == nil:
		return nil, xrpc.InvalidRequest("No provided subject")
	}
	a, err := s.DB.AccountByDID(ctx, *p.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, subjectNotFound()
	}
	if err != nil {
		return nil, err
	}
	return &api.GetSubjectStatusOutput{
		Subject:     api.NewGetSubjectStatusOutputSubject(&api.RepoRef{DID: a.DID}),
		Takedown:    &api.StatusAttr{Applied: a.TakenDown(), Ref: a.TakedownRef},
		Deactivated: &api.StatusAttr{Applied: a.Deactivated()},
	}, nil
}

// recordStatus is that of a record.
func (s *Service) recordStatus(ctx context.Context, did syntax.DID, uri syntax.ATURI) (*api.GetSubjectStatusOutput, error) {
	r, err := s.DB.Record(ctx, did, uri.Path())
	if errors.Is(err, db.ErrNotFound) {
		return nil, s.noPart(ctx, did)
	}
	if err != nil {
		return nil, err
	}
	cid := syntax.CID(store.CID(r.CID).String())
	return &api.GetSubjectStatusOutput{
		Subject: api.NewGetSubjectStatusOutputSubject(&repo.StrongRef{URI: uri, CID: cid}), Takedown: takedown(r.TakedownRef),
	}, nil
}

// blobStatus is that of a blob.
func (s *Service) blobStatus(ctx context.Context, did syntax.DID, name syntax.CID) (*api.GetSubjectStatusOutput, error) {
	cid, err := dagcbor.ParseCID(name.String())
	if err != nil {
		return nil, s.noPart(ctx, did)
	}
	b, err := s.DB.Blob(ctx, did, cid[:])
	if errors.Is(err, db.ErrNotFound) {
		return nil, s.noPart(ctx, did)
	}
	if err != nil {
		return nil, err
	}
	return &api.GetSubjectStatusOutput{
		Subject: api.NewGetSubjectStatusOutputSubject(&api.RepoBlobRef{DID: did, CID: name}), Takedown: takedown(b.TakedownRef),
	}, nil
}

// takedown is that of a part of a repository, which an empty reference says is not taken down.
func takedown(ref string) *api.StatusAttr {
	return &api.StatusAttr{Applied: ref != "", Ref: xrpc.NonZero(ref)}
}

// noPart is the answer about a record or a blob of an account.
func (s *Service) noPart(ctx context.Context, did syntax.DID) error {
	_, err := s.DB.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return repoNotFound()
	}
	if err != nil {
		return err
	}
	return subjectNotFound()
}

func subjectNotFound() error { return errNotFound.New(http.StatusBadRequest, "Subject not found") }

func repoNotFound() error { return errNotFound.New(http.StatusBadRequest, "Repo not found") }
