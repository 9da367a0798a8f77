package auth

import (
	"context"

	"portico/api/xrpc"
	"portico/impl/budget"
)

// LookUp is to be called before another host is asked about a DID or a handle: the
// address of the caller whose request wants to know pays for that, whoever it says to
// be. What the server does by itself is free. It returns a [*budget.Spent].
func LookUp(ctx context.Context, l *budget.Ledger) error {
	c := xrpc.CallFrom(ctx)
	if c == nil {
		return nil
	}
	// Also for callers who hang up.
	return l.Spend(context.WithoutCancel(ctx), budget.LookUps, l.Caller(c.IP))
}
