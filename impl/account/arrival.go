package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/blob/rows"
	"portico/impl/identity/plc"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/importer"
)

// An Arrival is an account that comes from another host.
type Arrival struct {
	DID              syntax.DID
	From             string // the public URL of the other host
	Handle           syntax.Handle
	Email            string // "" for none
	EmailConfirmedAt *time.Time
	EmailAuthFactor  bool
	InvitesDisabled  bool
	Preferences      []json.RawMessage
	Standing         Standing
	// Proofs are there once the account is stopped at the other host: all of it is here then.
	Proofs *Proofs
	// Hold is that of [Request].
	Hold func(ctx context.Context, tx *db.Tx) error
}

// A Standing is what an account is to be when it has come: what its owner did, and what
// moderators did.
type Standing struct {
	DeactivatedAt *time.Time    `json:"deactivatedAt,omitempty"`
	DeleteAfter   *time.Time    `json:"deleteAfter,omitempty"`
	TakedownRef   *string       `json:"takedownRef,omitempty"`
	Takedowns     []db.Takedown `json:"takedowns,omitempty"`
	// Back says that it was here before, and is kept whatever becomes of the move.
	Back bool `json:"back,omitempty"`
}

// The states of an account for who asks whether it can come, beside those of [db.AccountMove].
const (
	ArrivalNone = "none" // it is not here, or left here before
	ArrivalHere = "here" // it lives here
)

// Arrived says how far an account that is to come is, and which did:key it signs with, "" for
// none yet. It returns db.ErrDIDTaken for one that is here otherwise, a *TransferRefusal for one
// that leaves or whose DID names neither this server nor from, the public URL of the other host,
// and errors of the directory.
func (t *Transfers) Arrived(ctx context.Context, did syntax.DID, from string) (state, key string, err error) {
	if state, key, err = t.arrived(ctx, did); err == nil && state != ArrivalHere {
		err = t.comesFrom(ctx, did, from)
	}
	return state, key, err
}

// comesFrom keeps an account from being received of which the other host does not dispose:
// whose it is could then not come here.
func (t *Transfers) comesFrom(ctx context.Context, did syntax.DID, from string) error {
	says, err := t.named(ctx, did)
	if err != nil {
		return err
	}
	if pds := says.Services["atproto_pds"]; pds.Endpoint != from && !t.Accounts.Named(ctx, says) {
		return refuseTransfer("The DID does not name %s, but %q", from, pds.Endpoint)
	}
	return nil
}

func (t *Transfers) arrived(ctx context.Context, did syntax.DID) (state, key string, err error) {
	a := t.Accounts
	_, err = a.DB.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return ArrivalNone, "", nil
	}
	if err != nil {
		return "", "", err
	}
	m, err := moveOf(a.DB.AccountMove(ctx, did))
	if err != nil {
		return "", "", err
	}
	has, err := a.DB.SigningKey(ctx, did, KeyPurpose)
	if err != nil {
		return "", "", err
	}
	switch {
	case m == nil:
		if err := t.DIDs.Verify(ctx, did); err != nil {
			if _, wrong := errors.AsType[*DIDError](err); wrong {
				err = db.ErrDIDTaken
			}
			return "", "", err
		}
		return ArrivalHere, has.Public, nil
	case m.State == db.MoveGone:
		return ArrivalNone, has.Public, nil
	case m.Comes():
		return m.State, has.Public, nil
	}
	return "", "", refuseTransfer("The account is on its way from here to %s", m.Host)
}

// Arrive makes the account, deactivated and with a signing key of its own, or brings the one up
// to date that was made so. Nobody can sign in to it before there are proofs. It returns the
// did:key that it signs with.
//
// It returns db.ErrHandleTaken, db.ErrEmailTaken, what Arrived does, or an error of Hold.
func (t *Transfers) Arrive(ctx context.Context, r Arrival) (key string, err error) {
	a := t.Accounts
	state, _, err := t.Arrived(ctx, r.DID, r.From)
	if err == nil && state == ArrivalHere {
		err = db.ErrDIDTaken
	}
	if err == nil {
		_, err = a.DB.AccountByDID(ctx, r.DID)
	}
	switch {
	case errors.Is(err, db.ErrNotFound) && r.Proofs != nil:
		err = refuseTransfer("The account was not received yet")
	case errors.Is(err, db.ErrNotFound):
		err = t.create(ctx, r)
	case err == nil:
		err = a.DB.Write(ctx, func(tx *db.Tx) error { return t.renew(ctx, tx, r) })
	}
	var has *db.SigningKey
	if err == nil {
		has, err = a.DB.SigningKey(ctx, r.DID, KeyPurpose)
	}
	if err != nil {
		return "", fmt.Errorf("receive account %s: %w", r.DID, err)
	}
	return has.Public, nil
}

// create makes an account that waits for its move.
func (t *Transfers) create(ctx context.Context, r Arrival) error {
	a := t.Accounts
	request := Request{DID: r.DID, Handle: r.Handle, Email: r.Email, Hold: r.Hold}
	d, reservation, err := a.draft(ctx, request)
	if err != nil {
		return err
	}
	completion, err := a.completion(d, nil)
	if err != nil {
		return err
	}
	return a.DB.Write(ctx, func(tx *db.Tx) error {
		if err := a.reserve(ctx, tx, request, *reservation); err != nil {
			return err
		}
		if err := completion(ctx, tx); err != nil {
			return err
		}
		return t.putArrival(ctx, tx, &db.AccountMove{DID: r.DID, Since: a.Now()}, r)
	})
}

func (t *Transfers) putArrival(ctx context.Context, tx *db.Tx, m *db.AccountMove, r Arrival) error {
	text, err := json.Marshal(r.Standing)
	if err != nil {
		return fmt.Errorf("encode details of a move: %w", err)
	}
	m.State, m.Host, m.Details, m.NextAt = db.MoveComing, r.From, string(text), nil
	if r.Proofs != nil {
		m.State, m.NextAt = db.MoveReady, new(t.arrivedFrom(t.Accounts.Now()))
	}
	return tx.PutAccountMove(ctx, *m)
}

// renew brings an account up to date that comes.
func (t *Transfers) renew(ctx context.Context, tx *db.Tx, r Arrival) error {
	a := t.Accounts
	acct, err := tx.LockAccount(ctx, r.DID)
	if err != nil {
		return err
	}
	m, err := tx.AccountMove(ctx, r.DID)
	if errors.Is(err, db.ErrNotFound) || err == nil && acct.DeactivatedAt == nil {
		return db.ErrDIDTaken // it lives here
	}
	if err != nil {
		return err
	}
	if m.Leaves() {
		return refuseTransfer("The account is on its way from here to %s", m.Host)
	}
	if m.State == db.MoveReady && r.Proofs == nil {
		// Another one may be telling the directory that it is here: then all of it has to be. The
		// rest comes with the proofs.
		return nil
	}
	var before Standing
	if m.Comes() {
		if err := json.Unmarshal([]byte(m.Details), &before); err != nil {
			return fmt.Errorf("details of a move: %w", err)
		}
	}
	r.Standing.Back = before.Back || m.State == db.MoveGone
	if r.Proofs != nil {
		unfinished, err := tx.UnfinishedImport(ctx, r.DID)
		if err == nil && unfinished != "" {
			err = refuseTransfer("The import of its repository was broken off")
		}
		if err != nil {
			return err
		}
	}
	if acct.Handle != r.Handle && r.Hold != nil {
		if err := r.Hold(ctx, tx); err != nil {
			return err
		}
	}
	acct.Handle, acct.Email, acct.EmailConfirmedAt = r.Handle, r.Email, r.EmailConfirmedAt
	acct.TakedownRef, acct.PasswordHash, acct.EmailAuthFactor = nil, "", false
	acct.InvitesDisabled = r.InvitesDisabled
	if !r.Standing.Back {
		acct.DeleteAfter = new(a.Now().Add(abandonAfter))
	}
	if r.Proofs != nil {
		acct.PasswordHash, acct.EmailAuthFactor = r.Proofs.PasswordHash, r.EmailAuthFactor
	}
	if err := tx.UpdateAccount(ctx, acct); err != nil {
		return err
	}
	if err := t.putProofs(ctx, tx, r); err != nil {
		return err
	}
	if err := tx.PutPreferences(ctx, r.DID, r.Preferences); err != nil {
		return err
	}
	return t.putArrival(ctx, tx, m, r)
}

func (t *Transfers) putProofs(ctx context.Context, tx *db.Tx, r Arrival) error {
	if _, err := tx.DeleteAppPasswords(ctx, r.DID); err != nil {
		return err
	}
	if _, err := tx.DeleteTOTP(ctx, r.DID); err != nil {
		return err
	}
	if err := tx.ReplaceRecoveryCodes(ctx, r.DID); err != nil || r.Proofs == nil {
		return err
	}
	for _, app := range r.Proofs.AppPasswords {
		app.DID, app.MAC = r.DID, nil
		if session.IsMovedHash(app.Scrypt) && !session.ValidMovedHash(app.Scrypt) {
			return refuseTransfer("The hash of an app password is none")
		}
		if err := tx.InsertAppPassword(ctx, app); err != nil {
			return err
		}
	}
	totp := r.Proofs.TOTP
	if totp == nil {
		return nil
	}
	sealed, err := t.Accounts.Keys.Seal(factor.SealedTOTP, r.DID.String(), totp.Secret)
	if err != nil {
		return err
	}
	return tx.PutTOTP(ctx, db.TOTP{DID: r.DID, Sealed: sealed, Step: totp.Step, CreatedAt: totp.CreatedAt})
}

// MayImport is the condition on which the repository of an account that comes is imported: it
// lives here as soon as its DID says so, whoever is still copying it, and nothing older comes in the
// place of what was found to be all of it. It returns a *TransferRefusal or db.ErrNotFound.
func (t *Transfers) MayImport(ctx context.Context, tx *db.Tx, did syntax.DID, i importer.Imported) error {
	m, err := moveOf(tx.AccountMove(ctx, did))
	if err == nil && (m == nil || !m.Comes()) {
		err = refuseTransfer("The account is not on its way here")
	}
	if err != nil || m.State != db.MoveReady {
		return err
	}
	row, err := tx.LockRepo(ctx, did)
	if err == nil && i.Parsed.Rev.String() < row.Rev {
		err = refuseTransfer("What is here already is newer")
	}
	return err
}

// NotArriving is the condition on which owners import their repositories: of one that comes, the
// move alone says what is to be here. It returns ErrMoving.
func NotArriving(ctx context.Context, tx *db.Tx, did syntax.DID, _ importer.Imported) error {
	m, err := moveOf(tx.AccountMove(ctx, did))
	if err == nil && m != nil && m.Comes() {
		err = ErrMoving
	}
	return err
}

// Finish lets an account that has come be what it was at the other host, once its DID names
// this one with the account's key, and tells the network. It is no error when it lives here
// already.
//
// It returns what [Verifier.Verify] does, a *TransferRefusal, and db.ErrNotFound.
func (t *Transfers) Finish(ctx context.Context, did syntax.DID) error {
	if err := t.finish(context.WithoutCancel(ctx), did); err != nil {
		return fmt.Errorf("finish the arrival of %s: %w", did, err)
	}
	return nil
}

func (t *Transfers) finish(ctx context.Context, did syntax.DID) error {
	a := t.Accounts
	if _, err := a.DB.AccountByDID(ctx, did); err != nil {
		return err
	}
	m, err := moveOf(a.DB.AccountMove(ctx, did))
	switch {
	case err != nil:
		return err
	case m != nil && m.State != db.MoveReady:
		return refuseTransfer("Not all of the account is here")
	}
	if err := t.DIDs.Verify(ctx, did); err != nil || m == nil {
		return err
	}
	var s Standing
	if err := json.Unmarshal([]byte(m.Details), &s); err != nil {
		return fmt.Errorf("details of a move: %w", err)
	}
	// Nobody sees them before the account is active, and to do it again changes nothing.
	for _, down := range s.Takedowns {
		if down.Path != "" || a.Blobs == nil || len(down.CID) != len(dagcbor.CID{}) {
			continue
		}
		if err := a.Blobs.TakeDown(ctx, did, dagcbor.CID(down.CID), down.Ref); err != nil && !errors.Is(err, rows.ErrNotFound) {
			return err
		}
	}
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		now, err := moveOf(tx.AccountMove(ctx, did))
		if err != nil || now == nil {
			return err // another was faster
		}
		unfinished, err := tx.UnfinishedImport(ctx, did)
		if err != nil {
			return err
		}
		if now.State != db.MoveReady || now.Details != m.Details || unfinished != "" {
			return refuseTransfer("Not all of the account is here")
		}
		for _, down := range s.Takedowns {
			if down.Path == "" {
				continue
			}
			if err := tx.TakeDownRecord(ctx, did, down.Path, down.Ref); err != nil && !errors.Is(err, db.ErrNotFound) {
				return err
			}
		}
		acct.TakedownRef, acct.DeactivatedAt, acct.DeleteAfter, acct.DeleteAnnouncedAt = s.TakedownRef, nil, s.DeleteAfter, nil
		if s.DeactivatedAt != nil {
			// Later than its creation here: who never activated it is told by that.
			acct.DeactivatedAt = new(later(*s.DeactivatedAt, acct.CreatedAt.Add(time.Microsecond)))
		}
		if err := tx.UpdateAccount(ctx, acct); err != nil {
			return err
		}
		if err := tx.DeleteAccountMove(ctx, did); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, a.Now(), did, audit.Arrived, "from "+now.Host); err != nil {
			return err
		}
		return t.say(ctx, tx, acct)
	})
	if err != nil {
		return err
	}
	a.DIDChanged(did)
	t.Identities.refresh(ctx, did)
	return nil
}

// AbandonArrival removes an account that comes, or leaves one as it was that was here before.
// It returns a *TransferRefusal once its DID names this server, db.ErrNotFound, or errors of the
// directory.
func (t *Transfers) AbandonArrival(ctx context.Context, did syntax.DID) error {
	a := t.Accounts
	says, err := t.named(ctx, did)
	if errors.Is(err, plc.ErrTombstoned) {
		err = nil // nowhere
	}
	if err != nil {
		return fmt.Errorf("abandon the arrival of %s: %w", did, err)
	}
	removed := false
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		removed = false
		acct, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		m, err := moveOf(tx.AccountMove(ctx, did))
		if err != nil {
			return err
		}
		if m == nil || !m.Comes() {
			return refuseTransfer("The account is not on its way here")
		}
		if a.Named(ctx, says) {
			return refuseTransfer("The DID names this server already: the move can only go on")
		}
		var s Standing
		if err := json.Unmarshal([]byte(m.Details), &s); err != nil {
			return fmt.Errorf("details of a move: %w", err)
		}
		if s.Back {
			acct.TakedownRef, acct.PasswordHash = s.TakedownRef, ""
			m.State, m.NextAt, m.Details = db.MoveGone, nil, "{}"
			return errors.Join(tx.UpdateAccount(ctx, acct), tx.PutAccountMove(ctx, *m))
		}
		removed = true
		if err := audit.Record(ctx, tx, a.Now(), "", audit.AccountDeleted, did.String()+", which was to come from "+m.Host); err != nil {
			return err
		}
		return a.remove(ctx, tx, did)
	})
	if err != nil {
		return fmt.Errorf("abandon the arrival of %s: %w", did, err)
	}
	if removed {
		a.Forget(ctx, did)
	}
	return nil
}
