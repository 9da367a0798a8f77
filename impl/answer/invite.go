package answer

import (
	api "portico/api/atproto/server"
	"portico/db"
)

// Invite shows an invite code with its uses.
func Invite(i db.Invite) api.InviteCode {
	out := api.InviteCode{
		Code: i.Code, Available: int64(i.Uses), Disabled: i.Disabled, ForAccount: i.ForAccount, CreatedBy: i.CreatedBy,
		CreatedAt: Datetime(i.CreatedAt),
	}
	for _, u := range i.Used {
		out.Uses = append(out.Uses, api.InviteCodeUse{UsedBy: u.By, UsedAt: Datetime(u.At)})
	}
	return out
}
