// Package client knows the apps that ask to be let into accounts: by their client_id, which is
// the address of a document that says what they are (specification "OAuth", "Client ID
// Metadata Documents"), or stands for an app under development on somebody's own machine.
//
// Documents and keys are strangers': they are fetched from public addresses only, without
// redirects, bounded in size and time, paid for by whom [Clients.Pay] names, and kept for ten
// minutes. What is shown of them to people has been cleaned; what they link to is never fetched,
// but for the keys.
package client

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"portico/impl/oauth/jose"
)

// An Error refuses a client or what it sent: Name is one of the OAuth specifications, such as
// invalid_client_metadata.
type Error struct {
	Status            int // of HTTP: 400, or 503 when it is us who cannot
	Name, Description string
}

func (e *Error) Error() string { return e.Name + ": " + e.Description }

func refuse(name, format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, name, fmt.Sprintf(format, args...)}
}

// A Client is an app. It is not changed once found.
type Client struct {
	ID       string
	Loopback bool // it is one of development, on the user's own machine
	Trusted  bool // the operator trusts its name and its picture
	Metadata Metadata

	keys []*jose.Key // those of the document itself
}

// Metadata is the document of a client, as far as it counts here. It was found to be in order.
type Metadata struct {
	ClientID        string   `json:"client_id"`
	Name            string   `json:"client_name"` // one line of printable characters
	URI             string   `json:"client_uri"`
	LogoURI         string   `json:"logo_uri"`
	TermsURI        string   `json:"tos_uri"`
	PolicyURI       string   `json:"policy_uri"`
	RedirectURIs    []string `json:"redirect_uris"`
	Scope           string   `json:"scope"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	ApplicationType string   `json:"application_type"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	AuthAlgorithm   string   `json:"token_endpoint_auth_signing_alg"`
	RequestAlg      string   `json:"request_object_signing_alg"`
	BoundTokens     bool     `json:"dpop_bound_access_tokens"`
	JWKSURI         string   `json:"jwks_uri"`
}

// Confidential says whether the client proves who it is with a key.
func (c *Client) Confidential() bool { return c.Metadata.AuthMethod == "private_key_jwt" }

// Clients finds clients. It is safe for concurrent use.
type Clients struct {
	Fetch   *http.Client // reaches public addresses alone; see resolve.NewClient
	Largest int64        // bytes of a document
	// Pay is asked before each fetch. Its error is what the caller gets.
	Pay     func(ctx context.Context) error
	Trusted func() []string // their client_ids, at the moment
	Issuer  string          // this server's origin
	Now     func() time.Time
	// Once notes that the token with this id was used, and says false if it had been before. An
	// id is to be remembered until then, also across restarts and by all processes.
	Once func(ctx context.Context, id []byte, until time.Time) (bool, error)

	begin     sync.Once
	documents *source[*Client]
	keySets   *source[[]*jose.Key]
}

// How much is kept, of documents and of sets of keys each.
const (
	keptEntries = 2000
	keptBytes   = 16 << 20
)

func (c *Clients) start() {
	c.begin.Do(func() {
		to := fetcher{client: c.Fetch, largest: c.Largest}
		c.documents = newSource(c.Pay, c.Now, func(ctx context.Context, id string) (*Client, int, error) {
			return to.document(ctx, id)
		})
		c.keySets = newSource(c.Pay, c.Now, func(ctx context.Context, uri string) ([]*jose.Key, int, error) {
			return to.keySet(ctx, uri)
		})
	})
}

// Find returns the client of an id. It returns an [*Error], or what Pay does.
func (c *Clients) Find(ctx context.Context, id string) (*Client, error) {
	return c.find(ctx, id, false)
}

func (c *Clients) find(ctx context.Context, id string, anew bool) (*Client, error) {
	switch kind, err := kindOf(id); {
	case err != nil:
		return nil, err
	case kind == loopback:
		return development(id)
	}
	c.start()
	found, err := c.documents.get(ctx, id, anew)
	if err != nil {
		return nil, err
	}
	one := *found
	one.Trusted = c.Trusted != nil && slices.Contains(c.Trusted(), id)
	return &one, nil
}

// printable is a text as it may be shown: one line, without what is not seen or turns the
// direction of what is, of at most that many characters.
func printable(text string, most int) string {
	var b strings.Builder
	n, blank := 0, false
	for _, r := range text {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar || r == ' ' {
			blank = n > 0
			continue
		}
		if blank {
			b.WriteByte(' ')
			n++
			blank = false
		}
		if n++; n > most {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// quoted is what a stranger wrote, as descriptions of errors repeat it.
func quoted(text string) string { return `"` + printable(text, 300) + `"` }
