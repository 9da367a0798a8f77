package moderation

import (
	api "portico/api/atproto/moderation"
	"portico/api/xrpc"
	"portico/impl/account/auth"
)

// Policy says who may call each method of com.atproto.moderation.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

func (p Policy) CreateReport() xrpc.Policy[api.CreateReportInput] {
	return xrpc.NotServed[api.CreateReportInput]()
}
