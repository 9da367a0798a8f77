package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"portico/db"
)

// Why a step of a move is not taken.
var (
	// ErrMoving says that a move is under way.
	ErrMoving = errors.New("a move to another host name is under way")
	// ErrNoMove says that none is.
	ErrNoMove = errors.New("no move to another host name is under way")
	// ErrSame says that the server has that name.
	ErrSame = errors.New("the server has that name")
	// ErrUndoing says that the move is being turned back.
	ErrUndoing = errors.New("the move is being turned back")
	// ErrNotSwitched says that the server does not go by the new name yet.
	ErrNotSwitched = errors.New("the server does not go by the new name yet")
)

// Begin writes down that the server is to have another name, in the transaction that
// begins the move of its accounts; before, the name has to be proven to lead to this server.
// From then on no account whose DID has it is taken for one of another server. After the
// commit the caller calls [Names.Read], as after the others that are given a transaction.
//
// It returns ErrMoving or ErrSame.
func (n *Names) Begin(ctx context.Context, tx *db.Tx, m Move) error {
	s, err := n.read(ctx, tx)
	switch {
	case err != nil:
		return err
	case s.Move.Open():
		return ErrMoving
	case m.To == s.Name:
		return ErrSame
	}
	now := n.config.Now()
	m.From, m.Begun = s.Name, now
	if !slices.Contains(s.known, m.To) {
		if err := tx.PutHostName(ctx, db.HostName{Name: m.To, Since: now, Until: &now}); err != nil {
			return err
		}
	}
	return put(ctx, tx, &m)
}

// Switch makes the server go by the new name. Doing it again does nothing. It returns
// ErrNoMove or ErrUndoing.
func (n *Names) Switch(ctx context.Context, tx *db.Tx) error {
	return n.step(ctx, tx, func(s *State) error {
		if s.Move.Undoing {
			return ErrUndoing
		}
		s.Move.Switched = true
		return n.rename(ctx, tx, s.Move.To)
	})
}

// Undo makes the server go by the name from before, and all be turned back. Doing it again
// does nothing. It returns ErrNoMove.
func (n *Names) Undo(ctx context.Context, tx *db.Tx) error {
	return n.step(ctx, tx, func(s *State) error {
		s.Move.Undoing, s.Move.Switched = true, false
		return n.rename(ctx, tx, s.Move.From)
	})
}

// End ends a move that was finished, or turned back. left says that DIDs of accounts here
// have the name that was left, which goes on to serve them. It returns ErrNoMove, and
// ErrNotSwitched for one that is neither.
func (n *Names) End(ctx context.Context, tx *db.Tx, left bool) error {
	return n.step(ctx, tx, func(s *State) error {
		if !s.Move.Undoing && !s.Move.Switched {
			return ErrNotSwitched
		}
		s.Move.Ended, s.Move.Left = new(n.config.Now()), left
		// What is left is known, and no reason to wait for anything.
		return tx.PutMeta(ctx, PublicURLs, []byte(s.Endpoint()))
	})
}

// Move returns the move that is under way, by what tx sees, or ErrNoMove.
func (n *Names) Move(ctx context.Context, tx *db.Tx) (*Move, error) {
	s, err := n.read(ctx, tx)
	if err == nil && !s.Move.Open() {
		err = ErrNoMove
	}
	if err != nil {
		return nil, err
	}
	return s.Move, nil
}

func (n *Names) step(ctx context.Context, tx *db.Tx, change func(s *State) error) error {
	s, err := n.read(ctx, tx)
	if err == nil && !s.Move.Open() {
		err = ErrNoMove
	}
	if err == nil {
		err = change(s)
	}
	if err != nil {
		return err
	}
	return put(ctx, tx, s.Move)
}

func put(ctx context.Context, tx *db.Tx, m *Move) error {
	value, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write down the move of the host: %w", err)
	}
	return tx.PutMeta(ctx, moveName, value)
}

// Twin returns the handle that stands for the same name as h while a move is under way, by
// what tx sees, "" for none: who has it has both.
func (n *Names) Twin(ctx context.Context, tx *db.Tx, h string) (string, error) {
	s, err := n.read(ctx, tx)
	if err != nil {
		return "", err
	}
	return s.Twin(h), nil
}
