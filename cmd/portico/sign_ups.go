package main

import (
	"context"
	"log/slog"

	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
)

// warnOfOpenSignUp tells the operator of a server of the world that anybody may make as
// many accounts on it as they have addresses of the network.
func warnOfOpenSignUp(ctx context.Context, s *settings, domains *domain.Domains, log *slog.Logger) {
	if s.Development || s.RateLimits || s.PhoneProvider != "" || s.SignUpsPerDay > 0 {
		return
	}
	for _, d := range domains.Current(ctx).All() {
		if d.Policy == handle.Open {
			log.WarnContext(ctx, "anybody can sign up, and nothing limits how many accounts a day that makes: set "+
				"PORTICO_SIGNUPS_PER_DAY, PDS_RATE_LIMITS_ENABLED or PORTICO_PHONE_PROVIDER, or PDS_INVITE_REQUIRED", "domain", d.Name)
			return
		}
	}
}
