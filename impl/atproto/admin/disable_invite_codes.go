package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/audit"
)

// inviteAdmin owns the codes that belong to nobody.
const inviteAdmin = "admin"

// DisableInviteCodes ends codes, and all codes of some accounts. It is content with
// those that it does not find.
func (s *Service) DisableInviteCodes(ctx context.Context, in *api.DisableInviteCodesInput) error {
	if slices.Contains(in.Accounts, inviteAdmin) {
		return xrpc.InvalidRequest("cannot disable admin invite codes")
	}
	// Nothing has such a name, and not every database takes the question.
	nameless := func(s string) bool { return strings.ContainsRune(s, 0) }
	codes, accounts := slices.DeleteFunc(in.Codes, nameless), slices.DeleteFunc(in.Accounts, nameless)
	if len(codes)+len(accounts) == 0 {
		return nil
	}
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.DisableInvites(ctx, codes, accounts); err != nil {
			return err
		}
		for _, account := range accounts {
			did, err := syntax.ParseDID(account)
			if err != nil {
				continue // owns nothing
			}
			if err := s.record(ctx, tx, did, audit.InviteCodesDisabled, "all"); err != nil {
				return err
			}
		}
		return s.record(ctx, tx, "", audit.InviteCodesDisabled, fmt.Sprintf("%d codes, all of %d accounts", len(codes), len(accounts)))
	})
}
