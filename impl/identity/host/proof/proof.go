// Package proof finds out whether a host name leads to this very server.
//
// It asks what is served there as com.atproto.server.describeServer, with a challenge in the
// header that only a process with this server's secret can answer: a copy of the answer of
// another time, or of another server, proves nothing. One who passes requests on to this
// server does prove it, as the proxy in front of it has to.
package proof

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// The headers of the question and of its answer.
const (
	Challenge = "Portico-Challenge"
	Answer    = "Portico-Answer"
)

// Path is where it is asked.
const Path = "/xrpc/com.atproto.server.describeServer"

// maxChallenge bounds what is answered, in bytes.
const maxChallenge = 64

const (
	timeout   = 10 * time.Second
	maxAnswer = 64 << 10 // bytes
)

// ErrOther says that it is not this server that answers.
var ErrOther = errors.New("what answers there is not this server")

// Sign returns the answer to a challenge, "" to what is none. mac is a keyed hash of a
// secret of the server, of this purpose alone.
func Sign(mac func(challenge string) []byte, challenge string) string {
	if challenge == "" || len(challenge) > maxChallenge {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(mac(challenge))
}

// A Prover asks hosts. It is safe for concurrent use if its fields are.
type Prover struct {
	Client *http.Client // connects to no address that it must not; see resolve.NewClient and resolve.Through
	MAC    func(challenge string) []byte
	Rand   io.Reader
}

// Prove returns nil if the server at a URL without a path is this one, which gives its own
// DID as did. Otherwise it says what is wrong: ErrOther, or what went wrong on the way.
// Redirects are not followed.
func (p *Prover) Prove(ctx context.Context, server, did string) error {
	var random [24]byte
	if _, err := io.ReadFull(p.Rand, random[:]); err != nil {
		return fmt.Errorf("make a challenge: %w", err)
	}
	challenge := base64.RawURLEncoding.EncodeToString(random[:])
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	at, err := url.JoinPath(server, Path)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	request.Header.Set(Challenge, challenge)
	client := *p.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var said struct {
		DID string `json:"did"`
	}
	switch {
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: status %d", ErrOther, response.StatusCode)
	case !hmac.Equal([]byte(response.Header.Get(Answer)), []byte(Sign(p.MAC, challenge))):
		return fmt.Errorf("%w: no answer to the challenge", ErrOther)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&said); err != nil {
		return fmt.Errorf("%w: %w", ErrOther, err)
	}
	if said.DID != did {
		return fmt.Errorf("%w: its DID is %q", ErrOther, said.DID)
	}
	return nil
}
