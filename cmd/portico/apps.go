package main

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/captcha"
	"portico/impl/authserver"
	"portico/impl/authserver/authorize"
	"portico/impl/budget"
	"portico/impl/identity/resolve"
	"portico/impl/keyring"
	"portico/impl/oauth/client"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/permissionset"
	"portico/impl/page"
)

// appParts are what lets apps into accounts, by OAuth.
type appParts struct {
	issuer    string
	clients   *client.Clients
	proofs    *dpop.Verifier
	grants    *grant.Grants
	sets      *permissionset.Sets
	endpoints http.Handler

	answered func(endpoint, outcome string) // nil: nobody counts
}

// wireApps makes them. strangers reaches whom strangers name.
func wireApps(s *settings, now *live, store *db.DB, keys *keyring.Ring, budgets *budget.Ledger, strangers *http.Client, documents *resolve.Cache, log *slog.Logger) (*appParts, error) {
	pay := func(ctx context.Context) error { return auth.LookUp(ctx, budgets) }
	a := &appParts{issuer: s.PublicURL.Scheme + "://" + s.PublicURL.Host}
	// Their own key, so that no token of a session is ever one of an app, or the other way round.
	secret, err := hkdf.Key(sha256.New, []byte(s.JWTSecret), nil, "portico access tokens of apps", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive key of tokens: %w", err)
	}
	a.sets = &permissionset.Sets{
		Store: setStore{store}, Authority: s.LexiconAuthority, Document: documents.Resolve, Own: setStore{store}.own, Fetch: strangers,
		Pay: pay, Now: time.Now, Log: log,
	}
	a.grants = &grant.Grants{
		DB: store, Keys: keys, Budgets: budgets, Now: time.Now, Rand: rand.Reader, Secret: secret, Issuer: a.issuer,
		Audience: s.ServiceDID.String, Lifetimes: now.lifetimes, Expand: a.sets.Expand,
	}
	a.proofs = s.proofs(a.issuer, a.grants, keys)
	a.clients = &client.Clients{
		Fetch: strangers, Largest: s.FetchMaxSize, Pay: pay, Trusted: now.trustedClients, Issuer: a.issuer, Now: time.Now,
		Once: a.grants.Once, // assertions have no nonce that would end them with the process
	}
	a.endpoints = authserver.New(authserver.Config{
		Issuer: a.issuer, Clients: a.clients, Proofs: a.proofs, Grants: a.grants, Sets: a.sets, Budgets: budgets, Log: log,
		Answered: func(endpoint, outcome string) {
			if a.answered != nil {
				a.answered(endpoint, outcome)
			}
		},
	})
	return a, nil
}

// observe has f told of what the endpoints answer. It is called before they do.
func (a *appParts) observe(f func(endpoint, outcome string)) { a.answered = f }

// proofs is what checks that apps have their keys. Where this process is the only one it knows
// which proofs were used, and takes none from before its start: its nonces are its own. With Postgres
// all processes take each other's, and the database knows.
func (s *settings) proofs(origin string, grants *grant.Grants, keys *keyring.Ring) *dpop.Verifier {
	v := &dpop.Verifier{URL: origin, Now: time.Now}
	if s.DatabaseURL == "" {
		secret := make([]byte, 32)
		rand.Read(secret) // never fails
		v.Nonces, v.Once = dpop.NewNonces(secret, time.Now), dpop.NewMemory(time.Now).Once
		return v
	}
	secret := s.DPoPSecret
	if secret == nil {
		mac := keys.MAC("dpop nonces", nil)
		secret = mac[:]
	}
	v.Nonces, v.Once = dpop.NewNonces(secret, time.Now), grants.Once
	return v
}

// branding is how the operator wants pages to look.
func (s *settings) branding() page.Branding {
	text := func(u *url.URL) string {
		if u == nil {
			return ""
		}
		return u.String()
	}
	colors := s.Colors
	if s.valueOf("PDS_PRIMARY_COLOR").from == "default" {
		colors.Primary = nil // which is that of mails
	}
	return page.Branding{
		LogoURL: text(s.LogoURL), HomeURL: text(s.HomeURL), TermsURL: s.TermsOfServiceURL, PrivacyURL: s.PrivacyPolicyURL, SupportURL: text(s.SupportURL),
		Primary: colors.Primary, Error: colors.Error, Warning: colors.Warning, Info: colors.Info, Success: colors.Success,
	}
}

// captchaClient asks hCaptcha, which the operator chose.
var captchaClient = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// captcha is what whoever signs up has to solve; nil: nothing.
func (s *settings) captcha(by *http.Client, budgets *budget.Ledger) *authorize.Captcha {
	if s.CaptchaSiteKey == "" {
		return nil
	}
	c := &captcha.Captcha{
		SiteKey: s.CaptchaSiteKey, Secret: string(s.CaptchaSecret), URL: captcha.DefaultURL, Client: by,
		Pay: func(ctx context.Context) error { return auth.LookUp(ctx, budgets) },
	}
	return &authorize.Captcha{SiteKey: c.SiteKey, Verify: func(ctx context.Context, answer string, caller netip.Addr) (bool, error) {
		err := c.Check(ctx, answer, caller)
		if errors.Is(err, captcha.ErrRefused) {
			return false, nil
		}
		return err == nil, err
	}}
}
