package operator

import (
	"context"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
)

// ClearBudgets forgets what somebody has spent of the security budgets. The record says so
// of an account; addresses it does not keep.
func (s *Service) ClearBudgets(ctx context.Context, in *api.ClearBudgetsInput) error {
	payer, ok := budget.ParsePayer(in.Who)
	if !ok {
		return api.ErrClearBudgetsInvalidPayer.New(http.StatusBadRequest, invalidPayer)
	}
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		if did, err := syntax.ParseDID(in.Who); err != nil {
			if err := audit.Record(ctx, tx, s.Credentials.Now(), "", audit.BudgetsCleared, "of an address"); err != nil {
				return err
			}
		} else if err := audit.RecordOfAccount(ctx, tx, s.Credentials.Now(), did, audit.BudgetsCleared, ""); err != nil {
			return err
		}
		return s.Budgets.Forget(ctx, tx, payer)
	})
}
