package owner_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
)

var tokenPattern = regexp.MustCompile(`name="token" value="([^"]*)"`)

// without is a page without what differs from browser to browser.
func without(page string) string { return tokenPattern.ReplaceAllString(page, "") }

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func jsonOf(v any) ([]byte, error) { return json.Marshal(v) }

// form is one with names and values in turn.
func form(fields ...string) url.Values {
	sent := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		sent.Set(fields[i], fields[i+1])
	}
	return sent
}
