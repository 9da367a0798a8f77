package operator

import (
	"context"
	"net/http"

	api "portico/api/portico/operator"
	"portico/impl/answer"
	"portico/impl/budget"
)

const invalidPayer = "Not a DID, an address of the network or an email address"

// GetBudgets lists what somebody has spent of the security budgets.
func (s *Service) GetBudgets(ctx context.Context, in *api.GetBudgetsParams) (*api.GetBudgetsOutput, error) {
	payer, ok := budget.ParsePayer(in.Who)
	if !ok {
		return nil, api.ErrGetBudgetsInvalidPayer.New(http.StatusBadRequest, invalidPayer)
	}
	all, err := s.Budgets.Spendings(ctx, payer)
	if err != nil {
		return nil, err
	}
	out := new(api.GetBudgetsOutput)
	for _, one := range all {
		if b, ok := budget.Of(one.Kind); ok {
			out.Budgets = append(out.Budgets, api.Budget{
				Kind: one.Kind, Spent: int64(one.Spent), Limit: int64(s.Budgets.Limit(b, payer)), ResetAt: answer.Datetime(one.Reset), Protects: b.Protects,
			})
		}
	}
	return out, nil
}
