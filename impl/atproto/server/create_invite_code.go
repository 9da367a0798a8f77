package server

import (
	"context"

	api "portico/api/atproto/server"
)

// inviteAdmin owns the codes that are for nobody in particular, and makes those
// that nobody has earned.
const inviteAdmin = "admin"

// CreateInviteCode makes one code. A number of uses below one makes a code that
// nobody can use: that is what was asked for.
func (s *Service) CreateInviteCode(ctx context.Context, in *api.CreateInviteCodeInput) (*api.CreateInviteCodeOutput, error) {
	owner := inviteAdmin
	if in.ForAccount != nil {
		owner = in.ForAccount.String()
	}
	codes, err := s.makeInvites(ctx, []string{owner}, 1, in.UseCount)
	if err != nil {
		return nil, err
	}
	return &api.CreateInviteCodeOutput{Code: codes[0][0]}, nil
}
