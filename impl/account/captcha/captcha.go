// Package captcha asks hCaptcha whether who signs up was found to be a person. It is an edge
// of the network.
package captcha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// DefaultURL is where hCaptcha is asked.
const DefaultURL = "https://api.hcaptcha.com/siteverify"

// ErrRefused says that an answer to the riddle is missing, wrong, over or used already.
var ErrRefused = errors.New("captcha was not solved")

const (
	timeout     = 10 * time.Second
	maxAnswer   = 64 << 10
	maxResponse = 16 << 10 // what a browser was given for the solution
)

// A Captcha is what a site has at hCaptcha. It is safe for concurrent use.
type Captcha struct {
	SiteKey string // public: pages have it
	Secret  string
	URL     string // DefaultURL, but in tests
	Client  *http.Client
	// Pay is asked before hCaptcha is; its error is returned. It may be nil.
	Pay func(context.Context) error
}

// String keeps the secret out of logs.
func (*Captcha) String() string { return "REDACTED" }

// Check returns nil where response, which the browser of somebody at that address sent, is good.
// It returns ErrRefused where it is not; other errors say that this is not known.
func (c *Captcha) Check(ctx context.Context, response string, remote netip.Addr) error {
	if response == "" || len(response) > maxResponse {
		return ErrRefused
	}
	if c.Pay != nil {
		if err := c.Pay(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	form := url.Values{"secret": {c.Secret}, "response": {response}, "sitekey": {c.SiteKey}}
	if remote.IsValid() {
		form.Set("remoteip", remote.Unmap().String())
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("ask hCaptcha: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := c.Client.Do(r)
	if err != nil {
		return fmt.Errorf("ask hCaptcha: %w", err) // which has the URL, and nothing of the form
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask hCaptcha: status %d", answer.StatusCode)
	}
	var said struct {
		Success bool     `json:"success"`
		Errors  []string `json:"error-codes"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&said); err != nil {
		return fmt.Errorf("read answer of hCaptcha: %w", err)
	}
	if said.Success {
		return nil
	}
	for _, code := range said.Errors {
		switch code {
		case "missing-input-secret", "invalid-input-secret", "sitekey-secret-mismatch", "bad-request", "not-using-dummy-passcode":
			return fmt.Errorf("hCaptcha does not take the keys of this server: %s", code)
		}
	}
	return ErrRefused
}
