// Package repo is com.atproto.repo: the records of accounts, and repositories that are
// brought along.
package repo

import (
	api "portico/api/atproto/repo"
	"portico/impl/account"
	"portico/impl/repo/importer"
)

// Service is the behaviour of com.atproto.repo. It is safe for concurrent use.
type Service struct {
	Accounts *account.Accounts
	Imports  *importer.Importer // nil: none are accepted
}

var _ api.Service = (*Service)(nil)
