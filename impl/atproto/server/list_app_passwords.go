package server

import (
	"context"

	api "portico/api/atproto/server"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// ListAppPasswords lists the caller's app passwords, the newest first.
func (s *Service) ListAppPasswords(ctx context.Context) (*api.ListAppPasswordsOutput, error) {
	apps, err := s.DB.AppPasswords(ctx, auth.Caller(ctx).DID)
	if err != nil {
		return nil, err
	}
	out := new(api.ListAppPasswordsOutput)
	for _, app := range apps {
		out.Passwords = append(out.Passwords, api.ListAppPasswordsAppPassword{
			Name: app.Name, CreatedAt: answer.Datetime(app.CreatedAt), Privileged: new(app.Privileged),
		})
	}
	return out, nil
}
