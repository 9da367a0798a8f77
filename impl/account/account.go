// Package account makes accounts.
//
// An account is real: it has a DID whose directory entry names this server, a
// signing key, and a signed repository. Those live in two places, our database
// and the PLC directory, and no transaction spans them. Creation is therefore a
// saga:
//
//	reserve   one transaction takes handle, email and invite use, and stores
//	          key and signed genesis operation: the DID is known from here on
//	register  the genesis goes to the directory, however long the answer takes
//	complete  one transaction makes the repository, the events and the session
//	abort     or one transaction gives everything back; only then may the DID
//	          be tombstoned
//
// Whoever works on an account holds its lease. A process that dies leaves a
// lease that runs out, and [Accounts.Resume] takes the account up from what the
// directory says. At no moment is there a DID without an account or a clean-up
// that will find it, nor a handle taken by nobody.
//
// An account that is to be held in a [Quarantine] is reserved and completed in one
// transaction, and registered at its release.
package account

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/blob/rows"
	"portico/impl/budget"
	"portico/impl/identity/host"
	"portico/impl/identity/plc"
	"portico/impl/keyring"
	"portico/impl/repo"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
)

// KeyPurpose is the purpose under which an account's repository key is stored.
const KeyPurpose = keyring.Repository

// Directory is what creation needs of the PLC directory; *plc.Client is one.
type Directory interface {
	// Register submits a genesis operation. It returns nil when the directory has
	// it, *plc.Refused or plc.ErrUnreachable when it certainly has not, and any
	// other error when that is unknown.
	Register(ctx context.Context, did syntax.DID, op plc.Operation) error
	// Registered says what the directory holds under did, compared with op.
	Registered(ctx context.Context, did syntax.DID, op plc.Operation) (plc.Presence, error)
	// Last returns the last operation that counts.
	Last(ctx context.Context, did syntax.DID) (plc.Operation, error)
	// Submit posts any operation once.
	Submit(ctx context.Context, did syntax.DID, op plc.Operation) error
}

// Accounts creates accounts on one server. It is safe for concurrent use.
type Accounts struct {
	DB        *db.DB
	Directory Directory
	Sessions  *session.Sessions
	Keys      *keyring.Ring
	Budgets   *budget.Ledger
	Blobs     *rows.Blobs // nil: there are none
	// Rotation signs PLC operations; Recovery is the operator's own rotation
	// key, a did:key put before it, or empty. OldRotation is the rotation key from
	// before, unless nil, while DIDs have it: see [Accounts.Sign].
	Rotation    atcrypto.PrivateKeyExportable
	OldRotation atcrypto.PrivateKeyExportable
	Recovery    string
	// Endpoint is the public URL that DID documents name. Hosts has all that they may
	// name; nil: there was never another.
	Endpoint string
	Hosts    *host.Names
	// Holder names this process in leases; no two processes share a name.
	Holder string
	// Quarantine is what becomes of those who sign up.
	Quarantine Quarantine
	// Lease is how long a creation may take before others take it up. One that
	// runs out too early costs its sign-up and nothing else, so the directory is
	// best given the time of [Patience]. The default is [DefaultLease].
	Lease time.Duration
	// CleanupDelays are the times after giving up at which the directory is asked
	// whether it has the DID after all, ascending. The default is [DefaultCleanupDelays].
	CleanupDelays []time.Duration
	Now           func() time.Time
	Rand          io.Reader
	Log           *slog.Logger

	validity validity
	rotation rotation
	still    atomic.Pointer[string] // what Standstill said last
	shown    func()                 // of tests: between the last steps of a release
}

// DefaultLease is far more than any sign-up takes.
const DefaultLease = 2 * time.Minute

// Patience is how long a creation with this lease may wait for the directory: not
// longer than a client waits for its answer, and with time left to complete.
func Patience(lease time.Duration) time.Duration {
	return min(20*time.Second, cmp.Or(lease, DefaultLease)/2)
}

// DefaultCleanupDelays are the clean-up's: an answer that was lost is found by the
// first, a request that hung in a proxy by the second, the last is for the day
// that the directory was down.
var DefaultCleanupDelays = []time.Duration{time.Minute, time.Hour, 24 * time.Hour}

// A Request describes an account that may be created: all that can be refused
// without trying has been refused.
type Request struct {
	Handle       syntax.Handle
	Email        string        // "" for none
	PasswordHash string        // "" for none
	InviteCode   string        // "" for none
	Phone        db.PhoneClaim // the number proven to be theirs, zero for none
	RecoveryKey  string        // a did:key of the user's, or ""
	// DID is one the user brings along, proven to be theirs. The account then
	// starts deactivated and no operation is sent to the directory.
	DID syntax.DID
	// Genesis, unless nil, is the client's own, for Handle. There is no DID and no
	// RecoveryKey beside it.
	Genesis *SignedGenesis
	// Hold, unless nil, runs first in the transaction that takes the handle. It says
	// that what allowed the handle still does, and keeps it so; its error is
	// returned.
	Hold func(ctx context.Context, tx *db.Tx) error
	// NoSession says that whoever asks is not the owner, who signs in later.
	NoSession bool
	// Quarantine is the rule by which the account is held in quarantine, "" for none; see
	// [Quarantine]. Then AddressRange is that of the caller, see [Accounts.AddressRange].
	Quarantine   string
	AddressRange string
}

// Created is an account and its first session.
type Created struct {
	Account *db.Account
	// Document is the DID document as the genesis makes it; nil for a brought DID.
	Document json.RawMessage
	Tokens   session.Tokens // zero where none was to be started
}

// abandonAfter is how long an account of a brought DID waits for its activation.
const abandonAfter = 3 * 24 * time.Hour

// Create makes the account. It goes on when ctx is cancelled: the caller's
// connection is no reason to stop between two places.
//
// It returns db.ErrHandleTaken, db.ErrEmailTaken, db.ErrDIDTaken,
// db.ErrInviteUnavailable, db.ErrPhoneTaken or ErrKeyUnknown when somebody was faster,
// ErrRegistered for a genesis of the client's that the directory has, *plc.Refused
// with the directory's words, ErrDirectory when the directory did not answer in time,
// and db.ErrLeaseLost when it took so long that others took the account up. After
// these nothing is taken, or will not be for long. After an error of the database
// the account may exist nevertheless: what is unfinished, [Accounts.Resume]
// settles, and what is finished, its owner can log in to.
func (a *Accounts) Create(ctx context.Context, r Request) (*Created, error) {
	ctx = context.WithoutCancel(ctx)
	if r.Genesis != nil {
		if err := a.unregistered(ctx, r.Genesis); err != nil {
			return nil, err
		}
	}
	d, reservation, err := a.draft(ctx, r)
	if err != nil {
		return nil, err
	}
	var tokens *session.Tokens
	if d.account.Held() {
		tokens, err = a.createHeld(ctx, d, r, *reservation)
	} else {
		tokens, err = a.createKnown(ctx, d, r, *reservation)
	}
	if err != nil {
		return nil, err
	}
	created := &Created{Account: &d.account, Tokens: *tokens}
	if d.genesis != nil {
		created.Document = plc.Document(d.account.DID, d.genesis)
	}
	return created, nil
}

// createKnown makes an account that everybody may know of.
func (a *Accounts) createKnown(ctx context.Context, d *draft, r Request, reservation db.Reservation) (*session.Tokens, error) {
	err := a.DB.Write(ctx, func(tx *db.Tx) error { return a.reserve(ctx, tx, r, reservation) })
	if err != nil {
		return nil, fmt.Errorf("reserve account %s: %w", r.Handle, err)
	}
	if d.genesis != nil {
		if err := a.register(ctx, d); err != nil {
			return nil, err
		}
	}
	return a.finish(ctx, d, !r.NoSession)
}

// createHeld makes an account in quarantine: nothing lies between its reservation and its
// completion.
func (a *Accounts) createHeld(ctx context.Context, d *draft, r Request, reservation db.Reservation) (*session.Tokens, error) {
	s, err := a.Sessions.Draft(&d.account, nil)
	if err != nil {
		return nil, err
	}
	completion, err := a.completion(d, s)
	if err != nil {
		return nil, err
	}
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		if err := a.reserve(ctx, tx, r, reservation); err != nil {
			return err
		}
		return completion(ctx, tx)
	})
	if err != nil {
		return nil, fmt.Errorf("create account %s in quarantine: %w", r.Handle, err)
	}
	return &s.Tokens, nil
}

// ErrDirectory says that the PLC directory could not be brought to an answer.
var ErrDirectory = errors.New("PLC directory did not answer")

// draft is an account on its way.
type draft struct {
	account db.Account
	key     *atcrypto.PrivateKeyK256
	genesis plc.Operation // nil for a brought DID
	held    *db.Quarantined
}

// draft is the account that r asks for, and what is reserved for it.
func (a *Accounts) draft(ctx context.Context, r Request) (*draft, *db.Reservation, error) {
	key, err := a.signingKey(r)
	if err != nil {
		return nil, nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, nil, fmt.Errorf("signing key: %w", err)
	}
	now := a.Now()
	d := &draft{key: key, account: db.Account{
		DID: r.DID, Handle: r.Handle, Email: r.Email, PasswordHash: r.PasswordHash, CreatedAt: now,
	}}
	switch {
	case r.Genesis != nil:
		d.genesis, d.account.DID = r.Genesis.op, r.Genesis.did
	case r.DID == "":
		d.genesis, d.account.DID, err = a.genesis(ctx, r, public.DIDKey())
		if err != nil {
			return nil, nil, err
		}
	default:
		d.account.DeactivatedAt, d.account.DeleteAfter = new(now), new(now.Add(abandonAfter))
		// The DID may have lived here before: tokens of that time are not its.
		d.account.TokensValidFrom = session.ValidFrom(now, time.Time{})
	}
	if d.held, err = a.hold(d, r); err != nil {
		return nil, nil, err
	}
	sealed, err := a.Keys.Seal(KeyPurpose, d.account.DID.String(), key.Bytes())
	if err != nil {
		return nil, nil, err
	}
	reservation := &db.Reservation{
		Account: d.account, InviteCode: r.InviteCode, Phone: r.Phone, Holder: a.Holder, LeaseUntil: a.leaseFrom(now),
		ClientSigned: r.Genesis != nil,
		Key:          db.SigningKey{DID: d.account.DID, Purpose: KeyPurpose, Public: public.DIDKey(), Sealed: sealed},
	}
	if d.genesis != nil {
		if reservation.Genesis, err = json.Marshal(d.genesis); err != nil {
			return nil, nil, fmt.Errorf("encode genesis: %w", err)
		}
	}
	return d, reservation, nil
}

// reserve takes what the account needs and others may want too.
func (a *Accounts) reserve(ctx context.Context, tx *db.Tx, r Request, reservation db.Reservation) error {
	if r.Hold != nil {
		if err := r.Hold(ctx, tx); err != nil {
			return err
		}
	}
	if err := tx.ReserveAccount(ctx, reservation); err != nil || r.Genesis == nil {
		return err
	}
	return takeKey(ctx, tx, r.Genesis.key)
}

// signingKey is a new one, or that which a client's genesis names.
func (a *Accounts) signingKey(r Request) (*atcrypto.PrivateKeyK256, error) {
	if r.Genesis != nil {
		return a.openReserved(r.Genesis.key)
	}
	return keyring.NewKey(a.Rand)
}

func (a *Accounts) genesis(ctx context.Context, r Request, signing string) (plc.Operation, syntax.DID, error) {
	var rotation []string
	if r.RecoveryKey != "" {
		rotation = append(rotation, r.RecoveryKey)
	}
	own, err := a.RotationKeys(ctx)
	if err != nil {
		return nil, "", err
	}
	op := plc.NewGenesis(append(rotation, own...), signing, r.Handle, a.PublicURL(ctx))
	if err := a.Sign(op, op); err != nil {
		return nil, "", fmt.Errorf("sign genesis: %w", err)
	}
	encoded, err := op.Encode()
	if err != nil {
		return nil, "", fmt.Errorf("encode genesis: %w", err)
	}
	if len(encoded) > plc.MaxBytes {
		// A recovery key as long as a body: it is not to be kept until the directory says so.
		return nil, "", &plc.Refused{Status: 400, Message: plc.TooLarge}
	}
	did, err := plc.DID(op)
	if err != nil {
		return nil, "", fmt.Errorf("derive DID: %w", err)
	}
	return op, did, nil
}

func (a *Accounts) register(ctx context.Context, d *draft) error {
	err := a.Directory.Register(ctx, d.account.DID, d.genesis)
	var refused *plc.Refused
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		// Certainly not there, so there is nothing to look for later.
		a.giveUp(ctx, d, time.Time{})
		return fmt.Errorf("register %s: %w", d.account.DID, err)
	case errors.Is(err, plc.ErrUnreachable):
		a.giveUp(ctx, d, time.Time{})
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	default:
		a.giveUp(ctx, d, a.firstCleanup())
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
}

// finish completes the account and starts its first session, if it is to have one.
func (a *Accounts) finish(ctx context.Context, d *draft, signedIn bool) (*session.Tokens, error) {
	s, err := (*session.Draft)(nil), error(nil)
	if signedIn {
		s, err = a.Sessions.Draft(&d.account, nil)
	}
	if err == nil {
		err = a.complete(ctx, d, s)
	}
	if err == nil && s == nil {
		return new(session.Tokens), nil
	}
	if err == nil {
		return &s.Tokens, nil
	}
	if a.giveUp(ctx, d, a.firstCleanup()) {
		return nil, err
	}
	// Not ours to give up: it is complete. Either our commit came through and only
	// the answer to it was lost, or another holder was faster. What the caller
	// asked for is there, then; otherwise no session can be started.
	if !signedIn {
		if _, lost := a.DB.AccountByDID(ctx, d.account.DID); lost != nil {
			return nil, err
		}
		return new(session.Tokens), nil
	}
	tokens, lost := a.Sessions.Start(ctx, &d.account, nil)
	if lost != nil {
		return nil, err
	}
	return tokens, nil
}

// complete makes a reserved account one that its owner can use. A nil draft
// starts no session: that is how Resume completes what a crash left, and what an
// operator asked for.
func (a *Accounts) complete(ctx context.Context, d *draft, s *session.Draft) error {
	completion, err := a.completion(d, s)
	if err != nil {
		return err
	}
	if err := a.DB.Write(ctx, func(tx *db.Tx) error { return completion(ctx, tx) }); err != nil {
		return fmt.Errorf("complete account %s: %w", d.account.DID, err)
	}
	return nil
}

// completion is the transaction that completes an account, or the part of one.
func (a *Accounts) completion(d *draft, s *session.Draft) (func(ctx context.Context, tx *db.Tx) error, error) {
	genesis, err := repo.Genesis(d.account.DID, d.key, a.Now())
	if err != nil {
		return nil, fmt.Errorf("make repository of %s: %w", d.account.DID, err)
	}
	events := creationEvents(&d.account, genesis)
	return func(ctx context.Context, tx *db.Tx) error {
		if err := tx.FinishAccount(ctx, d.account.DID, a.Holder); err != nil {
			return err
		}
		if err := store.Create(ctx, tx, d.account.DID, genesis); err != nil {
			return err
		}
		if err := tx.DeleteReservedKeys(ctx, d.account.DID); err != nil {
			return err
		}
		if d.held != nil {
			if err := tx.Quarantine(ctx, *d.held); err != nil {
				return err
			}
		}
		if s != nil {
			if err := a.Sessions.Store(ctx, tx, s); err != nil {
				return err
			}
			if err := a.Sessions.KnowAddress(ctx, tx, d.account.DID); err != nil {
				return err
			}
		}
		if err := audit.Record(ctx, tx, a.Now(), d.account.DID, audit.AccountCreated, d.account.Handle.String()); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, events...)
	}, nil
}

// creationEvents are what the network hears of a new account, in the order it
// expects. A brought account is silent until it is activated.
func creationEvents(acct *db.Account, r *repo.Repository) []db.Event {
	if acct.Deactivated() {
		return nil
	}
	return Events(acct.DID,
		event.Identity(acct.DID, acct.Handle),
		event.Account(acct.DID, acct.Status()),
		event.GenesisCommit(acct.DID, r),
		event.Sync(acct.DID, r.Rev, r.SyncCAR),
	)
}

// giveUp returns everything the account had taken and says whether it could. When
// look is not zero the directory is asked about the DID from then on.
//
// It can not when the account is somebody else's by now, or complete: aborting
// waits for a completion under way, and one of the two finds nothing. And when the
// database fails; then the lease runs out and Resume settles it.
func (a *Accounts) giveUp(ctx context.Context, d *draft, look time.Time) bool {
	err := a.abort(ctx, d.account.DID, look)
	if err != nil && !errors.Is(err, db.ErrLeaseLost) {
		a.Log.ErrorContext(ctx, "abort account", "did", d.account.DID, "error", err)
	}
	return err == nil
}

func (a *Accounts) abort(ctx context.Context, did syntax.DID, look time.Time) error {
	return a.DB.Write(ctx, func(tx *db.Tx) error { return tx.AbortAccount(ctx, did, a.Holder, look) })
}

func (a *Accounts) leaseFrom(now time.Time) time.Time {
	return now.Add(cmp.Or(a.Lease, DefaultLease))
}

func (a *Accounts) cleanupDelays() []time.Duration {
	if len(a.CleanupDelays) == 0 {
		return DefaultCleanupDelays
	}
	return a.CleanupDelays
}

// firstCleanup is when the directory is asked about a DID that is given up now.
func (a *Accounts) firstCleanup() time.Time { return a.Now().Add(a.cleanupDelays()[0]) }

// Events are messages about one account, ready to be appended.
func Events(did syntax.DID, messages ...event.Event) []db.Event {
	out := make([]db.Event, len(messages))
	for i, m := range messages {
		out[i] = db.Event{DID: did, Kind: m.Kind, Body: m.Body, Cut1: m.Cut1, Cut2: m.Cut2}
	}
	return out
}
