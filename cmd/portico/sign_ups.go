package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
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

// quarantineOff is the value of PORTICO_SIGNUP_QUARANTINE with which nobody is held.
const quarantineOff = "off"

func storeQuarantine(s *settings, v string) error {
	if err := oneOf(v, quarantineOff, db.HeldUntilConfirmed, db.HeldUntilApproved); err != nil {
		return err
	}
	if v != quarantineOff {
		s.Quarantine = v
	}
	return nil
}

func storeLargeMailDomains(s *settings, v string) error {
	for _, item := range splitList(v) {
		name := strings.ToLower(strings.TrimPrefix(strings.TrimSpace(item), "@"))
		if _, err := syntax.ParseHandle(name); err != nil {
			return fmt.Errorf("has %q, which is not a domain", item)
		}
		s.LargeMailDomains = append(s.LargeMailDomains, name)
	}
	return nil
}

// checkQuarantine refuses to hold accounts until their owners do what they cannot: no mail
// tells them how. A development server shows its mails itself.
func (s *settings) checkQuarantine(add func(variable, text string)) {
	if s.Quarantine == db.HeldUntilConfirmed && s.SMTPURL == nil && !s.Development {
		add("PDS_EMAIL_SMTP_URL", "is missing: with PORTICO_SIGNUP_QUARANTINE=confirmed people wait for a mail that is never sent")
	}
}
