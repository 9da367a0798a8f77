// Package operator is alt.portico.operator: what this server lets its operator do beyond
// com.atproto.admin.
//
// Its lexicons are Portico's own, under .alt, a top-level domain that RFC 9476 keeps
// out of the DNS: nobody else can come to own the names.
package operator

import (
	"time"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/move"
	"portico/impl/account/password"
	"portico/impl/blob/rows"
	"portico/impl/budget"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/repo/firehose"
	"portico/impl/repo/importer"
)

// Service is the behaviour of alt.portico.operator. It is safe for concurrent use.
type Service struct {
	DB          *db.DB
	Blobs       *rows.Blobs
	Budgets     *budget.Ledger
	Accounts    *account.Accounts
	Handles     *handle.Rules
	Identities  *account.Identities
	Credentials account.Credentials
	Domains     *domain.Domains
	DIDs        *account.Verifier
	Passwords   *password.Hasher
	Imports     *importer.Importer
	Moves       *move.Moves
	Hosts       *move.HostMove
	Transfers   *account.Transfers
	Firehose    *firehose.Firehose
	Health      Health
	Now         func() time.Time
	// TrustedProxies returns how many proxies are in front of the server at the moment, as it
	// was told.
	TrustedProxies func() int
	// PasswordMinLength returns what it is at the moment, in UTF-16 code units.
	PasswordMinLength func() int
}

var _ api.Service = (*Service)(nil)
