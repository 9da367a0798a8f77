package operator

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/move"
	"portico/impl/answer"
)

// StartMove begins to move all DIDs.
func (s *Service) StartMove(ctx context.Context, in *api.StartMoveInput) (*api.StartMoveOutput, error) {
	var err error
	switch in.Kind {
	case move.Key:
		_, err = s.Moves.BeginKey(ctx, in.To)
	case move.Host:
		_, err = s.Hosts.BeginHost(ctx, s.Moves, in.To)
	default:
		err = move.Refuse("moves to another %s are not begun here", in.Kind)
	}
	if refused, ok := errors.AsType[*move.Refusal](err); ok {
		return nil, api.ErrStartMoveMoveRefused.New(http.StatusBadRequest, refused.Message)
	}
	if err != nil {
		return nil, err
	}
	return s.moveNow(ctx)
}

// UpdateMove has the move that is under way go on otherwise.
func (s *Service) UpdateMove(ctx context.Context, in *api.UpdateMoveInput) (*api.UpdateMoveOutput, error) {
	var err error
	switch in.Action {
	case api.UpdateMoveInputActionUndo:
		_, err = s.Moves.Undo(ctx)
	case api.UpdateMoveInputActionSwitch:
		_, err = s.Moves.Switch(ctx)
	case api.UpdateMoveInputActionRetry:
		_, err = s.Moves.Retry(ctx)
	case api.UpdateMoveInputActionFinish:
		_, err = s.Moves.Finish(ctx, xrpc.ValueOf(in.AcceptLeft))
	}
	if refused, ok := errors.AsType[*move.Refusal](err); ok {
		return nil, api.ErrUpdateMoveMoveRefused.New(http.StatusBadRequest, refused.Message)
	}
	if err == nil {
		err = s.Hosts.Look(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.moveNow(ctx)
}

func (s *Service) moveNow(ctx context.Context) (*api.Move, error) {
	st, err := s.Moves.Status(ctx)
	if err != nil {
		return nil, err
	}
	return moveOf(st), nil
}

// GetMove says how far the move is, and lists DIDs in pages. The cursor is the last DID of
// a page.
func (s *Service) GetMove(ctx context.Context, p *api.GetMoveParams) (*api.GetMoveOutput, error) {
	after := syntax.DID(xrpc.ValueOf(p.Cursor))
	if after != "" {
		if _, err := syntax.ParseDID(after.String()); err != nil {
			return nil, xrpc.InvalidRequest("Malformed cursor")
		}
	}
	st, err := s.Moves.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.GetMoveOutput{Standstill: xrpc.NonZero(st.Still)}
	if st.State != nil {
		out.Move = moveOf(st)
	}
	if out.RotationKeys, err = s.fingerprints(); err != nil {
		return nil, err
	}
	limit := int(p.Limit)
	rows, err := s.DB.DIDMoves(ctx, p.State, after, limit+1)
	if err != nil {
		return nil, err
	}
	if len(rows) > limit {
		rows = rows[:limit]
		out.Cursor = new(rows[limit-1].DID.String())
	}
	for _, r := range rows {
		did := api.MovedDID{DID: r.DID, State: r.State, Attempts: int64(r.Attempts), Reason: xrpc.NonZero(r.Reason)}
		if r.State == db.DIDWaiting {
			did.NextAt = new(answer.Datetime(r.NextAt))
		}
		out.DIDs = append(out.DIDs, did)
	}
	return out, nil
}

func (s *Service) fingerprints() ([]string, error) {
	key, err := s.Accounts.RotationKey()
	if err != nil {
		return nil, err
	}
	old, err := s.Accounts.OldRotationKey()
	prints := []string{account.KeyFingerprint(key)}
	if old != "" {
		prints = append(prints, account.KeyFingerprint(old))
	}
	return prints, err
}

func moveOf(st *move.Status) *api.Move {
	at := func(t time.Time) *syntax.Datetime {
		if t.IsZero() {
			return nil
		}
		return new(answer.Datetime(t))
	}
	return &api.Move{
		Kind: st.Kind, From: st.From, To: st.To, Phase: string(st.Phase),
		BegunAt: answer.Datetime(st.BegunAt), PhaseAt: answer.Datetime(st.PhaseAt),
		LastAt: at(st.LastAt), SwitchedAt: at(st.SwitchedAt), FinishableAt: at(st.FinishableAt()),
		Waiting: int64(st.Waiting), Done: int64(st.Done), Left: int64(st.Left),
	}
}
