package account

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/audit"
	"portico/impl/identity/plc"
)

// Transfers moves single accounts between this server and another of its kind. It is safe for
// concurrent use, also by several processes.
//
// Nobody sees both hosts at once, so a move is a saga with a row at each of them: the account
// leaves here (stopped, pointing, gone) and comes there (coming, ready). In between stands the
// directory, which alone says where the account lives. Before it was told anything all can be
// undone; afterwards there is only the way forward. Each step can be taken again.
//
//	stop    here: deactivated, after a commit that no write which was under way can follow
//	Arrive  there: all of it is copied by then
//	point   here: only if what is there is what is here; the directory is told
//	Finish  there: active, once the DID says so
//	leave   here: sessions end
//
// Whatever is broken off in between, [Transfers.Run] settles by what the directory says: an
// account is active at one host, and no acknowledged write is lost.
type Transfers struct {
	Accounts   *Accounts
	Identities *Identities
	DIDs       *Verifier
	// Lease is how long a step may be followed by none before the server itself goes on. The
	// default is [DefaultTransferLease].
	Lease time.Duration
}

// DefaultTransferLease is far more than any step takes.
const DefaultTransferLease = 10 * time.Minute

// A TransferRefusal says why an account cannot be moved, or not by that step. Its message is
// for the operator.
type TransferRefusal struct{ Message string }

func (r *TransferRefusal) Error() string { return r.Message }

func refuseTransfer(format string, args ...any) error {
	return &TransferRefusal{fmt.Sprintf(format, args...)}
}

var (
	// ErrMoving says that an account is on its way between two hosts.
	ErrMoving = errors.New("account is on its way between two hosts")
	// ErrOutdated says that the other host has not what the account has.
	ErrOutdated = errors.New("the other host has not what the account has")
)

// MaxTakedowns is how many records of an account that moves, and how many blobs, may be taken
// down.
const MaxTakedowns = 10_000

// leaseFrom is until when a step may be followed by none. After all of an account came its DID
// is looked at sooner.
func (t *Transfers) leaseFrom(now time.Time) time.Time {
	return now.Add(cmp.Or(t.Lease, DefaultTransferLease))
}

func (t *Transfers) arrivedFrom(now time.Time) time.Time {
	return now.Add(cmp.Or(t.Lease, DefaultTransferLease) / 10)
}

// moveOf is the move that an account is in, nil for none.
func moveOf(m *db.AccountMove, err error) (*db.AccountMove, error) {
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return m, err
}

// notMoving returns ErrMoving for an account that only a move may switch on. Who comes back to
// a host that was left, by a move of their own, ends the memory of that.
func notMoving(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	m, err := moveOf(tx.AccountMove(ctx, did))
	switch {
	case err != nil || m == nil:
		return err
	case m.State == db.MoveGone:
		return tx.DeleteAccountMove(ctx, did)
	}
	return ErrMoving
}

// notLeaving returns ErrMoving for an account of which nothing may change any more.
func notLeaving(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	m, err := moveOf(tx.AccountMove(ctx, did))
	if err == nil && m != nil && m.Leaves() {
		err = ErrMoving
	}
	return err
}

// Proofs are what the owner of an account proves to be that with, as it goes to another host.
type Proofs struct {
	PasswordHash string // "" for none
	// AppPasswords have the hashes in Scrypt; see [session.Sessions.MovedHash].
	AppPasswords []db.AppPassword
	TOTP         *TOTPProof // nil for none
}

// A TOTPProof is the secret of an authenticator app.
type TOTPProof struct {
	Secret    []byte
	Step      int64
	CreatedAt time.Time
}

// Packed is an account as it goes to another host, without repository and blobs.
type Packed struct {
	Account     db.Account // with no hash
	Preferences []json.RawMessage
	Takedowns   []db.Takedown
	// DeactivatedAt and DeleteAfter are what its owner did, not the move.
	DeactivatedAt, DeleteAfter *time.Time
	Proofs                     *Proofs         // nil as long as the account is not stopped
	Move                       *db.AccountMove // nil for none
	// Version names the rest, once there are proofs.
	Version string
}

// Pack reads what goes to another host. What proves the owner is given out only while the
// account is stopped, and is recorded.
//
// It returns a *TransferRefusal for an account that cannot move, and db.ErrNotFound.
func (t *Transfers) Pack(ctx context.Context, did syntax.DID) (*Packed, error) {
	var p *Packed
	err := t.Accounts.DB.Write(ctx, func(tx *db.Tx) (err error) {
		if p, err = t.pack(ctx, tx, did); err != nil || p.Proofs == nil {
			return err
		}
		return audit.Record(ctx, tx, t.Accounts.Now(), did, audit.ProofsGivenOut, "to "+p.Move.Host)
	})
	if err != nil {
		return nil, fmt.Errorf("pack account %s: %w", did, err)
	}
	return p, nil
}

func (t *Transfers) pack(ctx context.Context, tx *db.Tx, did syntax.DID) (*Packed, error) {
	acct, err := tx.LockAccount(ctx, did)
	if err != nil {
		return nil, err
	}
	p := &Packed{Account: *acct, DeactivatedAt: acct.DeactivatedAt, DeleteAfter: acct.DeleteAfter}
	if p.Move, err = moveOf(tx.AccountMove(ctx, did)); err != nil {
		return nil, err
	}
	if err := mayLeave(acct, p.Move); err != nil {
		return nil, err
	}
	if p.Preferences, err = tx.Preferences(ctx, did); err != nil {
		return nil, err
	}
	if p.Takedowns, err = tx.Takedowns(ctx, did, MaxTakedowns+1); err != nil {
		return nil, err
	}
	records := 0
	for _, d := range p.Takedowns {
		if d.Path != "" {
			records++
		}
	}
	if records > MaxTakedowns || len(p.Takedowns)-records > MaxTakedowns {
		return nil, refuseTransfer("More than %d of its records or blobs are taken down", MaxTakedowns)
	}
	hash := p.Account.PasswordHash
	p.Account.PasswordHash = ""
	if p.Move == nil || !p.Move.Leaves() {
		return p, nil
	}
	var d departureDetails
	if err := json.Unmarshal([]byte(p.Move.Details), &d); err != nil {
		return nil, fmt.Errorf("details of a move: %w", err)
	}
	p.DeactivatedAt, p.DeleteAfter = d.DeactivatedAt, d.DeleteAfter
	if p.Proofs, err = t.proofs(ctx, tx, did, hash); err != nil {
		return nil, err
	}
	p.Version, err = p.version()
	return p, err
}

// version names what is packed: another one, and what was given out before is outdated.
func (p *Packed) version() (string, error) {
	a := p.Account
	a.DeactivatedAt, a.DeleteAfter, a.DeleteAnnouncedAt, a.TokensValidFrom = nil, nil, nil, time.Time{}
	text, err := json.Marshal(struct {
		Account                    db.Account
		Preferences                []json.RawMessage
		Takedowns                  []db.Takedown
		DeactivatedAt, DeleteAfter *time.Time
		Proofs                     *Proofs
	}{a, p.Preferences, p.Takedowns, p.DeactivatedAt, p.DeleteAfter, p.Proofs})
	if err != nil {
		return "", fmt.Errorf("encode account: %w", err)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// mayLeave returns a *TransferRefusal for an account that is in a state in which it can't.
func mayLeave(acct *db.Account, m *db.AccountMove) error {
	switch {
	case acct.Held():
		return refuseTransfer("The account is in quarantine: approve it first")
	case acct.DID.Method() != "plc":
		return refuseTransfer("The DID is a did:%s, which only its owner can change: they move by themselves", acct.DID.Method())
	case m != nil && m.Comes():
		return refuseTransfer("The account is on its way here, from %s", m.Host)
	case m == nil && NeverActivated(acct):
		return refuseTransfer("The account was brought here and never activated")
	}
	return nil
}

func (t *Transfers) proofs(ctx context.Context, tx *db.Tx, did syntax.DID, hash string) (*Proofs, error) {
	p := &Proofs{PasswordHash: hash}
	apps, err := tx.AppPasswordHashes(ctx, did)
	if err != nil {
		return nil, err
	}
	for _, app := range apps {
		if app.MAC != nil {
			app.Scrypt, app.MAC = t.Accounts.Sessions.MovedHash(app.MAC), nil
		}
		p.AppPasswords = append(p.AppPasswords, app)
	}
	totp, err := tx.TOTP(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	secret, err := t.Accounts.Keys.Open(factor.SealedTOTP, did.String(), totp.Sealed)
	if err != nil {
		return nil, fmt.Errorf("secret of an authenticator app: %w", err)
	}
	p.TOTP = &TOTPProof{secret, totp.Step, totp.CreatedAt}
	return p, nil
}

// named is what the directory says of a DID.
func (t *Transfers) named(ctx context.Context, did syntax.DID) (plc.Data, error) {
	last, err := t.Identities.Directory.Last(ctx, did)
	if err != nil {
		return plc.Data{}, err
	}
	d, ok := last.Data()
	if !ok {
		return plc.Data{}, plc.ErrTombstoned
	}
	return d, nil
}

// Run takes up what was broken off: it undoes a departure of which the directory was told
// nothing, leaves or finishes where the DID names the other host. What cannot be settled now is
// logged and tried again a Lease later.
func (t *Transfers) Run(ctx context.Context) error {
	a := t.Accounts
	for {
		due, err := a.DB.DueAccountMoves(ctx, a.Now(), 50)
		if err != nil || len(due) == 0 {
			return err
		}
		for _, m := range due {
			// Also when the process ends in the midst of it, others come first.
			due, err := t.postpone(ctx, m.DID)
			if err != nil {
				return err
			}
			if due == nil {
				continue
			}
			err = t.settle(ctx, *due)
			if refused, ok := errors.AsType[*TransferRefusal](err); ok {
				a.Log.InfoContext(ctx, "move of an account left for later", "did", m.DID, "host", m.Host, "reason", refused.Message)
			} else if err != nil {
				a.Log.WarnContext(ctx, "move of an account left for later", "did", m.DID, "host", m.Host, "error", err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
}

func (t *Transfers) settle(ctx context.Context, m db.AccountMove) error {
	switch m.State {
	case db.MoveStopped, db.MoveUndoing:
		return t.Abandon(ctx, m.DID)
	case db.MovePointing:
		err := t.Leave(ctx, m.DID)
		if _, elsewhere := errors.AsType[*TransferRefusal](err); elsewhere {
			return t.Abandon(ctx, m.DID)
		}
		return err
	case db.MoveReady:
		err := t.Finish(ctx, m.DID)
		if wrong, ok := errors.AsType[*DIDError](err); ok {
			return refuseTransfer("%s", wrong.Message)
		}
		return err
	}
	return nil
}

// postpone gives whoever settles a move a Lease of time. It returns the move as it is, nil for one
// whose turn has not come any more.
func (t *Transfers) postpone(ctx context.Context, did syntax.DID) (due *db.AccountMove, err error) {
	err = t.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		due = nil
		if _, err := tx.LockAccount(ctx, did); err != nil {
			return err
		}
		now := t.Accounts.Now()
		m, err := tx.AccountMove(ctx, did)
		if err != nil || m.NextAt == nil || m.NextAt.After(now) {
			return err // somebody took a step
		}
		m.NextAt, due = new(t.leaseFrom(now)), m
		return tx.PutAccountMove(ctx, *m)
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return due, err
}
