package factor

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/factor/passkey"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail"
)

const (
	// MaxPasskeys is how many an account has at most.
	MaxPasskeys = 20
	// MaxName is how long the name of a passkey is at most, in bytes.
	MaxName = 100
	// challengeLife is how long a browser may take to answer.
	challengeLife = 5 * time.Minute
	challengeSize = 32
)

var (
	// ErrPasskey says that an answer is none of a passkey that opens an account here.
	ErrPasskey = errors.New("no passkey of an account here")
	// ErrLate says that the question which an answer is to was asked too long ago, in another
	// browser, or was answered before.
	ErrLate = errors.New("question to a passkey is too old or was answered")
	// ErrName says that a passkey cannot be called so.
	ErrName = errors.New("name of a passkey is empty or too long")
	// ErrNoPasskeys says that there are no passkeys on this server.
	ErrNoPasskeys = errors.New("passkeys are for hosts with a name")
)

// A Challenge is a question to a browser that a passkey answers. Nothing is stored of it.
type Challenge struct {
	State   string // comes back beside the answer, sealed
	Options string // JSON of the options that the browser needs
}

// challenge makes the question of a purpose, for what stands for one browser.
func (f *Factors) challenge(purpose, browser string, options func(challenge []byte) string) (*Challenge, error) {
	if f.Site == nil {
		return nil, ErrNoPasskeys
	}
	text := binary.BigEndian.AppendUint64(nil, uint64(f.Now().Add(challengeLife).Unix()))
	text = append(text, make([]byte, challengeSize)...)
	if _, err := io.ReadFull(f.Rand, text[8:]); err != nil {
		return nil, fmt.Errorf("make challenge: %w", err)
	}
	sealed, err := f.Keys.Seal(sealedChallenge, purpose+" "+browser, text)
	if err != nil {
		return nil, err
	}
	return &Challenge{base64.RawURLEncoding.EncodeToString(sealed), options(text[8:])}, nil
}

const sealedChallenge = "portico/passkey challenge"

// asked is the challenge in a state. It returns ErrLate, or ErrNoPasskeys.
func (f *Factors) asked(purpose, browser, state string) (challenge []byte, until time.Time, err error) {
	if f.Site == nil {
		return nil, until, ErrNoPasskeys
	}
	sealed, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil {
		return nil, until, ErrLate
	}
	text, err := f.Keys.Open(sealedChallenge, purpose+" "+browser, sealed)
	if err != nil || len(text) != 8+challengeSize {
		return nil, until, ErrLate
	}
	until = time.Unix(int64(binary.BigEndian.Uint64(text)), 0)
	if !f.Now().Before(until) {
		return nil, until, ErrLate
	}
	return text[8:], until, nil
}

// once lets a challenge be answered once. It returns ErrLate.
func (f *Factors) once(ctx context.Context, tx *db.Tx, challenge []byte, until time.Time) error {
	mac := f.Keys.MAC("passkey challenge", challenge)
	err := tx.UseOAuthOnce(ctx, mac[:], f.Now(), until)
	if errors.Is(err, db.ErrStale) {
		return ErrLate
	}
	return err
}

// handle is what authenticators know an account by. It is the same for ever, and tells nobody
// which account it is.
func (f *Factors) handle(did syntax.DID) []byte {
	mac := f.Keys.MAC("passkey owner", []byte(did))
	return mac[:]
}

const (
	toAdd  = "add"
	toOpen = "open"
)

// AskToAdd asks a browser to make a passkey for an account, shown by a name; browser stands for
// that browser. It returns ErrNoPasskeys.
func (f *Factors) AskToAdd(ctx context.Context, did syntax.DID, name, browser string) (*Challenge, error) {
	all, err := f.DB.Passkeys(ctx, did)
	if err != nil {
		return nil, err
	}
	has := make([][]byte, len(all))
	for i, p := range all {
		has[i] = p.ID
	}
	return f.challenge(toAdd+" "+did.String(), browser, func(challenge []byte) string {
		return f.Site.Creation(challenge, passkey.Owner{Handle: f.handle(did), Name: name}, has)
	})
}

// Add adds the passkey that a browser has made to an account, and tells the owner. It returns
// ErrName, ErrLate, passkey.ErrAnswer, db.ErrPasskeyTaken, db.ErrTooManyPasskeys, a
// [*budget.Spent], ErrNoPasskeys, or db.ErrNotFound when there is no account.
func (f *Factors) Add(ctx context.Context, did syntax.DID, name, browser, state, answer string) error {
	if !named(name) {
		return ErrName
	}
	challenge, until, err := f.asked(toAdd+" "+did.String(), browser, state)
	if err != nil {
		return err
	}
	made, err := f.Site.Made(challenge, f.handle(did), []byte(answer))
	if err != nil {
		return err
	}
	p := db.Passkey{
		ID: made.ID, DID: did, Name: strings.TrimSpace(name), Public: made.Public, Flags: int(made.Flags), Counter: made.Counter, CreatedAt: f.Now(),
	}
	return f.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if err := f.once(ctx, tx, challenge, until); err != nil {
			return err
		}
		if err := tx.InsertPasskey(ctx, p, MaxPasskeys); err != nil {
			return err
		}
		return f.changed(ctx, tx, a, audit.PasskeyAdded, p.Name, mail.PasskeyAdded)
	})
}

func named(name string) bool {
	name = strings.TrimSpace(name)
	return name != "" && len(name) <= MaxName && strings.ToValidUTF8(name, "") == name && !strings.Contains(name, "\x00")
}

// Rename gives a passkey of an account another name. It returns ErrName or db.ErrNotFound.
func (f *Factors) Rename(ctx context.Context, did syntax.DID, id []byte, name string) error {
	if !named(name) {
		return ErrName
	}
	name = strings.TrimSpace(name)
	return f.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.RenamePasskey(ctx, did, id, name); err != nil {
			return err
		}
		return audit.Record(ctx, tx, f.Now(), did, audit.PasskeyRenamed, name)
	})
}

// Remove removes a passkey of an account, and tells the owner. It returns db.ErrNotFound.
func (f *Factors) Remove(ctx context.Context, did syntax.DID, id []byte) error {
	return f.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		p, err := tx.Passkey(ctx, id)
		if err != nil {
			return err
		}
		if err := tx.DeletePasskey(ctx, did, id); err != nil {
			return err
		}
		return f.ended(ctx, tx, a, audit.PasskeyRemoved, p.Name, mail.PasskeyRemoved)
	})
}

// Ask asks a browser for any passkey of its user; browser stands for that browser. It returns
// ErrNoPasskeys.
func (f *Factors) Ask(browser string) (*Challenge, error) {
	return f.challenge(toOpen, browser, func(challenge []byte) string { return f.Site.Request(challenge) })
}

// SignIn returns whose account an answer of a passkey opens, and at which time: that of a
// session that is opened with it. It is a sign-in with all that could be asked for, also to an
// account that asks for a code beside the password, and also to one that is taken down, of
// which the caller decides what it may see. The caller's address, which the context has to
// say, pays for wrong answers as for wrong passwords, and is known to be the owner's after a
// right one; where it was not, a letter tells the owner, see [session.Sessions.SignedIn].
//
// It returns ErrPasskey, ErrLate, ErrNoPasskeys, or a [*budget.Spent] of the caller's address.
func (f *Factors) SignIn(ctx context.Context, browser, state, answer string) (syntax.DID, time.Time, error) {
	challenge, until, err := f.asked(toOpen, browser, state)
	if err != nil {
		return "", time.Time{}, err
	}
	caller := f.Budgets.Caller(address(ctx))
	if err := f.Budgets.Left(ctx, budget.WrongPasswordsFrom, caller); err != nil {
		return "", time.Time{}, err
	}
	did, at, err := f.signIn(ctx, challenge, until, answer)
	if errors.Is(err, ErrPasskey) {
		ctx := context.WithoutCancel(ctx)
		if err := f.DB.Write(ctx, func(tx *db.Tx) error { return f.Budgets.CountIn(ctx, tx, budget.WrongPasswordsFrom, caller) }); err != nil {
			return "", time.Time{}, err
		}
	}
	return did, at, err
}

func (f *Factors) signIn(ctx context.Context, challenge []byte, until time.Time, text string) (did syntax.DID, at time.Time, err error) {
	answer, err := passkey.Read([]byte(text))
	if err != nil {
		return "", at, errors.Join(ErrPasskey, err)
	}
	p, err := f.DB.Passkey(ctx, answer.ID())
	if errors.Is(err, db.ErrNotFound) {
		return "", at, ErrPasskey
	}
	if err != nil {
		return "", at, err
	}
	counter, err := f.Site.Check(answer, challenge, f.handle(p.DID), passkey.Key{ID: p.ID, Public: p.Public, Flags: byte(p.Flags), Counter: p.Counter})
	if err != nil {
		return "", at, errors.Join(ErrPasskey, err)
	}
	err = f.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, p.DID)
		if err == nil {
			err = f.once(ctx, tx, challenge, until)
		}
		if err == nil {
			err = tx.UsePasskey(ctx, p.ID, counter, f.Now())
		}
		if errors.Is(err, db.ErrNotFound) {
			return ErrPasskey // deleted, removed, or a copy that counts for itself
		}
		if err != nil {
			return err
		}
		at = session.IssueTime(f.Now(), a)
		ctx := audit.With(ctx, audit.Who{Actor: a.DID.String(), Address: audit.From(ctx).Address})
		detail := "passkey " + p.Name
		if a.TakenDown() {
			detail += ", while taken down"
		} else if err := f.Sessions.SignedIn(ctx, tx, a); err != nil {
			return err
		}
		return audit.Record(ctx, tx, f.Now(), a.DID, audit.SignedIn, detail)
	})
	if err != nil {
		return "", at, err
	}
	return p.DID, at, nil
}

// address is that of who acts in ctx, invalid where nobody said.
func address(ctx context.Context) netip.Addr {
	ip, err := netip.ParseAddr(audit.From(ctx).Address)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}
