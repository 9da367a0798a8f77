package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"portico/impl/page"
)

const day = 24 * time.Hour

// pageColors are those of pages; nil: the page's own.
type pageColors struct{ Primary, Error, Warning, Info, Success *page.Color }

// storeTrustedClients reads the ids of apps. One that is no address stands for nothing, and
// somebody meant another.
func storeTrustedClients(s *settings, v string) error {
	for _, item := range splitList(v) {
		item = strings.TrimSpace(item)
		u, err := url.Parse(item)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || strings.Trim(u.Path, "/") == "" {
			return fmt.Errorf("has %q, which is no client_id: give the address of the app's document, such as https://app.example.com/oauth-client-metadata.json", withoutUser(item))
		}
		s.TrustedClients = append(s.TrustedClients, item)
	}
	return nil
}

// checkOAuth looks at what is wrong with the settings of OAuth, and of its pages.
func (s *settings) checkOAuth(given func(name string) string, add func(variable, text string)) {
	captcha := []string{"PDS_HCAPTCHA_SITE_KEY", "PDS_HCAPTCHA_SECRET_KEY", "PDS_HCAPTCHA_TOKEN_SALT"}
	some := false
	for _, name := range captcha {
		some = some || given(name) != ""
	}
	for _, name := range captcha {
		if some && given(name) == "" {
			add(name, "is missing: a captcha needs "+strings.Join(captcha, ", ")+", or none of them is set")
		}
	}
	for _, pair := range []struct {
		variable      string
		refresh, life time.Duration
	}{
		{"PORTICO_OAUTH_REFRESH_PUBLIC", s.OAuthLifetimes.PublicRefresh, s.OAuthLifetimes.PublicSession},
		{"PORTICO_OAUTH_REFRESH_CONFIDENTIAL", s.OAuthLifetimes.ConfidentialRefresh, s.OAuthLifetimes.ConfidentialSession},
	} {
		if pair.refresh > pair.life {
			add(pair.variable, errLongerThanSession.Error())
		}
	}
}

var errLongerThanSession = errors.New("must not be longer than the session, of which it is a part")
