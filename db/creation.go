package db

import (
	"cmp"
	"context"
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
	bun.BaseModel `bun:"table:cleanup,alias:cleanup"`

	DID       syntax.DID `bun:"did,pk"`
	Genesis   []byte     `bun:"genesis"`
	Attempts  int        `bun:"looks"` // how often it was searched for in vain
	AbortedAt time.Time  `bun:"aborted_at"`
}

// creation is the work on an account that is not ready.
type creation struct {
	bun.BaseModel `bun:"table:creation,alias:creation"`

	DID          syntax.DID `bun:"did,pk"`
	Genesis      []byte     `bun:"genesis"`
	ClientSigned bool       `bun:"client_signed"`
	InviteCode   string     `bun:"invite_code,nullzero"`
	Holder       string     `bun:"holder"`
	LeaseUntil   time.Time  `bun:"lease_until"`
}

var (
	insertAccount = prepared(func(b *builder) bun.Query { return b.insert(new(Account)).Value("state", "'creating'") })
	finishAccount = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Account)(nil)).Set("state = 'ready'").Where("did = ?", b.p()).Where("state = 'creating'")
	})
	abortAccount = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Account)(nil)).Where("did = ?", b.p()).Where("state = 'creating'")
	})

	insertCreation = prepared(func(b *builder) bun.Query { return b.insert(new(creation)) })
	finishCreation = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*creation)(nil)).Where("did = ?", b.p()).Where("holder = ?", b.p())
	})
	abortCreation = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*creation)(nil)).Where("did = ?", b.p()).Where("holder = ?", b.p()).
			Returning("genesis, client_signed, invite_code")
	})
	selectLease = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*creation)(nil)).Column("lease_until").Where("did = ?", b.p())
	})
	claimCreation = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*creation)(nil)).Set("holder = ?", b.p()).Set("lease_until = ?", b.p()).
			Where("did = ?", b.p()).Where("lease_until <= ?", b.p())
	})
	// With force, the second parameter, also what others hold.
	claimCreations = prepared(func(b *builder) bun.Query {
		now, force, holder, limit, until := b.p(), b.p(), b.p(), b.p(), b.p()
		due := b.NewSelect().Model((*creation)(nil)).Column("did").
			Where("lease_until <= ? OR (? = 1 AND holder <> ?)", now, force, holder).
			Order("lease_until").OrderExpr("did LIMIT ?", limit)
		return b.NewUpdate().WithQuery(bun.NewWithQuery("due", b.lock("UPDATE SKIP LOCKED", due)).Materialized()).
			Model((*creation)(nil)).Set("holder = ?", holder).Set("lease_until = ?", until).
			Where("did IN (SELECT did FROM due)").Returning("did")
	})
	selectUnfinished = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("?TableColumns").
			Column("c.genesis", "c.invite_code", "k.public", "k.sealed").
			Join("JOIN creation AS c ON c.did = a.did").
			Join("LEFT JOIN signing_key AS k ON k.did = a.did AND k.purpose = 'atproto'").
			Where("a.did = ?", b.p())
	})

	insertCleanup = prepared(func(b *builder) bun.Query {
		return b.NewInsert().Model(new(Cleanup)).Value("did", "?", b.p()).Value("genesis", "?", b.p()).Value("looks", "0").
			Value("aborted_at", "?", b.p()).Value("next_at", "?", b.p()).Returning("NULL")
	})
	// Not one that somebody looks after at this moment.
	dropCleanup = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Cleanup)(nil)).Where("did = ?", b.p()).Where("holder IS NULL OR next_at <= ?", b.p())
	})
	claimCleanups = prepared(func(b *builder) bun.Query {
		due := b.NewSelect().Model((*Cleanup)(nil)).Column("did").Where("next_at <= ?", b.p()).
			Order("next_at").OrderExpr("did LIMIT ?", b.p())
		return b.NewUpdate().WithQuery(bun.NewWithQuery("due", b.lock("UPDATE SKIP LOCKED", due)).Materialized()).
			Model((*Cleanup)(nil)).Set("holder = ?", b.p()).Set("next_at = ?", b.p()).
			Where("did IN (SELECT did FROM due)").Returning("did, genesis, looks, aborted_at")
	})
	finishCleanup = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Cleanup)(nil)).Where("did = ?", b.p()).Where("holder = ?", b.p())
	})
	postponeCleanup = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Cleanup)(nil)).Set("looks = looks + 1").Set("next_at = ?", b.p()).Set("holder = NULL").
			Where("did = ?", b.p()).Where("holder = ?", b.p())
	})
	didTaken = prepared(func(b *builder) bun.Query {
		did := b.p()
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("1").Where("did = ?", did).
			UnionAll(b.NewSelect().Model((*Cleanup)(nil)).ColumnExpr("1").Where("did = ?", did))
	})

	// redeemInvite takes a use of a code that can be used, and no other.
	redeemInvite = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Invite)(nil)).Set("used = used + 1").Where("code = ?", b.p()).Where(inviteGood)
	})
	insertInviteUse = prepared(func(b *builder) bun.Query {
		return b.insert(new(InviteUse)).On("CONFLICT (code, used_by) DO UPDATE").Set("used_at = excluded.used_at")
	})
	deleteInviteUse = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*InviteUse)(nil)).Where("code = ?", b.p()).Where("used_by = ?", b.p())
	})
	returnInvite = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Invite)(nil)).Set("used = used - 1").Where("code = ?", b.p())
	})
)

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
	// Whoever looks after a clean-up may be about to end the DID. Whoever comes to
	// claim it later finds nothing.
	if _, err := tx.exec(ctx, dropCleanup, a.DID, tx.now()); err != nil {
		return err
	}
	// The constraints decide; asking first makes the order of errors certain.
	taken, err := tx.exists(ctx, didTaken, a.DID)
	if err != nil {
		return err
	}
	if taken {
		return ErrDIDTaken
	}
	if err := tx.Available(ctx, a.Handle, a.Email); err != nil {
		return err
	}
	_, err = tx.exec(ctx, insertAccount, values(a)...)
	if err == nil {
		err = tx.keepsHandle(ctx, a.Handle, a.DID)
	}
	if err != nil {
		return err
	}
	c := creation{
		DID: a.DID, Genesis: r.Genesis, ClientSigned: r.ClientSigned, InviteCode: r.InviteCode, Holder: r.Holder, LeaseUntil: r.LeaseUntil,
	}
	if _, err := tx.exec(ctx, insertCreation, values(&c)...); err != nil {
		return err
	}
	if err := tx.PutSigningKey(ctx, r.Key); err != nil {
		return err
	}
	if r.InviteCode != "" {
		if err := tx.redeem(ctx, r.InviteCode, a.DID); err != nil {
			return err
		}
	}
	if r.Phone.Number != nil {
		return tx.claimPhone(ctx, a.DID, r.Phone)
	}
	return nil
}

func (tx *Tx) redeem(ctx context.Context, code string, did syntax.DID) error {
	// Whoever waited here for another use looks at the counter that one left.
	n, err := tx.exec(ctx, redeemInvite, code)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrInviteUnavailable
	}
	_, err = tx.exec(ctx, insertInviteUse, code, did, tx.now())
	return err
}

// FinishAccount makes an account under creation a real one. It returns
// ErrLeaseLost when holder does not hold it, or no longer.
func (tx *Tx) FinishAccount(ctx context.Context, did syntax.DID, holder string) error {
	err := held(tx.exec(ctx, finishCreation, did, holder))
	if err == nil {
		err = held(tx.exec(ctx, finishAccount, did))
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
	err := tx.get(ctx, abortCreation, []any{did, holder}, &genesis, &clientSigned, &invite)
	if errors.Is(err, ErrNotFound) {
		return ErrLeaseLost
	}
	if err != nil {
		return err
	}
	if _, err := tx.exec(ctx, abortAccount, did); err != nil {
		return err
	}
	if invite != "" {
		if _, err := tx.exec(ctx, deleteInviteUse, invite, did); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, returnInvite, invite); err != nil {
			return err
		}
	}
	if genesis == nil || clientSigned || nextLook.IsZero() {
		return nil
	}
	_, err = tx.exec(ctx, insertCleanup, did, genesis, tx.now(), nextLook)
	return err
}

// ClaimUnfinished gives holder up to limit accounts under creation until the
// given time: those whose lease has run out at now, and with force all that
// others hold, see [DB.Exclusive]. No two holders get the same one.
func (tx *Tx) ClaimUnfinished(
	ctx context.Context, holder string, now, until time.Time, force bool, limit int,
) ([]Unfinished, error) {
	var dids []string
	err := tx.each(ctx, claimCreations, []any{now, number(force), holder, limit, until}, func(row scanner) error {
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
	err = q.get(ctx, selectLease, []any{did}, &until)
	return until, wrap(err, "read creation of %s", did)
}

// ClaimCreation gives holder one account under creation until the given time, if
// its lease has run out at now. Otherwise it returns ErrLeaseLost.
func (tx *Tx) ClaimCreation(ctx context.Context, did syntax.DID, holder string, now, until time.Time) (*Unfinished, error) {
	err := held(tx.exec(ctx, claimCreation, holder, until, did, now))
	var u *Unfinished
	if err == nil {
		u, err = tx.unfinished(ctx, string(did))
	}
	return u, wrap(err, "claim creation of %s", did)
}

// ClaimCleanups gives holder up to limit clean-ups that are due at now, until the
// given time. No two holders get the same one.
func (tx *Tx) ClaimCleanups(ctx context.Context, holder string, now, until time.Time, limit int) ([]Cleanup, error) {
	claimed, err := many[Cleanup](ctx, &tx.queries, claimCleanups, now, limit, holder, until)
	slices.SortFunc(claimed, func(a, b Cleanup) int { return cmp.Compare(a.DID, b.DID) })
	return claimed, wrap(err, "claim clean-ups")
}

// FinishCleanup closes a clean-up. It returns ErrLeaseLost when holder does not
// hold it, or no longer.
func (tx *Tx) FinishCleanup(ctx context.Context, did syntax.DID, holder string) error {
	err := held(tx.exec(ctx, finishCleanup, did, holder))
	return wrap(err, "finish clean-up of %s", did)
}

// PostponeCleanup counts a look that found nothing and lets the clean-up rest
// until next. It returns ErrLeaseLost when holder does not hold it, or no longer.
func (tx *Tx) PostponeCleanup(ctx context.Context, did syntax.DID, holder string, next time.Time) error {
	err := held(tx.exec(ctx, postponeCleanup, next, did, holder))
	return wrap(err, "postpone clean-up of %s", did)
}
