package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"portico/db"
	"portico/impl/identity/host"
)

// Values of db.Meta that say whether this server is settled.
const (
	// MoveState is JSON with the phase of the move of all DIDs that is under way, or of
	// the last one. Package move keeps it.
	MoveState = "move"
	// AdoptionState is there as long as the server that this one was adopted from may be
	// gone back to.
	AdoptionState = "adoption"
)

// Standstill says why nothing may be ended for good now, neither an account nor a DID, "" if
// it may: all DIDs are being changed, or what they say is not what this server takes them
// to say, and whether an account lives here cannot be told. What its owner asks for and
// proves at once is no matter of it.
func (a *Accounts) Standstill(ctx context.Context) (string, error) {
	reason, err := a.unsettled(ctx)
	if err != nil {
		return "", fmt.Errorf("look for what is unfinished: %w", err)
	}
	if before := a.still.Swap(&reason); reason != "" && (before == nil || *before != reason) {
		a.Log.WarnContext(ctx, "deletions and clean-ups stand still", "reason", reason)
	}
	return reason, nil
}

func (a *Accounts) unsettled(ctx context.Context) (string, error) {
	move, err := a.meta(ctx, MoveState)
	if err != nil {
		return "", err
	}
	if move != nil {
		var state struct{ Kind, Phase string }
		if err := json.Unmarshal(move, &state); err != nil {
			return "", fmt.Errorf("%s: %w", MoveState, err)
		}
		if state.Phase != "finished" && state.Phase != "undone" {
			return "a move of all DIDs to another " + state.Kind + " is unfinished", nil
		}
	}
	if err := a.MayPublish(ctx); err != nil {
		return err.Error(), nil
	}
	adoption, err := a.meta(ctx, AdoptionState)
	if err != nil {
		return "", err
	}
	if adoption != nil {
		return "the adoption is unfinished", nil
	}
	urls, err := a.meta(ctx, host.PublicURLs)
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(string(urls), "\n") {
		if line != "" && line != a.Endpoint && !host.BothLocal(host.Of(line), host.Of(a.Endpoint)) {
			return "DIDs of accounts name " + line + " as their server, which is " + a.Endpoint, nil
		}
	}
	return "", nil
}

// meta is the value of a name, nil if there is none.
func (a *Accounts) meta(ctx context.Context, name string) ([]byte, error) {
	value, err := a.DB.Meta(ctx, name)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return value, err
}
