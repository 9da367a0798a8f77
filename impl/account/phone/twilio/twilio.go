// Package twilio has codes sent and checked by Twilio Verify, or by a service that
// speaks its HTTP interface. Ours because the provider's module has all of its
// interfaces, and these are two requests.
package twilio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"portico/impl/account/phone"
)

// DefaultURL is where Twilio has the interface.
const DefaultURL = "https://verify.twilio.com/v2"

// maxAnswer is far more than an answer has, in bytes.
const maxAnswer = 64 << 10

// Error is a request that did not succeed. What the service said about it is left out:
// it may quote the number.
type Error struct {
	Status int // HTTP's
	Code   int // the service's own, or 0
}

func (e *Error) Error() string {
	return fmt.Sprintf("verification service answered %d with code %d", e.Status, e.Code)
}

// Client speaks to the service. Its fields are set before its first use; then it is safe
// for concurrent use. Redirects are not followed, nothing is tried again: every text
// message costs money.
type Client struct {
	URL        string // without a slash at the end; DefaultURL if empty
	AccountSID string
	AuthToken  string
	ServiceSID string
	// Timeout is for one request with its answer. The default is 10 seconds.
	Timeout time.Duration
}

var _ phone.Provider = (*Client)(nil)

// LogValue keeps the token out of logs.
func (*Client) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// String keeps the token out of everything else that prints.
func (*Client) String() string { return "REDACTED" }

// GoString is String.
func (*Client) GoString() string { return "REDACTED" }

// Send implements [phone.Provider].
func (c *Client) Send(ctx context.Context, n phone.Number) error {
	_, err := c.post(ctx, "Verifications", url.Values{"To": {string(n)}, "Channel": {"sms"}})
	if refused, ok := errors.AsType[*Error](err); ok {
		switch refused.Code {
		case 60200, // parameter is invalid, and only the number is the caller's
			60033, // number is invalid
			60205, // number is that of a landline
			21211, // number is invalid
			21614: // number is that of no mobile phone
			return fmt.Errorf("%w: %w", phone.ErrNumber, err)
		case 60220, // country wants the use to be vetted
			60410, // country is blocked for fraud
			60605, // country is blocked by permissions
			21408: // country is not permitted
			return fmt.Errorf("%w: %w", phone.ErrCountry, err)
		}
	}
	return err
}

// Check implements [phone.Provider].
func (c *Client) Check(ctx context.Context, n phone.Number, code string) (bool, error) {
	status, err := c.post(ctx, "VerificationCheck", url.Values{"To": {string(n)}, "Code": {code}})
	if refused, ok := errors.AsType[*Error](err); ok {
		switch refused.Code {
		case 20404, // nothing was sent, or it was used, guessed at or left too long
			60200, // no code at all
			60202: // too many guesses at it
			return false, nil
		}
	}
	return err == nil && status == "approved", err
}

// direct follows no redirects.
var direct = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// post sends a form to the service and returns the status that it answers with. An
// answer that is none of success is an *Error.
func (c *Client) post(ctx context.Context, resource string, form url.Values) (status string, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, 10*time.Second))
	defer cancel()
	target := cmp.Or(c.URL, DefaultURL) + "/Services/" + url.PathEscape(c.ServiceSID) + "/" + resource
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("ask verification service: %w", err)
	}
	r.SetBasicAuth(c.AccountSID, c.AuthToken)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	answer, err := direct.Do(r)
	if err != nil {
		return "", fmt.Errorf("ask verification service: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusCreated {
		return "", &Error{Status: answer.StatusCode, Code: errorCode(body)}
	}
	if err != nil {
		return "", fmt.Errorf("read answer of verification service: %w", err)
	}
	return statusOf(body)
}

// errorCode is the code in the body of an error, 0 where there is none.
func errorCode(body []byte) int {
	var said struct {
		Code int `json:"code"`
	}
	if json.Unmarshal(body, &said) != nil {
		return 0
	}
	return said.Code
}

// statusOf is the status of a verification. The error does not quote the body.
func statusOf(body []byte) (string, error) {
	var said struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Status == "" {
		return "", errors.New("verification service gave an answer without a status")
	}
	return said.Status, nil
}
