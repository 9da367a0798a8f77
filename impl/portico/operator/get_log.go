package operator

import (
	"context"
	"math"
	"strconv"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
)

// GetLog shows the record of an account, or all of it, in pages, the newest entry first.
// Entries that are added meanwhile move nothing to another page.
func (s *Service) GetLog(ctx context.Context, p *api.GetLogParams) (*api.GetLogOutput, error) {
	before, limit := int64(math.MaxInt64), int(p.Limit)
	if p.Cursor != nil {
		var err error
		if before, err = strconv.ParseInt(*p.Cursor, 10, 64); err != nil {
			return nil, xrpc.InvalidRequest("Malformed cursor")
		}
	}
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.GetLogOutput, error) {
		var entries []db.AuditEntry
		var err error
		if p.DID != nil {
			entries, err = r.AuditBefore(ctx, *p.DID, before, limit+1)
		} else {
			entries, err = r.AuditOfAll(ctx, before, limit+1)
		}
		if err != nil {
			return nil, err
		}
		out := new(api.GetLogOutput)
		if len(entries) > limit {
			entries = entries[:limit]
			out.Cursor = new(strconv.FormatInt(entries[limit-1].ID, 10))
		}
		for _, e := range entries {
			out.Entries = append(out.Entries, api.LogEntry{
				At: answer.Datetime(e.At), DID: xrpc.NonZero(e.DID), Actor: e.Actor, Address: xrpc.NonZero(e.Address), Event: e.Event, Detail: xrpc.NonZero(e.Detail),
			})
		}
		return out, nil
	})
}
