package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A Reservation is an account to be: what it takes, and who works on it.
type Reservation struct {
	Account    Account
	InviteCode string // "" for none
	Phone      PhoneClaim
	Key        SigningKey
	Genesis    []byte // the signed operation as JSON; nil when the DID was brought
	// ClientSigned says that the genesis is the client's own, whose DID is never to
	// be ended from here.
	ClientSigned bool
	Holder       string
	LeaseUntil   time.Time
}

// Unfinished is an account under creation that was taken up.
type Unfinished struct {
	Account    Account
	Key        SigningKey
	Genesis    []byte
	InviteCode string
}

// Cleanup is a creation that was given up while its DID may be registered.
type Cleanup struct {
	DID       syntax.DID
	Genesis   []byte
	Attempts  int // how often it was searched for in vain
	AbortedAt time.Time
}

// inviteGood holds for codes that can be used: not disabled, not used up, and
// not of an owner who is taken down.
const inviteGood = `NOT invite.disabled AND invite.used < invite.uses AND NOT EXISTS (
	SELECT 1 FROM account o WHERE o.did = invite.for_account AND o.takedown_ref IS NOT NULL)`

// ReserveAccount takes DID, handle, email, invite use and phone number for an account
// under creation, and stores its key and genesis. A clean-up of the DID is dropped,
// unless somebody is at it at this moment: then the DID is taken. It returns ErrDIDTaken,
// ErrHandleTaken, ErrEmailTaken, ErrInviteUnavailable or ErrPhoneTaken, in this order;
// among racing reservations exactly as many succeed as there is to take.
func (tx *Tx) ReserveAccount(ctx context.Context, r Reservation) error {
	return wrap(tx.reserve(ctx, r), "reserve account %s", r.Account.DID)
}

func (tx *Tx) reserve(ctx context.Context, r Reservation) error {
	a := &r.Account
	did := string(a.DID)
	// Whoever looks after a clean-up may be about to end the DID. Whoever comes to
	// claim it later finds nothing.
	_, err := tx.execText(ctx, `DELETE FROM cleanup WHERE did = ? AND (holder IS NULL OR next_at <= ?)`, did, micros(tx.now()))
	if err != nil {
		return err
	}
	// The constraints decide; asking first makes the order of errors certain.
	taken, err := tx.existsText(ctx, `SELECT 1 FROM account WHERE did = ? UNION ALL SELECT 1 FROM cleanup WHERE did = ?`, did, did)
	if err != nil {
		return err
	}
	if taken {
		return ErrDIDTaken
	}
	if err := tx.Available(ctx, a.Handle, a.Email); err != nil {
		return err
	}
	_, err = tx.execText(ctx, `INSERT INTO account (did, handle, email, state, password_hash, created_at, email_confirmed_at,
			email_auth_factor, deactivated_at, delete_after, delete_announced_at, takedown_ref, invites_disabled, tokens_valid_from)
		VALUES (?, ?, ?, 'creating', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		did, text(a.Handle), text(a.Email), text(a.PasswordHash), micros(a.CreatedAt), microsOf(a.EmailConfirmedAt),
		a.EmailAuthFactor, microsOf(a.DeactivatedAt), microsOf(a.DeleteAfter), microsOf(a.DeleteAnnouncedAt), a.TakedownRef,
		a.InvitesDisabled, micros(a.TokensValidFrom))
	if err == nil {
		err = tx.keepsHandle(ctx, a.Handle, a.DID)
	}
	if err != nil {
		return err
	}
	_, err = tx.execText(ctx, `INSERT INTO creation (did, genesis, client_signed, invite_code, holder, lease_until)
		VALUES (?, ?, ?, ?, ?, ?)`, did, r.Genesis, r.ClientSigned, text(r.InviteCode), r.Holder, micros(r.LeaseUntil))
	if err != nil {
		return err
	}
	if err := tx.PutSigningKey(ctx, r.Key); err != nil {
		return err
	}
	if r.InviteCode != "" {
		if err := tx.redeem(ctx, r.InviteCode, did); err != nil {
			return err
		}
	}
	if r.Phone.Number != nil {
		return tx.claimPhone(ctx, a.DID, r.Phone)
	}
	return nil
}

func (tx *Tx) redeem(ctx context.Context, code, did string) error {
	// Whoever waited here for another use looks at the counter that one left.
	n, err := tx.execText(ctx, `UPDATE invite SET used = used + 1 WHERE code = ? AND `+inviteGood, code)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrInviteUnavailable
	}
	_, err = tx.execText(ctx, `INSERT INTO invite_use (code, used_by, used_at) VALUES (?, ?, ?)
		ON CONFLICT (code, used_by) DO UPDATE SET used_at = excluded.used_at`, code, did, micros(tx.now()))
	return err
}

// FinishAccount makes an account under creation a real one. It returns
// ErrLeaseLost when holder does not hold it, or no longer.
func (tx *Tx) FinishAccount(ctx context.Context, did syntax.DID, holder string) error {
	err := held(tx.execText(ctx, `DELETE FROM creation WHERE did = ? AND holder = ?`, string(did), holder))
	if err == nil {
		err = held(tx.execText(ctx, `UPDATE account SET state = 'ready' WHERE did = ? AND state = 'creating'`, string(did)))
	}
	return wrap(err, "finish account %s", did)
}

// AbortAccount gives an account under creation up: handle, email, invite use and
// phone number are free at once, the key is gone. When nextLook is not zero and
// there is a genesis of this server's, that stays as a clean-up due then. It returns ErrLeaseLost when
// holder does not hold the account, or no longer.
func (tx *Tx) AbortAccount(ctx context.Context, did syntax.DID, holder string, nextLook time.Time) error {
	return wrap(tx.abort(ctx, did, holder, nextLook), "abort account %s", did)
}

func (tx *Tx) abort(ctx context.Context, did syntax.DID, holder string, nextLook time.Time) error {
	var genesis []byte
	var clientSigned bool
	var invite string
	err := tx.getText(ctx, `DELETE FROM creation WHERE did = ? AND holder = ? RETURNING genesis, client_signed, invite_code`,
		[]any{string(did), holder}, &genesis, &clientSigned, orEmpty{&invite})
	if errors.Is(err, ErrNotFound) {
		return ErrLeaseLost
	}
	if err != nil {
		return err
	}
	if _, err := tx.execText(ctx, `DELETE FROM account WHERE did = ? AND state = 'creating'`, string(did)); err != nil {
		return err
	}
	if invite != "" {
		_, err := tx.execText(ctx, `DELETE FROM invite_use WHERE code = ? AND used_by = ?`, invite, string(did))
		if err != nil {
			return err
		}
		if _, err := tx.execText(ctx, `UPDATE invite SET used = used - 1 WHERE code = ?`, invite); err != nil {
			return err
		}
	}
	if genesis == nil || clientSigned || nextLook.IsZero() {
		return nil
	}
	_, err = tx.execText(ctx, `INSERT INTO cleanup (did, genesis, aborted_at, next_at) VALUES (?, ?, ?, ?)`,
		string(did), genesis, micros(tx.now()), micros(nextLook))
	return err
}

// ClaimUnfinished gives holder up to limit accounts under creation until the
// given time: those whose lease has run out at now, and with force all that
// others hold, see [DB.Exclusive]. No two holders get the same one.
func (tx *Tx) ClaimUnfinished(
	ctx context.Context, holder string, now, until time.Time, force bool, limit int,
) ([]Unfinished, error) {
	var dids []string
	err := tx.eachText(ctx, `WITH due AS MATERIALIZED (
			SELECT did FROM creation WHERE lease_until <= ? OR (? = 1 AND holder <> ?)
			ORDER BY lease_until, did LIMIT ? {FOR UPDATE SKIP LOCKED})
		UPDATE creation SET holder = ?, lease_until = ? WHERE did IN (SELECT did FROM due) RETURNING did`,
		[]any{micros(now), number(force), holder, limit, holder, micros(until)},
		func(row *sql.Rows) error {
			var did string
			err := row.Scan(&did)
			dids = append(dids, did)
			return err
		})
	if err != nil {
		return nil, wrap(err, "claim unfinished accounts")
	}
	slices.Sort(dids)
	claimed := make([]Unfinished, 0, len(dids))
	for _, did := range dids {
		u, err := tx.unfinished(ctx, did)
		if err != nil {
			return nil, wrap(err, "read unfinished account %s", did)
		}
		claimed = append(claimed, *u)
	}
	return claimed, nil
}

var selectUnfinished = prepared(func(b *builder) bun.Query {
	return b.NewSelect().Model((*Account)(nil)).ColumnExpr("?TableColumns").
		Column("c.genesis", "c.invite_code", "k.public", "k.sealed").
		Join("JOIN creation AS c ON c.did = a.did").
		Join("LEFT JOIN signing_key AS k ON k.did = a.did AND k.purpose = 'atproto'").
		Where("a.did = ?", b.p())
})

func (tx *Tx) unfinished(ctx context.Context, did string) (*Unfinished, error) {
	u := &Unfinished{Key: SigningKey{DID: syntax.DID(did), Purpose: "atproto"}}
	dest := append(places(&u.Account), &u.Genesis, &u.InviteCode, &u.Key.Public, &u.Key.Sealed)
	if err := tx.get(ctx, selectUnfinished, []any{did}, dest...); err != nil {
		return nil, err
	}
	return u, nil
}

// CreationLease returns until when somebody works on an account under creation, or
// ErrNotFound when there is none.
func (q *queries) CreationLease(ctx context.Context, did syntax.DID) (until time.Time, err error) {
	err = q.getText(ctx, `SELECT lease_until FROM creation WHERE did = ?`, []any{string(did)}, (*stamp)(&until))
	return until, wrap(err, "read creation of %s", did)
}

// ClaimCreation gives holder one account under creation until the given time, if
// its lease has run out at now. Otherwise it returns ErrLeaseLost.
func (tx *Tx) ClaimCreation(ctx context.Context, did syntax.DID, holder string, now, until time.Time) (*Unfinished, error) {
	err := held(tx.execText(ctx, `UPDATE creation SET holder = ?, lease_until = ? WHERE did = ? AND lease_until <= ?`,
		holder, micros(until), string(did), micros(now)))
	var u *Unfinished
	if err == nil {
		u, err = tx.unfinished(ctx, string(did))
	}
	return u, wrap(err, "claim creation of %s", did)
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ClaimCleanups gives holder up to limit clean-ups that are due at now, until the
// given time. No two holders get the same one.
func (tx *Tx) ClaimCleanups(ctx context.Context, holder string, now, until time.Time, limit int) ([]Cleanup, error) {
	var claimed []Cleanup
	err := tx.eachText(ctx, `WITH due AS MATERIALIZED (
			SELECT did FROM cleanup WHERE next_at <= ? ORDER BY next_at, did LIMIT ? {FOR UPDATE SKIP LOCKED})
		UPDATE cleanup SET holder = ?, next_at = ? WHERE did IN (SELECT did FROM due)
		RETURNING did, genesis, looks, aborted_at`,
		[]any{micros(now), limit, holder, micros(until)},
		func(row *sql.Rows) error {
			var c Cleanup
			err := row.Scan(&c.DID, &c.Genesis, &c.Attempts, (*stamp)(&c.AbortedAt))
			claimed = append(claimed, c)
			return err
		})
	slices.SortFunc(claimed, func(a, b Cleanup) int { return cmp.Compare(a.DID, b.DID) })
	return claimed, wrap(err, "claim clean-ups")
}

// FinishCleanup closes a clean-up. It returns ErrLeaseLost when holder does not
// hold it, or no longer.
func (tx *Tx) FinishCleanup(ctx context.Context, did syntax.DID, holder string) error {
	err := held(tx.execText(ctx, `DELETE FROM cleanup WHERE did = ? AND holder = ?`, string(did), holder))
	return wrap(err, "finish clean-up of %s", did)
}

// PostponeCleanup counts a look that found nothing and lets the clean-up rest
// until next. It returns ErrLeaseLost when holder does not hold it, or no longer.
func (tx *Tx) PostponeCleanup(ctx context.Context, did syntax.DID, holder string, next time.Time) error {
	err := held(tx.execText(ctx, `UPDATE cleanup SET looks = looks + 1, next_at = ?, holder = NULL WHERE did = ? AND holder = ?`,
		micros(next), string(did), holder))
	return wrap(err, "postpone clean-up of %s", did)
}
