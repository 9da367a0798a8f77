package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

const (
	// codesStay is how long an expired code can still be told from a wrong one.
	codesStay = 24 * time.Hour
	// knownFor is how long any plain address of the network stays.
	knownFor = 90 * 24 * time.Hour
	// mailsStay is how long the outbox remembers what became of a mail.
	mailsStay = 30 * 24 * time.Hour
	// mailsKept is how many mails the outbox remembers at most.
	mailsKept = 100_000
)

// purges are what is run of what is over, each with the time that lies so far back.
var purges = []struct {
	*statement
	back time.Duration
}{
	{purge((*Session)(nil), "expires_at"), 0},
	{purge((*BrowserSession)(nil), "expires_at"), 0},
	{purge((*OAuthRequest)(nil), "expires_at"), 0},
	{purge((*OAuthSession)(nil), "refresh_expires_at"), 0},
	{purge((*oauthUsed)(nil), "expires_at"), 0},
	{purge((*OAuthRemembered)(nil), "expires_at"), 0},
	{forgetOriginAddresses, knownFor},
	{purge((*Spending)(nil), "reset_at"), 0},
	{purge((*knownAddress)(nil), "seen_at"), knownFor},
	{prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Quarantined)(nil)).Set("address = NULL").Where("address IS NOT NULL").Where("since <= ?", b.p())
	}), knownFor},
	{purge((*GuessedAccount)(nil), "since"), guessedFor},
	{prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*AuditEntry)(nil)).Set("address = NULL").Where("address IS NOT NULL").Where("at <= ?", b.p())
	}), knownFor},
	{purge((*ReservedKey)(nil), "expires_at"), 0},
	{purge((*phoneCode)(nil), "expires_at"), 0},
	{purge((*phoneSpent)(nil), "until"), 0},
	{purge((*blobClaim)(nil), "until"), 0},
	{purge((*EmailCode)(nil), "expires_at"), codesStay},
	{prepared(func(b *builder) bun.Query {
		return b.endMail(MailStateExpired).Where("state IN ('queued', 'sending')").Where("expires_at <= ?", b.p())
	}), 0},
	{prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Mail)(nil)).Where("created_at <= ?", b.p()).Where("state NOT IN ('queued', 'sending')")
	}), mailsStay},
	{purge((*PermissionSet)(nil), "tried_at"), permissionSetsStay},
	{purgeNoPermissionSets, noPermissionSetsStay},
}

var purgeManyMails = prepared(func(b *builder) bun.Query {
	newest := b.NewSelect().Model((*Mail)(nil)).ColumnExpr("max(id)")
	return b.NewDelete().Model((*Mail)(nil)).Where("id <= (?) - ?", newest, mailsKept).Where("state NOT IN ('queued', 'sending')")
})

// purge deletes the rows of a model whose column is not after the parameter.
func purge(model any, column string) *statement {
	return prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model(model).Where("? <= ?", bun.Ident(column), b.p())
	})
}

// Purge removes what is over at now: sessions and where they were opened, requests and sessions of apps, what was good
// for once, accounts that browsers remember, budgets, reserved keys, codes sent to phones, numbers that are spent; emailed codes a day later. Mails that were not delivered
// in time become expired and lose their bodies; a mail that needs no more attempts is
// forgotten 30 days after it was queued, or when 100,000 came after it; a permission set 60
// days after somebody was asked for it last, and the name of one that does not exist an hour.
func (tx *Tx) Purge(ctx context.Context, now time.Time) error {
	for _, p := range purges {
		if _, err := tx.exec(ctx, p.statement, now.Add(-p.back)); err != nil {
			return wrap(err, "purge")
		}
	}
	if err := tx.forgetOrigins(ctx, now, originsLooked); err != nil {
		return wrap(err, "purge")
	}
	_, err := tx.exec(ctx, purgeManyMails)
	return wrap(err, "purge")
}
