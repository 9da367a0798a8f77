package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An OAuthRequest is one of an app that asks to be let into an account.
type OAuthRequest struct {
	bun.BaseModel `bun:"table:oauth_request,alias:oq"`

	ID         []byte    `bun:"id,pk"` // keyed hash of its URI
	Payer      []byte    `bun:"payer"` // keyed hash of who pays for it, empty for nobody
	ClientID   string    `bun:"client_id"`
	ClientKey  string    `bun:"client_key,nullzero"`
	DPoPKey    string    `bun:"dpop_key"`
	Parameters string    `bun:"parameters"` // JSON
	CreatedAt  time.Time `bun:"created_at"`
	ExpiresAt  time.Time `bun:"expires_at"` // of the request, or of its code where that is later
	Browser    []byte    `bun:"browser"`    // keyed hash of the cookie of the browser that opened it; nil: none did

	// What there is once it is answered; of one that was refused AnsweredAt alone.
	AnsweredAt *time.Time `bun:"answered_at"`
	OAuthAnswer
}

// An OAuthAnswer is that of an owner who lets an app in.
type OAuthAnswer struct {
	DID           syntax.DID `bun:"did,nullzero"`
	ProvedAt      time.Time  `bun:"proved_at"` // when they proved who they are
	Scope         string     `bun:"scope,nullzero"`
	Consented     string     `bun:"consented,nullzero"` // how the scope was spelled out when they saw it
	Code          []byte     `bun:"code"`               // keyed hash
	CodeExpiresAt time.Time  `bun:"code_expires_at"`
	ClientName    string     `bun:"client_name,nullzero"`
	Address       string     `bun:"address,nullzero"` // of the network
	Agent         string     `bun:"agent,nullzero"`   // what the browser calls itself
}

var (
	// Postgres' only; a transaction of SQLite is alone.
	lockOAuthPayer = prepared(func(b *builder) bun.Query {
		return b.NewRaw("SELECT id FROM oauth_payer WHERE id = ? FOR UPDATE", b.p())
	})
	countOAuthRequests = prepared(func(b *builder) bun.Query {
		payer, now := b.p(), b.p()
		all := b.NewSelect().Model((*OAuthRequest)(nil)).ColumnExpr("count(*)")
		return b.NewSelect().Model((*OAuthRequest)(nil)).ColumnExpr("count(*), (?)", all).
			Where("payer = ?", payer).Where("expires_at > ?", now)
	})
	// The payer that has the most pays with the one that waits for longest.
	dropOAuthRequest = prepared(func(b *builder) bun.Query {
		greedy := b.NewSelect().Model((*OAuthRequest)(nil)).Column("payer").Where("browser IS NULL").
			Group("payer").Having("count(*) > ?", b.p()).OrderExpr("count(*) DESC, payer").Limit(1)
		oldest := b.NewSelect().Model((*OAuthRequest)(nil)).Column("id").Where("browser IS NULL").Where("payer = (?)", greedy).
			Order("created_at", "id").Limit(1)
		return b.NewDelete().Model((*OAuthRequest)(nil)).Where("id = (?)", oldest)
	})
	dropOAuthRequestOf = prepared(func(b *builder) bun.Query {
		oldest := b.NewSelect().Model((*OAuthRequest)(nil)).Column("id").Where("payer = ?", b.p()).Where("browser IS NULL").
			Where("created_at <= ?", b.p()).Order("created_at", "id").Limit(1)
		return b.NewDelete().Model((*OAuthRequest)(nil)).Where("id = (?)", oldest)
	})
	insertOAuthRequest = prepared(func(b *builder) bun.Query { return b.insert(new(OAuthRequest)) })
	selectOAuthRequest = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*OAuthRequest)(nil)).Where("id = ?", b.p())
	})
	selectOAuthRequestByCode = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*OAuthRequest)(nil)).Where("code = ?", b.p())
	})
	openOAuthRequest = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*OAuthRequest)(nil)).Set("browser = ?", b.p()).Where("id = ?", b.p()).Where("browser IS NULL")
	})
	moveOAuthRequests = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*OAuthRequest)(nil)).Set("browser = ?", b.p()).Where("browser = ?", b.p())
	})
	answerOAuthRequest = prepared(func(b *builder) bun.Query {
		return b.setAll(b.NewUpdate(), new(OAuthRequest), "id", "payer", "client_id", "client_key", "dpop_key", "parameters", "created_at", "browser").
			Where("id = ?", b.p()).Where("browser = ?", b.p()).Where("answered_at IS NULL")
	})
	deleteOAuthCode = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthRequest)(nil)).Where("code = ?", b.p())
	})
	deleteOAuthCodesOf = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthRequest)(nil)).Where("did = ?", b.p()).Where("client_id = ?", b.p())
	})
	deleteOAuthRequestsOf = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*OAuthRequest)(nil)).Where("did = ?", b.p())
	})
)

// CountOAuthRequests returns how many requests of a payer are not over at now, and how many
// of all there are, over or not. No other transaction that counts them first stores any of that payer until this
// one ends.
func (tx *Tx) CountOAuthRequests(ctx context.Context, payer []byte, now time.Time) (live, all int, err error) {
	if tx.postgres {
		row := 0 // of those that payers share
		if len(payer) > 0 {
			row = int(payer[0])
		}
		if err := tx.get(ctx, lockOAuthPayer, []any{row}, &row); err != nil {
			return 0, 0, wrap(err, "lock payer of authorization requests")
		}
	}
	err = tx.get(ctx, countOAuthRequests, []any{payer, now}, &live, &all)
	return live, all, wrap(err, "count authorization requests")
}

// DropOAuthRequest removes the oldest request that nobody opened of the payer that has the
// most of them, more than fewest. It returns ErrNotFound when nobody has as many.
func (tx *Tx) DropOAuthRequest(ctx context.Context, fewest int) error {
	return wrap(found(tx.exec(ctx, dropOAuthRequest, fewest)), "drop authorization request")
}

// DropOAuthRequestOf removes the oldest request of a payer that nobody opened and that was pushed
// by then. It returns ErrNotFound when there is none.
func (tx *Tx) DropOAuthRequestOf(ctx context.Context, payer []byte, pushed time.Time) error {
	return wrap(found(tx.exec(ctx, dropOAuthRequestOf, payer, pushed)), "drop authorization request of its payer")
}

// InsertOAuthRequest stores a request.
func (tx *Tx) InsertOAuthRequest(ctx context.Context, r OAuthRequest) error {
	_, err := tx.exec(ctx, insertOAuthRequest, values(&r)...)
	return wrap(err, "store authorization request")
}

// OAuthRequest returns a request, also one that is over and not purged yet, or ErrNotFound.
func (q *queries) OAuthRequest(ctx context.Context, id []byte) (*OAuthRequest, error) {
	r, err := one[OAuthRequest](ctx, q, selectOAuthRequest, id)
	return r, wrap(err, "read authorization request")
}

// OAuthRequestByCode returns the request that has a code, or ErrNotFound.
func (q *queries) OAuthRequestByCode(ctx context.Context, code []byte) (*OAuthRequest, error) {
	r, err := one[OAuthRequest](ctx, q, selectOAuthRequestByCode, code)
	return r, wrap(err, "read authorization request of code")
}

// OpenOAuthRequest gives a request to a browser. It returns ErrNotFound when it is gone, or
// has one.
func (tx *Tx) OpenOAuthRequest(ctx context.Context, id, browser []byte) error {
	return wrap(found(tx.exec(ctx, openOAuthRequest, browser, id)), "open authorization request")
}

// AnswerOAuthRequest stores the answer of r, and when it is over, if r.Browser has the
// request and it was not answered. Else it returns ErrNotFound, and also when the account is gone.
func (tx *Tx) AnswerOAuthRequest(ctx context.Context, r *OAuthRequest) error {
	answer := values(r, "id", "payer", "client_id", "client_key", "dpop_key", "parameters", "created_at", "browser")
	return wrap(found(tx.exec(ctx, answerOAuthRequest, append(answer, r.ID, r.Browser)...)), "answer authorization request")
}

// TakeOAuthCode removes the request that has a code: of those who do so at once one does,
// and the others are told ErrNotFound.
func (tx *Tx) TakeOAuthCode(ctx context.Context, code []byte) error {
	return wrap(found(tx.exec(ctx, deleteOAuthCode, code)), "take authorization code")
}

// EndOAuthCodes removes the requests of an app that the owner of an account allowed, with their
// codes. None is no error.
func (tx *Tx) EndOAuthCodes(ctx context.Context, did syntax.DID, clientID string) error {
	_, err := tx.exec(ctx, deleteOAuthCodesOf, did, clientID)
	return wrap(err, "end codes of an app with %s", did)
}
