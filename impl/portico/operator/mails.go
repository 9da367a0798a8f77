package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/audit"
)

// ListMails lists the mails of the outbox in pages, the newest first. Mails that are queued
// meanwhile move nothing to another page.
func (s *Service) ListMails(ctx context.Context, p *api.ListMailsParams) (*api.ListMailsOutput, error) {
	before, limit := int64(0), int(p.Limit)
	if p.Cursor != nil {
		var err error
		if before, err = strconv.ParseInt(*p.Cursor, 10, 64); err != nil || before < 1 {
			return nil, xrpc.InvalidRequest("Malformed cursor")
		}
	}
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.ListMailsOutput, error) {
		var mails []db.Mail
		var err error
		if p.State != nil {
			mails, err = r.MailsIn(ctx, *p.State, before, limit+1)
		} else {
			mails, err = r.Mails(ctx, before, limit+1)
		}
		if err != nil {
			return nil, err
		}
		out := new(api.ListMailsOutput)
		if len(mails) > limit {
			mails = mails[:limit]
			out.Cursor = new(strconv.FormatInt(mails[limit-1].ID, 10))
		}
		for i := range mails {
			out.Mails = append(out.Mails, mailOf(&mails[i]))
		}
		return out, nil
	})
}

func mailOf(m *db.Mail) api.Mail {
	out := api.Mail{
		ID: m.ID, To: m.To, Kind: m.Kind, DID: xrpc.NonZero(m.DID), State: m.State, Attempts: int64(m.Attempts),
		QueuedAt: answer.Datetime(m.CreatedAt), SentAt: answer.Moment(m.SentAt), LastError: xrpc.NonZero(m.LastError),
	}
	if m.State == db.MailStateQueued {
		out.NextAt, out.ExpiresAt = answer.Moment(&m.NextAt), answer.Moment(&m.ExpiresAt)
	}
	return out
}

// RetryMail has a mail that waits sent now.
func (s *Service) RetryMail(ctx context.Context, in *api.RetryMailInput) error {
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		m, err := tx.LockMail(ctx, in.ID)
		if err != nil {
			return err
		}
		if m.State != db.MailStateQueued {
			return api.ErrRetryMailMailNotWaiting.New(http.StatusBadRequest, "The mail does not wait: it is "+m.State)
		}
		if err := tx.HastenMail(ctx, m.ID); err != nil {
			return err
		}
		return s.recordMail(ctx, tx, m, audit.MailRetried)
	})
	if errors.Is(err, db.ErrNotFound) {
		return api.ErrRetryMailMailNotFound.New(http.StatusBadRequest, "Mail not found")
	}
	return err
}

// DeleteMail deletes a mail that is not being sent.
func (s *Service) DeleteMail(ctx context.Context, in *api.DeleteMailInput) error {
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		m, err := tx.LockMail(ctx, in.ID)
		if err != nil {
			return err
		}
		if m.State == db.MailStateSending {
			return api.ErrDeleteMailMailBeingSent.New(http.StatusBadRequest, "The mail is being sent")
		}
		if err := tx.DeleteMail(ctx, m.ID); err != nil {
			return err
		}
		return s.recordMail(ctx, tx, m, audit.MailDeleted)
	})
	if errors.Is(err, db.ErrNotFound) {
		return api.ErrDeleteMailMailNotFound.New(http.StatusBadRequest, "Mail not found")
	}
	return err
}

// recordMail records what was done to a mail, with the account that it is about.
func (s *Service) recordMail(ctx context.Context, tx *db.Tx, m *db.Mail, event string) error {
	return audit.Record(ctx, tx, s.Now(), m.DID, event, fmt.Sprintf("%s, number %d, %s", m.Kind, m.ID, m.State))
}
