package db

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A PhoneClaim is the phone number that an account signs up with.
type PhoneClaim struct {
	Number []byte // its keyed hash; nil for no number
	Max    int    // accounts that may have it at a time
}

// A phoneVerification says which number an account signed up with. The slots of a number
// are counted from 0.
type phoneVerification struct {
	bun.BaseModel `bun:"table:phone_verification,alias:v"`

	DID       syntax.DID `bun:"did,pk"`
	Number    []byte     `bun:"number"`
	Slot      int        `bun:"slot"`
	CreatedAt time.Time  `bun:"created_at"`
}

// A phoneSpent counts the accounts that signed up with a number and no longer have it.
type phoneSpent struct {
	bun.BaseModel `bun:"table:phone_spent,alias:s"`

	Number []byte    `bun:"number,pk"`
	Uses   int       `bun:"uses"`
	Until  time.Time `bun:"until"`
}

// A phoneCode was sent to a number.
type phoneCode struct {
	bun.BaseModel `bun:"table:phone_code,alias:c"`

	Number    []byte    `bun:"number,pk"`
	MAC       []byte    `bun:"mac,pk"`
	ExpiresAt time.Time `bun:"expires_at"`
}

var (
	selectPhoneSlots = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*phoneVerification)(nil)).Column("slot").Where("number = ?", b.p()).Order("slot")
	})
	selectPhoneSpent = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*phoneSpent)(nil)).Column("uses").Where("number = ?", b.p()).Where("until > ?", b.p())
	})
	claimPhone = prepared(func(b *builder) bun.Query {
		return b.insert(new(phoneVerification)).On("CONFLICT (number, slot) DO NOTHING")
	})
	// Postgres takes the parameters of a SELECT for texts; "WHERE true" keeps SQLite from
	// taking what follows for the condition of a join.
	spendPhone = prepared(func(b *builder) bun.Query {
		spent := b.NewSelect().Model((*phoneVerification)(nil)).Column("number").ColumnExpr("1 AS uses").
			ColumnExpr("CAST(? AS BIGINT) AS until", b.p()).Where("did = ?", b.p())
		return b.NewInsert().Model((*phoneSpent)(nil)).Column("number", "uses", "until").
			TableExpr("(?) AS spent WHERE true", spent).
			On("CONFLICT (number) DO UPDATE").
			Set("uses = CASE WHEN s.until <= ? THEN excluded.uses ELSE s.uses + excluded.uses END", b.p()).
			Set("until = excluded.until").Returning("NULL")
	})
	releasePhone = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*phoneVerification)(nil)).Where("did = ?", b.p())
	})

	putPhoneCode = prepared(func(b *builder) bun.Query {
		return b.insert(new(phoneCode)).On("CONFLICT (number, mac) DO UPDATE").Set("expires_at = excluded.expires_at")
	})
	usePhoneCode = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*phoneCode)(nil)).Where("number = ?", b.p()).Where("mac = ?", b.p()).Where("expires_at > ?", b.p())
	})
	deletePhoneCodes = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*phoneCode)(nil)).Where("number = ?", b.p())
	})
)

// PhoneAccounts counts the accounts, those under creation too, that signed up with
// a number, given as its keyed hash, also those that no longer have it, see
// [Tx.ReleasePhone].
func (q *queries) PhoneAccounts(ctx context.Context, number []byte) (int, error) {
	slots, spent, err := q.phoneUses(ctx, number)
	return len(slots) + spent, wrap(err, "count accounts of a phone number")
}

// phoneUses returns the slots that a number's accounts take, and how many accounts no
// longer have it. One that is released meanwhile is counted twice rather than not.
func (q *queries) phoneUses(ctx context.Context, number []byte) (slots []int, spent int, err error) {
	err = q.each(ctx, selectPhoneSlots, []any{number}, func(row scanner) error {
		var slot int
		err := row.Scan(&slot)
		slots = append(slots, slot)
		return err
	})
	if err == nil {
		err = q.get(ctx, selectPhoneSpent, []any{number, q.now()}, &spent)
	}
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return slots, spent, err
}

// claimPhone takes one of the uses of a number for did, or returns ErrPhoneTaken.
func (tx *Tx) claimPhone(ctx context.Context, did syntax.DID, c PhoneClaim) error {
	for {
		taken, spent, err := tx.phoneUses(ctx, c.Number)
		if err != nil {
			return err
		}
		if len(taken)+spent >= c.Max {
			return ErrPhoneTaken
		}
		free := 0
		for slices.Contains(taken, free) {
			free++
		}
		// Whoever sees the same slots goes for the same one, and waits here for the other.
		n, err := tx.exec(ctx, claimPhone, values(&phoneVerification{DID: did, Number: c.Number, Slot: free, CreatedAt: tx.now()})...)
		if n == 1 || err != nil {
			return err
		}
	}
}

// phoneSpentFor is how long a number stays spent that an account had.
const phoneSpentFor = 365 * 24 * time.Hour

// ReleasePhone makes the number that an account signed up with no longer its, and
// reports whether there was one. For a year it counts as before: nobody gets more
// accounts for a number by giving them away.
func (tx *Tx) ReleasePhone(ctx context.Context, did syntax.DID) (bool, error) {
	now := tx.now()
	_, err := tx.exec(ctx, spendPhone, now.Add(phoneSpentFor), did, now)
	if err != nil {
		return false, wrap(err, "release phone number of %s", did)
	}
	n, err := tx.exec(ctx, releasePhone, did)
	return n > 0, wrap(err, "release phone number of %s", did)
}

// InsertPhoneCode stores a code that was sent to a number, both as keyed hashes.
func (tx *Tx) InsertPhoneCode(ctx context.Context, number, mac []byte, expires time.Time) error {
	_, err := tx.exec(ctx, putPhoneCode, number, mac, expires)
	return wrap(err, "store phone code")
}

// UsePhoneCode spends a code of a number, and with it all others that were sent
// there. It returns ErrNotFound when there is no such code that is still good at
// now; of two that use the same one does.
func (tx *Tx) UsePhoneCode(ctx context.Context, number, mac []byte, now time.Time) error {
	err := found(tx.exec(ctx, usePhoneCode, number, mac, now))
	if err == nil {
		_, err = tx.exec(ctx, deletePhoneCodes, number)
	}
	return wrap(err, "use phone code")
}
