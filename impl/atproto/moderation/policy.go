package moderation

import (
	api "portico/api/atproto/moderation"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
)

// Policy says who may call each method of com.atproto.moderation.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

// CreateReport lets a taken-down account through: it may ask to be let in again. What it may
// report is for the moderation service to say.
func (p Policy) CreateReport() xrpc.Policy[api.CreateReportInput] {
	return xrpc.Policy[api.CreateReportInput]{
		Auth:   p.Gate.Session(token.Standard.With(token.Takendown), auth.AppPassedOn, auth.Exists, auth.NotHeld),
		Limits: xrpc.GlobalLimitOnly[api.CreateReportInput](),
	}
}
