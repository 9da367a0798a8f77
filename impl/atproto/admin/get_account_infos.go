package admin

import (
	"context"

	api "portico/api/atproto/admin"
)

// GetAccountInfos shows those of the accounts that exist.
func (s *Service) GetAccountInfos(ctx context.Context, p *api.GetAccountInfosParams) (*api.GetAccountInfosOutput, error) {
	shown, err := s.show(ctx, p.DIDs...)
	if err != nil {
		return nil, err
	}
	return &api.GetAccountInfosOutput{Infos: shown}, nil
}
