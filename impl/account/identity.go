package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/identity/plc"
	"portico/impl/repo/event"
)

// Identities changes what the DIDs of accounts say, in the PLC directory and here.
// It is safe for concurrent use.
type Identities struct {
	Accounts *Accounts
	// Directory has the operations of did:plc; *plc.Client is one.
	Directory interface {
		// Last returns the last operation that counts.
		Last(ctx context.Context, did syntax.DID) (plc.Operation, error)
		// Submit posts any operation once.
		Submit(ctx context.Context, did syntax.DID, op plc.Operation) error
	}
	// Documents are those of all DIDs, and past the cache; *resolve.Cache is one.
	Documents Documents
	// Foreign says whose the handles outside this server's domains are.
	Foreign interface {
		ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error)
	}
	Rules   *handle.Rules
	Domains *domain.Domains
}

var (
	// ErrHandleNotInDocument says that a DID, which only its owner can change, does
	// not name the handle that its account is to get.
	ErrHandleNotInDocument = &DIDError{"DID is not properly configured for handle"}
	// ErrKeyUnknown says that the private half of a key is not here.
	ErrKeyUnknown = errors.New("signing key was not reserved here")
)

// GiveHandle gives an account a handle that it may have, also the one it has, and
// tells the network. An administrator may give away reserved and inappropriate
// names, those under closed domains, and those of the server itself. Who moves into a
// domain that asks for invites must have signed up with one. A handle outside this
// server's domains must point to did already. payer pays, as in PayForChange, but not for
// a handle that the rules refuse to everybody.
//
// It returns the *handle.Error that refuses the handle, *budget.Spent, db.ErrNotFound,
// db.ErrHandleTaken, ErrHeld, ErrHandleNotInDocument, ErrUnresolved, ErrHandleChanging,
// plc.ErrTombstoned, *plc.Error, *plc.Refused or plc.ErrUnreachable; then the account
// has the handle that it had. With ErrDirectory nobody knows yet: the change is
// finished later, see [Identities.Resume].
func (i *Identities) GiveHandle(ctx context.Context, did syntax.DID, wanted string, payer budget.Payer, admin bool) error {
	domains := i.Domains.Current(ctx)
	c, refused := i.Rules.Check(domains, wanted, admin)
	if refused != nil && !errors.Is(refused, handle.ErrUnsupportedDomain) {
		return refused
	}
	if err := i.Accounts.PayForChange(ctx, payer); err != nil {
		return err
	}
	if err := i.mayHave(ctx, did, domains, c, refused); err != nil {
		return err
	}
	return i.change(ctx, did, c.Handle, func(ctx context.Context, tx *db.Tx) error {
		if !c.Local || c.Domain == "" {
			return nil
		}
		d, err := i.Domains.Hold(ctx, tx, c.Domain, c.Handle, did)
		if err != nil || admin {
			return err
		}
		return admit(ctx, tx, did, domains, d)
	})
}

// admit returns the error that keeps an account, which tx has locked, from moving into
// one of the domains. Who is there may change from one name to another.
func admit(ctx context.Context, tx *db.Tx, did syntax.DID, domains *handle.Domains, into handle.Domain) error {
	switch into.Policy {
	case handle.Closed:
		return handle.ErrUnsupportedDomain
	case handle.Open:
		return nil
	}
	a, err := tx.AccountByDID(ctx, did)
	if err != nil {
		return err
	}
	if domains.Of(a.Handle) == into.Name {
		return nil
	}
	invited, err := tx.Invited(ctx, did)
	if err == nil && !invited {
		err = handle.ErrUninvited
	}
	return err
}

// mayHave returns the error that keeps an account from a handle of which the rules say
// nothing, or refused, which is handle.ErrUnsupportedDomain. What an account was given
// once it keeps.
func (i *Identities) mayHave(ctx context.Context, did syntax.DID, domains *handle.Domains, c handle.Choice, refused error) error {
	if c.Local && refused == nil {
		return nil
	}
	if refused != nil || domains.Root(c.Handle.String()) {
		a, err := i.Accounts.DB.AccountByDID(ctx, did)
		if err != nil {
			return fmt.Errorf("choose handle: %w", err)
		}
		if a.Handle == c.Handle {
			return nil
		}
	}
	if refused != nil {
		return refused
	}
	found, err := i.Foreign.ResolveHandle(ctx, c.Handle)
	if err != nil || found != did {
		i.Accounts.Log.DebugContext(ctx, "foreign handle", "handle", c.Handle, "did", did, "found", found, "error", err)
		return handle.ErrUnresolved
	}
	return nil
}

// where says of the last operation of a DID, on which the directory lets no other come
// first, whether this server is to follow it.
type where = func(last plc.Operation) error

func anywhere(plc.Operation) error { return nil }

var errElsewhere = errors.New("the DID names another server")

// here is where the account of a DID is on this server.
func (i *Identities) here(ctx context.Context) where {
	return func(last plc.Operation) error {
		d, ok := last.Data()
		if !ok {
			return plc.ErrTombstoned
		}
		if !i.Accounts.Named(ctx, d) {
			return errElsewhere
		}
		return nil
	}
}

// update posts the operation that changes a did:plc as asked.
func (i *Identities) update(ctx context.Context, did syntax.DID, where where, change func(*plc.Data)) error {
	last, err := i.Directory.Last(ctx, did)
	if err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		now, err := i.updateAfter(ctx, did, last, where, change)
		if now == nil || now.Same(last) || tries == maxOvertaken {
			return err
		}
		last = now // another came first
	}
}

// updateAfter is one try of update. With the error of the directory it returns the operation
// that is the last one there now, nil if that can't be told.
func (i *Identities) updateAfter(ctx context.Context, did syntax.DID, last plc.Operation, where where, change func(*plc.Data)) (now plc.Operation, err error) {
	if err := where(last); err != nil {
		return nil, err
	}
	op, err := plc.Update(last, change)
	if err != nil {
		return nil, err
	}
	if err := i.Accounts.Sign(op, last); err != nil {
		return nil, fmt.Errorf("sign operation: %w", err)
	}
	defer i.Accounts.DIDChanged(did)
	failure := i.Directory.Submit(ctx, did, op)
	if failure == nil {
		return nil, nil
	}
	now, err = i.Directory.Last(ctx, did)
	if err != nil {
		return nil, failure
	}
	// An answer that was lost is no refusal.
	if now.Same(op) {
		return nil, nil
	}
	return now, failure
}

// refresh lets this server, too, see what a DID says now.
func (i *Identities) refresh(ctx context.Context, did syntax.DID) {
	if _, err := i.Documents.Resolve(ctx, did, true); err != nil {
		i.Accounts.Log.InfoContext(ctx, "cached DID document may be an old one", "did", did, "error", err)
	}
}

// ChangeSigningKey gives an account another signing key: one that was reserved
// here, for the DID or for nobody yet, or the one that it has, so that a DID that
// names another gets it back. The repository is signed with it anew. The directory
// comes first: a failure in between leaves the DID ahead of the account, and doing
// the same again mends it.
//
// It returns db.ErrNotFound, ErrHeld, ErrKeyUnknown, ErrSigningKey for a DID that only its
// owner can change and that names another key, plc.ErrTombstoned, or a *plc.Error.
func (i *Identities) ChangeSigningKey(ctx context.Context, did syntax.DID, public string) error {
	return i.changeSigningKey(ctx, did, public, anywhere)
}

func (i *Identities) changeSigningKey(ctx context.Context, did syntax.DID, public string, where where) error {
	a := i.Accounts
	acct, err := a.DB.AccountByDID(ctx, did)
	if err == nil && acct.Held() {
		err = ErrHeld
	}
	if err != nil {
		return fmt.Errorf("change signing key: %w", err)
	}
	reserved, err := i.keyFor(ctx, did, public)
	if err != nil {
		return fmt.Errorf("change signing key of %s: %w", did, err)
	}
	ctx = context.WithoutCancel(ctx)
	if err := i.nameKey(ctx, did, public, where); err != nil {
		return fmt.Errorf("change signing key of %s: %w", did, err)
	}
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		said := []event.Event{event.Identity(did, "")}
		if reserved != nil {
			if err := takeKey(ctx, tx, *reserved); err != nil {
				return err
			}
			private, err := a.openReserved(*reserved)
			if err != nil {
				return err
			}
			sealed, err := a.Keys.Seal(KeyPurpose, did.String(), private.Bytes())
			if err != nil {
				return err
			}
			key := db.SigningKey{DID: did, Purpose: KeyPurpose, Public: public, Sealed: sealed}
			if err := tx.PutSigningKey(ctx, key); err != nil {
				return err
			}
			signed, err := a.signAnew(ctx, tx, acct, key)
			if err != nil {
				return err
			}
			said = append(said, signed...)
		}
		if err := audit.Record(ctx, tx, a.Now(), did, audit.SigningKeyChanged, "to "+public); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, Events(did, said...)...)
	})
	if err != nil {
		return fmt.Errorf("change signing key of %s: %w", did, err)
	}
	i.refresh(ctx, did)
	return nil
}

// keyFor returns the reservation of a key, or nil when the account has that key
// already.
func (i *Identities) keyFor(ctx context.Context, did syntax.DID, public string) (*db.ReservedKey, error) {
	a := i.Accounts
	has, err := a.DB.SigningKey(ctx, did, KeyPurpose)
	if err != nil {
		return nil, err
	}
	if has.Public == public {
		return nil, nil
	}
	for _, id := range []string{did.String(), public} {
		k, err := a.DB.ReservedKey(ctx, id)
		if errors.Is(err, db.ErrNotFound) || err == nil && k.Public != public {
			continue
		}
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	return nil, ErrKeyUnknown
}

func (i *Identities) nameKey(ctx context.Context, did syntax.DID, public string, where where) error {
	if did.Method() == "plc" {
		return i.update(ctx, did, where, func(d *plc.Data) {
			if d.VerificationMethods == nil {
				d.VerificationMethods = map[string]string{}
			}
			d.VerificationMethods["atproto"] = public
		})
	}
	doc, err := i.Documents.Resolve(ctx, did, true)
	if err != nil {
		return errors.Join(ErrUnresolved, err)
	}
	key, err := doc.Key("atproto")
	if err != nil || key.DIDKey() != public {
		return ErrSigningKey
	}
	return nil
}
