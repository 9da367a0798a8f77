package move

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"portico/db"
	"portico/impl/account"
)

// Kinds of moves.
const (
	Key  = "key"
	Host = "host"
)

// A Phase is how far a move is.
type Phase string

// Phases in their order. From Moving and Moved it goes on, or back through Undoing.
const (
	Moving    Phase = "moving"    // DIDs get what is new
	Moved     Phase = "moved"     // all have it, or were left
	Finishing Phase = "finishing" // DIDs lose what is old
	Finished  Phase = "finished"  // the end
	Undoing   Phase = "undoing"   // DIDs lose what is new
	Undone    Phase = "undone"    // the end
)

// A State is a move, in a value of db.Meta.
type State struct {
	Kind  string `json:"kind"`
	From  string `json:"from"` // did:key or host name
	To    string `json:"to"`
	Phase Phase  `json:"phase"`

	BegunAt time.Time `json:"begunAt"`
	PhaseAt time.Time `json:"phaseAt"` // when it entered the phase
	// LastAt is when DIDs were last changed, or may have been.
	LastAt time.Time `json:"lastAt,omitzero"`
	// SwitchedAt is when a move of the kind Host made the server the new name.
	SwitchedAt time.Time `json:"switchedAt,omitzero"`
	// Accepted says that the operator has confirmed which DIDs are left as they are.
	Accepted bool `json:"accepted,omitempty"`

	raw []byte // as it is stored
}

// Ended says that nothing of the move is left to do.
func (s *State) Ended() bool { return s.Phase == Finished || s.Phase == Undone }

// Back says that DIDs are to be as they were before the move.
func (s *State) Back() bool { return s.Phase == Undoing }

type queries interface {
	Meta(ctx context.Context, name string) ([]byte, error)
}

// read returns the move that is under way or was the last one, or db.ErrNotFound.
func read(ctx context.Context, q queries) (*State, error) {
	raw, err := q.Meta(ctx, account.MoveState)
	if err != nil {
		return nil, err
	}
	s := &State{raw: raw}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("state of the move: %w", err)
	}
	return s, nil
}

// store puts s in the place of the state that it was made from. It returns db.ErrStale
// when that is another one by now.
func (s *State) store(ctx context.Context, tx *db.Tx) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode state of the move: %w", err)
	}
	if err := tx.SwapMeta(ctx, account.MoveState, s.raw, raw); err != nil {
		return err
	}
	s.raw = raw
	return nil
}

// next is s in another phase.
func (s *State) next(p Phase, now time.Time) *State {
	n := *s
	n.Phase, n.PhaseAt = p, now
	return &n
}

// none makes nil of a state that is not there.
func none(s *State, err error) (*State, error) {
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return s, err
}
