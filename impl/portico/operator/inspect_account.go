package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/account"
)

// InspectAccount says what an account lacks or has wrong.
func (s *Service) InspectAccount(ctx context.Context, p *api.InspectAccountParams) (*api.InspectAccountOutput, error) {
	found, err := s.Identities.Inspect(ctx, p.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, api.ErrInspectAccountAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	if err != nil {
		return nil, err
	}
	return &api.InspectAccountOutput{Findings: findings(found)}, nil
}

func findings(found []account.Finding) []api.Finding {
	shown := make([]api.Finding, len(found))
	for i, f := range found {
		shown[i] = api.Finding{Name: f.Name, Message: f.Message, Repairable: f.Repairable()}
	}
	return shown
}
