package repo

import (
	"cmp"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
)

// Policy says who may call each method of com.atproto.repo, and how often where the
// operator switched request limits on.
type Policy struct {
	Gate *auth.Gate
	// MaxImport is how large an archive that is imported may be, in bytes; 0 is any size.
	MaxImport int64
}

var _ api.Policy = Policy{}

// anySize stands for no limit.
const anySize = 1 << 50

// Sessions with the account password only.

func (p Policy) ImportRepo() xrpc.Policy[xrpc.Body] {
	return xrpc.Policy[xrpc.Body]{
		Auth: p.Gate.Session(token.Full, auth.NotTakenDown), Limits: xrpc.GlobalLimitOnly[xrpc.Body](), MaxBody: cmp.Or(p.MaxImport, anySize),
	}
}
