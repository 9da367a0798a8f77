package main

import (
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"portico/db"
	"portico/impl/account/phone"
	"portico/impl/account/phone/twilio"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/mail/outbox"
)

// The providers of codes for phones, as PORTICO_PHONE_PROVIDER names them.
const (
	phoneTwilio = "twilio"
	phoneOutbox = "outbox"
)

// phones is the phone verification, nil where none is configured.
func (s *settings) phones(serviceName func() string, store *db.DB, keys *keyring.Ring, budgets *budget.Ledger, letters *outbox.Outbox) *phone.Verification {
	v := &phone.Verification{DB: store, Keys: keys, Budgets: budgets, Max: s.PhoneMaxAccounts, MaxTexts: s.PhoneMaxTexts, Bypass: s.PhoneBypass, Now: time.Now}
	switch s.PhoneProvider {
	case phoneTwilio:
		v.Provider = &twilio.Client{
			URL: s.PhoneURL, AccountSID: s.PhoneAccountSID, AuthToken: string(s.PhoneAuthToken), ServiceSID: s.PhoneServiceSID,
		}
	case phoneOutbox:
		v.Provider = &phone.Outbox{
			DB: store, Keys: keys, Outbox: letters, Service: serviceName, Now: time.Now, Rand: rand.Reader,
		}
	default:
		return nil
	}
	return v
}

func storePhoneURL(s *settings, v string) error {
	u, err := parseURL(v, "http", "https")
	if err != nil {
		return err
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("must be a URL without user, query and fragment")
	}
	s.PhoneURL = strings.TrimSuffix(u.String(), "/")
	return nil
}

func storePhoneBypass(s *settings, v string) (err error) {
	s.PhoneBypass, err = phone.Parse(v)
	if err != nil {
		return errors.New("is not a phone number such as +15551234567")
	}
	return nil
}

// checkPhone looks at what is wrong or unsafe with the phone verification.
func (s *settings) checkPhone(given func(name string) string, add func(variable, text string)) {
	switch s.PhoneProvider {
	case phoneTwilio:
		for _, name := range []string{
			"PORTICO_PHONE_TWILIO_ACCOUNT_SID", "PORTICO_PHONE_TWILIO_AUTH_TOKEN", "PORTICO_PHONE_TWILIO_SERVICE_SID",
		} {
			if given(name) == "" {
				add(name, "is missing: it goes with PORTICO_PHONE_PROVIDER=twilio")
			}
		}
		if !s.Development && strings.HasPrefix(s.PhoneURL, "http://") {
			add("PORTICO_PHONE_TWILIO_URL", "must begin with https://: the token of the account goes there")
		}
	case phoneOutbox:
		if !s.Development {
			add("PORTICO_PHONE_PROVIDER", "must not be outbox: nobody would get a text message")
		} else if s.SMTPURL != nil {
			add("PORTICO_PHONE_PROVIDER", "must not be outbox with PDS_EMAIL_SMTP_URL: the mail server would be given text messages")
		}
	case "":
		for _, name := range []string{"PORTICO_PHONE_TWILIO_AUTH_TOKEN", "PORTICO_PHONE_TWILIO_SERVICE_SID"} {
			if given(name) != "" {
				s.Warnings = append(s.Warnings, name+" has no effect: PORTICO_PHONE_PROVIDER is unset, so phones are not verified")
			}
		}
	}
}
