package server

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/invite"
	"portico/impl/audit"
)

// maxInvites is how many codes one request may make. The reference has no limit; here a
// digit too many does not fill the database.
const maxInvites = 10_000

// CreateInviteCodes makes codes for each of several accounts, or for nobody in
// particular: all of them or none. An account that is named twice is served
// twice. More than 10,000 in one request are refused.
func (s *Service) CreateInviteCodes(ctx context.Context, in *api.CreateInviteCodesInput) (*api.CreateInviteCodesOutput, error) {
	owners := []string{inviteAdmin}
	if in.ForAccounts != nil {
		owners = make([]string, len(in.ForAccounts))
		for i, did := range in.ForAccounts {
			owners[i] = did.String()
		}
	}
	count := max(in.CodeCount, 0)
	if len(owners) > 0 && count > int64(maxInvites/len(owners)) {
		return nil, xrpc.InvalidRequest(fmt.Sprintf("Too many invite codes. Maximum is %d in one request.", maxInvites))
	}
	codes, err := s.makeInvites(ctx, owners, int(count), in.UseCount)
	if err != nil {
		return nil, err
	}
	out := new(api.CreateInviteCodesOutput)
	for i, owner := range owners {
		out.Codes = append(out.Codes, api.CreateInviteCodesAccountCodes{Account: owner, Codes: codes[i]})
	}
	return out, nil
}

// makeInvites stores count new codes for each of owners, all or none, and returns
// their texts in the order of owners.
func (s *Service) makeInvites(ctx context.Context, owners []string, count int, uses int64) ([][]string, error) {
	made := make([][]string, len(owners))
	var rows []db.Invite
	for i, owner := range owners {
		for range count {
			text, err := invite.New(s.Config().Hostname, s.Rand)
			if err != nil {
				return nil, err
			}
			made[i] = append(made[i], text)
			rows = append(rows, db.Invite{
				Code: text, Uses: int(uses), ForAccount: owner, CreatedBy: inviteAdmin, CreatedAt: s.Now(),
			})
		}
	}
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.InsertInvites(ctx, rows...); err != nil {
			return err
		}
		return s.recordInvites(ctx, tx, owners, count, uses)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// recordInvites records in the name of each account what codes it was given, and
// in nobody's name those that are for nobody.
func (s *Service) recordInvites(ctx context.Context, tx *db.Tx, owners []string, count int, uses int64) error {
	if count == 0 {
		return nil
	}
	for _, owner := range owners {
		did := syntax.DID(owner)
		if owner == inviteAdmin {
			did = ""
		}
		detail := fmt.Sprintf("%d, uses of each: %d", count, uses)
		if err := audit.Record(ctx, tx, s.Now(), did, audit.InviteCodesCreated, detail); err != nil {
			return err
		}
	}
	return nil
}
