// Package move changes what the DIDs of all accounts say, a few at a time, for as long as
// the directory needs: to another rotation key of this server, or to another host name.
//
// There is one move at a time. It is written down before the first DID is changed, goes on
// after a restart where it was, can be turned back until it is finished, and changes no DID
// whose document does not say what this server takes it to say: of did:web, of accounts that
// are elsewhere, and of those whose owners took the server's key away, it says so instead.
// While it is unfinished nothing is deleted for good, see [account.Accounts.Standstill].
//
//	key   the new rotation key takes its place beside the old one in every DID; finished
//	      not sooner than 72 hours after the last, the old one is taken out
//	host  endpoint, and handles under the old name, become those of the new one; from the
//	      switch on the server is the new name, and answers to both until it is finished
//
// Of an account in quarantine nobody was told, and its DID is what its genesis makes it: it
// gets no more than its handle here, and its release lets the DID follow. A move of keys is
// not finished before those are out, or gone, whose geneses know of the old key alone.
//
// Accounts in every state have a row, made anew as accounts appear. A row is claimed for a
// time, the last operation of its DID is read from the directory, what follows from that is
// signed and posted, and the row says what came of it. A process that dies in between leaves
// a claim that runs out, or that the next process gives back where it has the database to
// itself, and whoever takes the row up reads what the directory says now: so the same step
// twice changes nothing twice.
package move

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/identity/plc"
)

// A Kind says what a move does to a DID. It is safe for concurrent use.
type Kind interface {
	// Ready returns an error unless this process has what the move needs.
	Ready(s *State) error
	// Enter says whether the move may enter the phase that s is in, and does, in the
	// transaction that stores s, what comes with it. An error that is a [*Refusal] is for
	// the operator.
	Enter(ctx context.Context, tx *db.Tx, s *State) error
	// Step says what is to follow the last operation of the DID of an account, which names
	// a key of this server and is no tombstone.
	Step(ctx context.Context, s *State, a *db.Standing, last plc.Operation) (Step, error)
	// Settle does what comes with a DID that says what it is to say, in the transaction
	// that stores so. The account, which it has to lock, may be gone, or another by now.
	Settle(ctx context.Context, tx *db.Tx, s *State, did syntax.DID, step Step) error
}

// A Step is what becomes of a DID.
type Step struct {
	// Operation is unsigned and follows the last one. Nil: the DID says what it is to say.
	Operation plc.Operation
	// Left is why the DID is not changed, one of the reasons below or a text, "" if it is.
	Left string
	// tried says of a DID that says what it is to say that an earlier attempt may have
	// changed it, of which nobody knew what came.
	tried bool
}

// changed reports whether the move has changed the DID, or may have.
func (s Step) changed() bool { return s.Operation != nil || s.tried }

// Why a DID is left. The texts are for machines, and so never change.
const (
	LeftWeb        = "did_web"    // only its owner can change it
	LeftNotFound   = "not_found"  // the directory does not know it
	LeftTombstoned = "tombstoned" // it has ended
	LeftElsewhere  = "elsewhere"  // it names another server as that of its account
	LeftNoKey      = "no_key"     // none of its rotation keys is this server's
	LeftRefused    = "refused"    // followed by ": " and the words of the directory
)

// A Refusal is why a move does not begin or go on.
type Refusal struct{ Message string }

func (r *Refusal) Error() string { return r.Message }

func refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// Refuse makes a [*Refusal] for a [Kind].
func Refuse(format string, args ...any) error { return refuse(format, args...) }

// Directory has the operations of did:plc; *plc.Client is one.
type Directory interface {
	// Last returns the last operation that counts.
	Last(ctx context.Context, did syntax.DID) (plc.Operation, error)
	// Submit posts any operation once.
	Submit(ctx context.Context, did syntax.DID, op plc.Operation) error
}

// Moves moves the DIDs of the accounts of a server. It is safe for concurrent use, also by
// several processes on one database.
type Moves struct {
	DB        *db.DB
	Accounts  *account.Accounts
	Directory Directory
	// Kinds are those that can be begun, by their names.
	Kinds map[string]Kind
	// Refresh, unless nil, is called after an operation for a DID that changed what its
	// document says.
	Refresh func(ctx context.Context, did syntax.DID)
	// Rate returns how many DIDs a second are looked at, at two requests of the directory each
	// and a third after a failure; 0: as many as there are.
	Rate func() float64
	// Slice is how long a run takes at most. The default is a minute.
	Slice time.Duration
	// Rest is how long an operation may be under way whose sender has given up, and how long
	// after a turn the accounts are looked for that were made before. The default is a
	// minute, which is the most, too. It is not less than five seconds.
	Rest time.Duration
	Now  func() time.Time
	Log  *slog.Logger

	mu    sync.Mutex
	pause time.Time // until then the directory is not to be asked
}

// Hold is how long after the last DID was changed a move of keys can be finished: as long
// as who has a stronger key can take an operation back.
const Hold = 72 * time.Hour

// Begin begins a move from one did:key or host name to another. It returns a [*Refusal], also
// as long as the server may be gone back to that this one was adopted from: it has the key
// and the name of then.
func (m *Moves) Begin(ctx context.Context, kind, from, to string) (*State, error) {
	k, ok := m.Kinds[kind]
	if !ok {
		return nil, refuse("there are no moves of the kind %q", kind)
	}
	var begun *State
	err := m.DB.Write(ctx, func(tx *db.Tx) error {
		last, err := none(read(ctx, tx))
		if err != nil {
			return err
		}
		begun = &State{Kind: kind, From: from, To: to, Phase: Moving, BegunAt: m.Now(), PhaseAt: m.Now()}
		if last != nil {
			if !last.Ended() {
				return refuse("a move to another %s is under way: %s", last.Kind, last.Phase)
			}
			begun.raw = last.raw
		}
		switch _, err := tx.Meta(ctx, account.AdoptionState); {
		case err == nil:
			return refuse("the adoption is unfinished, and the way back to the server from before would be lost: finish it first, with portico adopt --finish")
		case !errors.Is(err, db.ErrNotFound):
			return err
		}
		if err := k.Ready(begun); err != nil {
			return err
		}
		if err := begun.store(ctx, tx); err != nil {
			return err
		}
		if err := tx.DeleteDIDMoves(ctx); err != nil {
			return err
		}
		return k.Enter(ctx, tx, begun)
	})
	if errors.Is(err, db.ErrStale) {
		err = refuse("another move has just begun: look at it")
	}
	if err != nil {
		return nil, fmt.Errorf("begin to move: %w", err)
	}
	m.Log.InfoContext(ctx, "began to move all DIDs", "kind", kind, "from", from, "to", to)
	return begun, nil
}

// Status is the move that is under way, or the last one, and how many DIDs are how far.
type Status struct {
	*State // nil: there was none
	db.DIDMoveCounts
	// Still is why deletions stand still, "" if they do not.
	Still string
}

// Status returns it.
func (m *Moves) Status(ctx context.Context) (*Status, error) {
	st, err := new(Status), error(nil)
	if st.Still, err = m.Accounts.Standstill(ctx); err != nil {
		return nil, err
	}
	if st.State, err = m.State(ctx); err != nil {
		return nil, err
	}
	st.DIDMoveCounts, err = m.DB.CountDIDMoves(ctx)
	return st, err
}

// State returns the move that is under way or was the last one, nil if there was none.
func (m *Moves) State(ctx context.Context) (*State, error) { return none(read(ctx, m.DB)) }

// Undo turns the move back: all DIDs become what they were before.
func (m *Moves) Undo(ctx context.Context) (*State, error) {
	return m.enter(ctx, "undo", func(ctx context.Context, tx *db.Tx, s *State) (*State, error) {
		if s.Phase != Moving && s.Phase != Moved {
			return nil, refuse("there is nothing to undo: the move is %s", s.Phase)
		}
		// What is on its way to the directory comes to rest first.
		return s.next(Undoing, m.Now()), tx.RestartDIDMoves(ctx, m.Now().Add(m.rest()))
	})
}

// Finish takes what is old out of all DIDs. It refuses before all DIDs were moved or, where
// acceptLeft, left.
func (m *Moves) Finish(ctx context.Context, acceptLeft bool) (*State, error) {
	return m.enter(ctx, "finish", func(ctx context.Context, tx *db.Tx, s *State) (*State, error) {
		if s.Phase != Moved {
			return nil, refuse("the move cannot be finished: it is %s", s.Phase)
		}
		n, err := tx.CountDIDMoves(ctx)
		switch {
		case err != nil:
			return nil, err
		case n.Waiting > 0:
			return nil, refuse("the move cannot be finished: %d DIDs are to be moved yet", n.Waiting)
		case n.Left > 0 && !acceptLeft:
			return nil, refuse("%d DIDs were left as they are: see which, and say that they are to stay so", n.Left)
		}
		next := s.next(Finishing, m.Now())
		next.Accepted = n.Left > 0
		return next, tx.RestartDIDMoves(ctx, m.Now())
	})
}

// Switch is for a move of the kind [Host], once all DIDs are moved, or before: it says when
// the server is the new name.
func (m *Moves) Switch(ctx context.Context) (*State, error) {
	return m.enter(ctx, "switch", func(_ context.Context, _ *db.Tx, s *State) (*State, error) {
		if s.Kind != Host || s.Phase != Moving && s.Phase != Moved || !s.SwitchedAt.IsZero() {
			return nil, refuse("there is nothing to switch")
		}
		next := *s
		next.SwitchedAt = m.Now()
		return &next, nil
	})
}

// Retry looks again at the DIDs that were left.
func (m *Moves) Retry(ctx context.Context) (*State, error) {
	return m.enter(ctx, "retry", func(ctx context.Context, tx *db.Tx, s *State) (*State, error) {
		if s.Ended() {
			return nil, refuse("there is no move under way")
		}
		_, err := tx.RetryDIDMoves(ctx, m.Now())
		return nil, err
	})
}

// enter changes the state of the move under way by what change says, nil for nothing.
func (m *Moves) enter(ctx context.Context, doing string, change func(context.Context, *db.Tx, *State) (*State, error)) (*State, error) {
	var s *State
	err := m.DB.Write(ctx, func(tx *db.Tx) error {
		now, err := none(read(ctx, tx))
		if err != nil {
			return err
		}
		if now == nil {
			return refuse("there is no move under way")
		}
		kind, ok := m.Kinds[now.Kind]
		if !ok {
			return refuse("there are no moves of the kind %q", now.Kind)
		}
		if err := kind.Ready(now); err != nil {
			return err
		}
		next, err := change(ctx, tx, now)
		if err != nil {
			return err
		}
		if s = now; next == nil {
			return nil
		}
		s = next
		if err := s.store(ctx, tx); err != nil {
			return err
		}
		return kind.Enter(ctx, tx, s)
	})
	if errors.Is(err, db.ErrStale) {
		err = refuse("the move has just changed: look at it again")
	}
	if err != nil {
		return nil, fmt.Errorf("%s the move: %w", doing, err)
	}
	m.Log.InfoContext(ctx, "the move of all DIDs goes on as asked", "asked", doing, "phase", string(s.Phase))
	return s, nil
}
