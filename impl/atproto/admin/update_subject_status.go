package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/admin"
	"portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/blob/rows"
	"portico/impl/budget"
	"portico/impl/repo/dagcbor"
)

// UpdateSubjectStatus takes accounts, records and blobs down and lifts that again, and switches
// accounts off and on. Asked for nothing, it tells the network again how an account is.
func (s *Service) UpdateSubjectStatus(ctx context.Context, in *api.UpdateSubjectStatusInput) (*api.UpdateSubjectStatusOutput, error) {
	if in.Takedown != nil && in.Takedown.Applied && in.Deactivated != nil && !in.Deactivated.Applied {
		return nil, xrpc.InvalidRequest("Cannot activate and takedown an account at the same time")
	}
	repository, isRepo := in.Subject.Value().(*api.RepoRef)
	if isRepo {
		if err := s.Accounts.PayForChange(ctx, budget.Operator(repository.DID)); err != nil {
			return nil, answer.Spent(err)
		}
	}
	if in.Takedown != nil {
		if err := s.setTakedown(ctx, in.Subject, in.Takedown); err != nil {
			return nil, err
		}
	}
	if isRepo {
		var err error
		switch {
		case in.Deactivated != nil && in.Deactivated.Applied:
			err = s.deactivate(ctx, repository.DID)
		case in.Deactivated != nil:
			err = s.activate(ctx, repository.DID)
		case in.Takedown == nil:
			err = s.Accounts.Announce(ctx, repository.DID)
		}
		if err != nil {
			return nil, err
		}
	}
	subject, err := echo(in.Subject)
	if err != nil {
		return nil, err
	}
	return &api.UpdateSubjectStatusOutput{Subject: subject, Takedown: in.Takedown}, nil
}

// echo is the subject of a request in its answer: the two are the same union.
func echo(subject api.UpdateSubjectStatusInputSubject) (out api.UpdateSubjectStatusOutputSubject, err error) {
	b, err := json.Marshal(subject)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

func (s *Service) setTakedown(ctx context.Context, subject api.UpdateSubjectStatusInputSubject, takedown *api.StatusAttr) error {
	switch subject := subject.Value().(type) {
	case *api.RepoRef:
		if !takedown.Applied {
			return s.Accounts.Restore(ctx, subject.DID)
		}
		return s.Accounts.TakeDown(ctx, subject.DID, s.reference(takedown))
	case *repo.StrongRef:
		did, err := subject.URI.Authority().AsDID()
		if err != nil {
			return repoNotFound()
		}
		return s.setRecordTakedown(ctx, did, subject.URI, takedown)
	case *api.RepoBlobRef:
		return s.setBlobTakedown(ctx, subject.DID, subject.CID, takedown)
	case *xrpc.UnknownVariant:
		return xrpc.InvalidRequest("Invalid subject (" + subject.Type + ")")
	}
	return errors.New("admin: subject of no type")
}

// reference is what a takedown is remembered by: the time, where nothing is given.
func (s *Service) reference(takedown *api.StatusAttr) string {
	ref := strings.ReplaceAll(xrpc.ValueOf(takedown.Ref), "\x00", "")
	return cmp.Or(ref, s.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
}

// setRecordTakedown does nothing to a record that is not here.
func (s *Service) setRecordTakedown(ctx context.Context, did syntax.DID, uri syntax.ATURI, takedown *api.StatusAttr) error {
	if err := s.setPartTakedown(ctx, did); err != nil {
		return err
	}
	ref, what := "", audit.RecordTakedownLifted
	if takedown.Applied {
		ref, what = s.reference(takedown), audit.RecordTakenDown
	}
	path := uri.Path()
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.TakeDownRecord(ctx, did, path, ref); err != nil {
			return err
		}
		return audit.Record(ctx, tx, s.Now(), did, what, strings.TrimSpace(path+" "+ref))
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	return err
}

// setBlobTakedown does nothing to a blob that is not here. One that is taken down is not served
// from then on, even where its file could not be put aside, which the same request does later.
func (s *Service) setBlobTakedown(ctx context.Context, did syntax.DID, name syntax.CID, takedown *api.StatusAttr) error {
	if err := s.setPartTakedown(ctx, did); err != nil {
		return err
	}
	cid, err := dagcbor.ParseCID(name.String())
	switch {
	case err != nil:
		return nil // no blob has such a name
	case takedown.Applied:
		err = s.Blobs.TakeDown(ctx, did, cid, s.reference(takedown))
	default:
		err = s.Blobs.Lift(ctx, did, cid)
	}
	if errors.Is(err, rows.ErrNotFound) {
		return nil
	}
	return answer.Blobs(err)
}

// setPartTakedown refuses to take down records and blobs of accounts that are not here.
func (s *Service) setPartTakedown(ctx context.Context, did syntax.DID) error {
	_, err := s.DB.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return repoNotFound()
	}
	return err
}

func (s *Service) deactivate(ctx context.Context, did syntax.DID) error {
	err := s.Accounts.Deactivate(ctx, did, time.Time{})
	if errors.Is(err, db.ErrNotFound) {
		return xrpc.InvalidRequest("Account not found")
	}
	return err
}

func (s *Service) activate(ctx context.Context, did syntax.DID) error {
	err := s.DIDs.Verify(ctx, did)
	if err == nil {
		err = s.Accounts.Activate(ctx, did)
	}
	return answer.DID(answer.Activation(err))
}
