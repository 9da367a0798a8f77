package admin

import (
	"context"
	"errors"
	"time"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/audit"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// messageLife is for how long it is tried to deliver what a moderator wrote.
const messageLife = 3 * 24 * time.Hour

var errNoAddress = errors.New("recipient has no email address")

// SendEmail queues a letter to the owner of an account, in whatever state that is.
// Whether it arrives is seen in the outbox.
func (s *Service) SendEmail(ctx context.Context, in *api.SendEmailInput) (*api.SendEmailOutput, error) {
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, in.RecipientDID)
		if err != nil {
			return err
		}
		if a.Email == "" {
			return errNoAddress
		}
		letter := mail.Message(a.Email, xrpc.ValueOf(in.Subject), in.Content)
		if err := s.Outbox.Post(ctx, tx, a.DID, mail.KindMessage, letter, s.Now().Add(messageLife)); err != nil {
			return err
		}
		return s.record(ctx, tx, a.DID, audit.EmailSent, "")
	})
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil, xrpc.InvalidRequest("Recipient not found")
	case errors.Is(err, errNoAddress):
		return nil, xrpc.InvalidRequest("account does not have an email address")
	case errors.Is(err, outbox.ErrFull):
		return nil, xrpc.NotEnoughResources(time.Minute).Because(err)
	case err != nil:
		return nil, err
	}
	return &api.SendEmailOutput{Sent: true}, nil
}
