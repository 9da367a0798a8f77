package adopt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account"
	adoptedsecret "portico/impl/account/adopted"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
)

// accounts adopts what is in account.sqlite and the keys of accounts, in one transaction:
// an earlier try is undone by it.
func (a *Adoption) accounts(ctx context.Context) error {
	var counts []Count
	err := a.Target.WriteAlone(ctx, func(tx *db.Tx) error {
		if err := tx.ForgetAdopted(ctx); err != nil {
			return err
		}
		w := &accountWriter{Adoption: a, tx: tx, now: a.Now(), adopted: make(map[syntax.DID]bool)}
		for _, step := range []func(context.Context) (Count, error){
			w.actors, w.appPasswords, w.refreshTokens, w.emailTokens, w.invites, w.reservedKeys,
		} {
			c, err := step(ctx)
			if err != nil {
				return err
			}
			w.counts = append(w.counts, c)
		}
		if err := w.compare(ctx); err != nil {
			return err
		}
		counts = w.counts
		return nil
	})
	for _, c := range counts {
		a.count(c)
	}
	return err
}

// accountWriter writes accounts and what is theirs, in one transaction.
type accountWriter struct {
	*Adoption
	tx      *db.Tx
	now     time.Time
	adopted map[syntax.DID]bool
	counts  []Count
}

func (w *accountWriter) actors(ctx context.Context) (Count, error) {
	c := Count{Of: "accounts"}
	for row, err := range w.Source.Actors(ctx) {
		if err != nil {
			return c, err
		}
		c.Source++
		k, err := w.key(row.DID)
		if errors.Is(err, reference.ErrNoStore) && w.SkipBroken {
			c.drop("their repositories are gone: their deletion is finished")
			continue
		}
		if err != nil {
			return c, err
		}
		account, err := w.account(row)
		if err != nil {
			return c, fmt.Errorf("account %s: %w", row.DID, err)
		}
		if err := w.tx.AdoptAccount(ctx, *account, *k); err != nil {
			return c, err
		}
		if account.PasswordHash != "" {
			if err := w.keep(ctx)(adoptedsecret.Password(w.Keys, account.DID, account.PasswordHash)); err != nil {
				return c, err
			}
		}
		w.adopted[account.DID] = true
		c.Adopted++
		if c.Adopted%100 == 0 {
			w.progress("accounts", c.Adopted, 0)
		}
	}
	return c, w.removeOthers(ctx)
}

// keep stores what the old server can use once more, for the way back.
func (w *accountWriter) keep(ctx context.Context) func(db.AdoptedSecret, error) error {
	return func(s db.AdoptedSecret, err error) error {
		if err != nil {
			return err
		}
		return w.tx.PutAdoptedSecrets(ctx, []db.AdoptedSecret{s})
	}
}

// drop counts one that is not taken over.
func (c *Count) drop(why string) {
	c.Dropped++
	switch {
	case c.Why == "":
		c.Why = why
	case !strings.Contains(c.Why, why):
		c.Why += "; " + why
	}
}

// account is the row of an account.
func (w *accountWriter) account(row reference.Actor) (*db.Account, error) {
	a := &db.Account{DID: syntax.DID(row.DID), InvitesDisabled: row.InvitesDisabled, TakedownRef: row.TakedownRef}
	var err error
	if a.CreatedAt, err = reference.ParseTime(row.CreatedAt); err != nil {
		return nil, err
	}
	for _, t := range []struct {
		text *string
		to   **time.Time
	}{{row.DeactivatedAt, &a.DeactivatedAt}, {row.EmailConfirmedAt, &a.EmailConfirmedAt}} {
		if t.text == nil {
			continue
		}
		at, err := reference.ParseTime(*t.text)
		if err != nil {
			return nil, err
		}
		*t.to = &at
	}
	a.Handle, _ = handleOf(row)
	if row.Email != nil {
		a.Email = email.ToLower(*row.Email)
	}
	if row.PasswordScrypt != nil {
		a.PasswordHash = *row.PasswordScrypt
	}
	// The reference has never deleted anybody of itself, however long ago they wished it. It
	// has the day as the owner wrote it, also one that is in no calendar.
	if row.DeleteAfter != nil {
		at, err := reference.ParseTime(*row.DeleteAfter)
		if least := w.now.Add(w.DeleteAfterMin); err != nil || at.Before(least) {
			at = least
		}
		a.DeleteAfter = &at
	}
	return a, nil
}

// handleOf is the handle of an account, "" if it has none. What is no handle is none either,
// and not ok.
func handleOf(row reference.Actor) (h syntax.Handle, ok bool) {
	if row.Handle == nil || *row.Handle == syntax.HandleInvalid.String() {
		return "", true
	}
	h, err := syntax.ParseHandle(strings.ToLower(*row.Handle))
	if err != nil {
		return "", false
	}
	return h, true
}

// key is the sealed signing key of an account.
func (w *accountWriter) key(did string) (*db.SigningKey, error) {
	raw, err := w.Source.Key(did)
	if err != nil {
		return nil, fmt.Errorf("signing key of %s: %w", did, err)
	}
	defer clear(raw)
	public, err := publicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("signing key of %s: %w", did, err)
	}
	sealed, err := w.Keys.Seal(account.KeyPurpose, did, raw)
	if err != nil {
		return nil, err
	}
	return &db.SigningKey{DID: syntax.DID(did), Purpose: account.KeyPurpose, Public: public, Sealed: sealed}, nil
}

// publicKey is the did:key of a private key's public half.
func publicKey(raw []byte) (string, error) {
	private, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		return "", fmt.Errorf("%w: %w", reference.ErrDamaged, err)
	}
	public, err := private.PublicKey()
	if err != nil {
		return "", err
	}
	return public.DIDKey(), nil
}

// removeOthers removes the accounts that an earlier try has adopted and this one has not:
// it was told to leave out what is broken.
func (w *accountWriter) removeOthers(ctx context.Context) error {
	for last := syntax.DID(""); ; {
		page, err := w.tx.Accounts(ctx, last, 500)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, a := range page {
			last = a.DID
			if w.adopted[a.DID] {
				continue
			}
			if err := w.tx.DeleteAccount(ctx, a.DID); err != nil {
				return err
			}
		}
	}
}

func (w *accountWriter) appPasswords(ctx context.Context) (Count, error) {
	c := Count{Of: "app passwords"}
	for row, err := range w.Source.AppPasswords(ctx) {
		if err != nil {
			return c, err
		}
		c.Source++
		did := syntax.DID(row.DID)
		if !w.adopted[did] {
			c.drop("their accounts are gone")
			continue
		}
		p := db.AppPassword{DID: did, Name: row.Name, Scrypt: row.PasswordScrypt, Privileged: row.Privileged}
		if p.CreatedAt, err = reference.ParseTime(row.CreatedAt); err != nil {
			return c, fmt.Errorf("app password of %s: %w", did, err)
		}
		if err := w.tx.InsertAppPassword(ctx, p); err != nil {
			return c, err
		}
		if err := w.keep(ctx)(adoptedsecret.AppPassword(w.Keys, did, p.Name, p.Scrypt)); err != nil {
			return c, err
		}
		c.Adopted++
	}
	return c, nil
}

func (w *accountWriter) invites(ctx context.Context) (Count, error) {
	uses := Count{Of: "uses of invite codes"}
	used := make(map[string][]db.InviteUse)
	for row, err := range w.Source.InviteCodeUses(ctx) {
		if err != nil {
			return uses, err
		}
		uses.Source++
		at, err := reference.ParseTime(row.UsedAt)
		if err != nil {
			return uses, fmt.Errorf("use of an invite code by %s: %w", row.UsedBy, err)
		}
		used[row.Code] = append(used[row.Code], db.InviteUse{Code: row.Code, By: syntax.DID(row.UsedBy), At: at})
	}
	c := Count{Of: "invite codes"}
	for row, err := range w.Source.InviteCodes(ctx) {
		if err != nil {
			return c, err
		}
		c.Source++
		i := db.Invite{
			Code: row.Code, Uses: int(row.AvailableUses), Disabled: row.Disabled, ForAccount: row.ForAccount, CreatedBy: row.CreatedBy,
			Used: used[row.Code], Spent: len(used[row.Code]),
		}
		if i.CreatedAt, err = reference.ParseTime(row.CreatedAt); err != nil {
			return c, fmt.Errorf("invite code of %s: %w", row.ForAccount, err)
		}
		if err := w.tx.AdoptInvite(ctx, i); err != nil {
			return c, err
		}
		c.Adopted++
		uses.Adopted += int64(len(i.Used))
	}
	for range uses.Source - uses.Adopted {
		uses.drop("their codes are gone")
	}
	w.counts = append(w.counts, uses)
	return c, nil
}

func (w *accountWriter) emailTokens(ctx context.Context) (Count, error) {
	c := Count{Of: "emailed codes"}
	for row, err := range w.Source.EmailTokens(ctx) {
		if err != nil {
			return c, err
		}
		c.Source++
		if !w.adopted[syntax.DID(row.DID)] {
			c.drop("their accounts are gone")
			continue
		}
		sent, err := reference.ParseTime(row.RequestedAt)
		if err != nil {
			return c, fmt.Errorf("emailed code of %s: %w", row.DID, err)
		}
		a, err := w.tx.AccountByDID(ctx, syntax.DID(row.DID))
		if err != nil {
			return c, err
		}
		code, ok := emailcode.Adopted(w.Keys, emailcode.Purpose(row.Purpose), a, row.Token, sent, w.now)
		if !ok {
			c.drop("they have expired")
			continue
		}
		if err := w.tx.InsertCode(ctx, code, 1); err != nil {
			return c, err
		}
		c.Adopted++
	}
	return c, nil
}

// reservedKeys adopts the keys that wait for their accounts; their time begins anew, since
// nobody wrote down when they were made.
func (w *accountWriter) reservedKeys(ctx context.Context) (Count, error) {
	c := Count{Of: "reserved keys"}
	keys, err := w.Source.ReservedKeys()
	if err != nil && !errors.Is(err, reference.ErrDamaged) { // those are named by [Adoption.plan]
		return c, err
	}
	for _, k := range keys {
		c.Source++
		public, err := reservedPublic(k)
		if err != nil {
			c.drop("they are damaged")
			continue
		}
		row := db.ReservedKey{ID: k.Name, Public: public, CreatedAt: w.now, ExpiresAt: w.now.Add(account.ReservationLife)}
		if row.ID != public {
			row.DID = syntax.DID(row.ID)
		}
		if row.Sealed, err = w.Keys.Seal(account.ReservedPurpose, row.ID, k.Key); err != nil {
			return c, err
		}
		if _, err := w.tx.ReserveKey(ctx, row); err != nil {
			return c, err
		}
		c.Adopted++
	}
	return c, nil
}

// compare returns an error unless the database has as many rows as were adopted.
func (w *accountWriter) compare(ctx context.Context) error {
	n, err := w.tx.CountAdopted(ctx)
	if err != nil {
		return err
	}
	have := map[string]int64{
		"accounts": n.Accounts, "app passwords": n.AppPasswords, "sessions": n.Sessions, "emailed codes": n.EmailCodes,
		"invite codes": n.Invites, "uses of invite codes": n.InviteUses, "reserved keys": n.ReservedKeys,
	}
	for _, c := range w.counts {
		if have[c.Of] != c.Adopted || c.Adopted+c.Dropped != c.Source {
			return fmt.Errorf("%d %s were adopted and %d left out of %d, and %d are there", c.Adopted, c.Of, c.Dropped, c.Source, have[c.Of])
		}
	}
	return nil
}
