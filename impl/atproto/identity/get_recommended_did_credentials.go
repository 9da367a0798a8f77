package identity

import (
	"context"
	"errors"

	api "portico/api/atproto/identity"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/identity/plc"
)

// GetRecommendedDIDCredentials says what the DID of an account that lives here is
// best to say.
func (s *Service) GetRecommendedDIDCredentials(ctx context.Context) (*api.GetRecommendedDIDCredentialsOutput, error) {
	a := auth.Caller(ctx).Account
	key, err := s.DB.SigningKey(ctx, a.DID, account.KeyPurpose)
	if errors.Is(err, db.ErrNotFound) {
		return nil, auth.AccountNotFound()
	}
	if err != nil {
		return nil, err
	}
	out := new(api.GetRecommendedDIDCredentialsOutput)
	if out.RotationKeys, err = s.Accounts.RotationKeys(ctx); err != nil {
		return nil, err
	}
	if !a.TakenDown() && a.Handle != "" {
		out.AlsoKnownAs = []string{"at://" + a.Handle.String()}
	}
	if out.VerificationMethods, err = object(map[string]string{"atproto": key.Public}); err != nil {
		return nil, err
	}
	out.Services, err = object(map[string]plc.Service{"atproto_pds": {Type: plc.ServiceType, Endpoint: s.Accounts.PublicURL(ctx)}})
	return out, err
}
