// Package client knows the apps that ask to be let into accounts: by their client_id, which is
// the address of a document that says what they are (specification "OAuth", "Client ID
// Metadata Documents"), or stands for an app under development on somebody's own machine.
//
// Documents and keys are strangers': they are fetched from public addresses only, without
// redirects, bounded in size and time, paid for by whom [Clients.Pay] names, and kept for ten
// minutes.
package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"portico/impl/oauth/dpop"
)

// An Error refuses a client or what it sent: Name is one of the OAuth specifications, such as
// invalid_client_metadata.
type Error struct {
	Status            int // of HTTP, 400 or 401
	Name, Description string
}

func (e *Error) Error() string { return e.Name + ": " + e.Description }

// A Client is an app.
type Client struct {
	ID       string
	Loopback bool // it is one of development, on the user's own machine
	Trusted  bool // the operator trusts its name and its picture
	Metadata Metadata
}

// Metadata is the document of a client, as far as it counts here.
type Metadata struct {
	ClientID        string   `json:"client_id"`
	Name            string   `json:"client_name"`
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

// Redirect returns the redirect URI of a request, which may be left out where there is but one.
// It returns an [*Error].
func (c *Client) Redirect(asked string) (string, error) { panic("not written") }

// Clients finds clients. It is safe for concurrent use.
type Clients struct {
	Fetch   *http.Client // reaches public addresses alone; see resolve.NewClient
	Largest int64        // bytes of a document
	Pay     func(ctx context.Context) error
	Trusted func() []string // their client_ids, at the moment
	Issuer  string          // this server's origin
	Now     func() time.Time
	// Once is as [dpop.Verifier.Once].
	Once func(ctx context.Context, id []byte, until time.Time) (bool, error)
}

// Find returns the client of an id. It returns an [*Error], or what Pay does.
func (c *Clients) Find(ctx context.Context, id string) (*Client, error) { panic("not written") }

// Authenticate checks how the client says who it is in a form, and returns what its
// session is to be bound to: "" for public clients, else "KID ALG THUMBPRINT" of its key. It
// returns an [*Error].
func (c *Clients) Authenticate(ctx context.Context, to *Client, form url.Values) (key string, err error) {
	panic("not written")
}

// HasKey says whether key, as Authenticate returned it once, is one that the client still has.
func (c *Clients) HasKey(ctx context.Context, of *Client, key string) (bool, error) {
	panic("not written")
}

// Request reads a request object (RFC 9101): the parameters that it has. It returns an [*Error].
func (c *Clients) Request(ctx context.Context, of *Client, object string) (url.Values, error) {
	panic("not written")
}

var _ = dpop.Algorithms
