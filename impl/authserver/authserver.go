// Package authserver is what clients of OAuth call: metadata (RFC 8414), pushed
// authorization requests (RFC 9126), tokens and their revocation (RFC 7009), as the
// specification "OAuth" of the AT Protocol wants them.
//
// It decides what a request is allowed to ask; who the client is, package client says, and
// what is kept, package grant. Nothing that a client sent is answered before its form is in
// order, and nothing of another client's is told.
//
// Ours, and neither ory/fosite nor zitadel/oidc. Fosite (v0.49) has no DPoP and no clients that
// are documents of the network, brings eighty modules along, and leaves what is delicate, codes and
// tokens in a database, to its user. zitadel/oidc (v3.52) is a provider of OpenID Connect: its DPoP
// binds identity tokens alone, and it has neither pushed requests nor such clients.
package authserver

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/budget"
	"portico/impl/oauth/client"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/scope"
)

// Config is what the endpoints are made of.
type Config struct {
	Issuer  string // the origin of this server
	Clients *client.Clients
	Proofs  *dpop.Verifier
	Grants  *grant.Grants
	Sets    Sets
	Budgets *budget.Ledger
	Log     *slog.Logger
	// Answered is told of every answer of an endpoint: "par", "token" or "revoke", and "ok" or one of
	// [Outcomes]. It may be nil.
	Answered func(endpoint, outcome string)
}

// Sets are permission sets: see package permissionset.
type Sets interface {
	Find(ctx context.Context, nsid syntax.NSID) (*scope.PermissionSet, error)
}

// Paths of the endpoints, and of the pages, which are package authorize.
const (
	MetadataPath  = "/.well-known/oauth-authorization-server"
	KeysPath      = "/oauth/jwks"
	PushPath      = "/oauth/par"
	TokenPath     = "/oauth/token"
	RevokePath    = "/oauth/revoke"
	AuthorizePath = "/oauth/authorize"
)

// Root is above all paths of this server but that of the metadata.
const Root = "/oauth"

// Methods are those of HTTP that the endpoints at a path have; any other one is for whoever routes
// requests to refuse.
var Methods = map[string][]string{
	MetadataPath: {http.MethodGet, http.MethodHead, http.MethodOptions},
	KeysPath:     {http.MethodGet, http.MethodHead, http.MethodOptions},
	// The answer to others has a status of its own.
	PushPath:   {http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodPut, http.MethodPatch, http.MethodDelete},
	TokenPath:  {http.MethodPost, http.MethodOptions},
	RevokePath: {http.MethodPost, http.MethodOptions},
}

type server struct {
	Config
	metadata []byte
}

// New returns what answers at all of these paths but the last. Requests have an xrpc.Call,
// which knows where they come from.
func New(c Config) http.Handler {
	s := &server{Config: c, metadata: describe(c.Issuer)}
	endpoints := map[string]func(http.ResponseWriter, *http.Request){
		MetadataPath: s.document(s.metadata),
		KeysPath:     s.document([]byte(`{"keys":[]}`)), // tokens are signed with a secret
		PushPath:     s.endpoint("par", s.push),
		TokenPath:    s.endpoint("token", s.token),
		RevokePath:   s.endpoint("revoke", s.revoke),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := endpoints[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		// Any page may have these: they know nobody by a cookie.
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "*")
			h.Set("Access-Control-Allow-Headers", "Content-Type,DPoP")
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusOK)
			return
		}
		answer(w, r)
	})
}

// document answers with JSON that is the same for everybody.
func (s *server) document(body []byte) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=300")
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(body) // who does not read it is gone
	}
}

// describe is the metadata of the authorization server.
func describe(issuer string) []byte {
	type list = []string
	algorithms := dpop.Algorithms
	body, err := json.Marshal(struct {
		Issuer              string `json:"issuer"`
		RequestParameter    bool   `json:"request_parameter_supported"`
		RequestURIParameter bool   `json:"request_uri_parameter_supported"`
		RequestURIRegister  bool   `json:"require_request_uri_registration"`
		Scopes              list   `json:"scopes_supported"`
		Subjects            list   `json:"subject_types_supported"`
		ResponseTypes       list   `json:"response_types_supported"`
		ResponseModes       list   `json:"response_modes_supported"`
		GrantTypes          list   `json:"grant_types_supported"`
		Challenges          list   `json:"code_challenge_methods_supported"`
		Locales             list   `json:"ui_locales_supported"`
		Displays            list   `json:"display_values_supported"`
		Prompts             list   `json:"prompt_values_supported"`
		ResponseIssuer      bool   `json:"authorization_response_iss_parameter_supported"`
		RequestAlgorithms   list   `json:"request_object_signing_alg_values_supported"`
		RequestKeys         list   `json:"request_object_encryption_alg_values_supported"`
		RequestCiphers      list   `json:"request_object_encryption_enc_values_supported"`
		KeysURI             string `json:"jwks_uri"`
		Authorization       string `json:"authorization_endpoint"`
		Token               string `json:"token_endpoint"`
		AuthMethods         list   `json:"token_endpoint_auth_methods_supported"`
		AuthAlgorithms      list   `json:"token_endpoint_auth_signing_alg_values_supported"`
		Revocation          string `json:"revocation_endpoint"`
		Push                string `json:"pushed_authorization_request_endpoint"`
		PushedOnly          bool   `json:"require_pushed_authorization_requests"`
		ProofAlgorithms     list   `json:"dpop_signing_alg_values_supported"`
		Resources           list   `json:"protected_resources"`
		ClientDocuments     bool   `json:"client_id_metadata_document_supported"`
	}{
		Issuer:           issuer,
		RequestParameter: true, RequestURIParameter: true, RequestURIRegister: true,
		Scopes:         list{"atproto", "transition:email", "transition:generic", "transition:chat.bsky"},
		Subjects:       list{"public"},
		ResponseTypes:  list{"code"},
		ResponseModes:  list{"query", "fragment", "form_post"},
		GrantTypes:     list{"authorization_code", "refresh_token"},
		Challenges:     list{"S256"},
		Locales:        list{"en-US"},
		Displays:       list{"page", "popup", "touch"},
		Prompts:        list{"none", "login", "consent", "select_account", "create"},
		ResponseIssuer: true,

		RequestAlgorithms: append(slices.Clone(algorithms), "none"), RequestKeys: list{}, RequestCiphers: list{},

		KeysURI:       issuer + KeysPath,
		Authorization: issuer + AuthorizePath,
		Token:         issuer + TokenPath, AuthMethods: list{"none", "private_key_jwt"}, AuthAlgorithms: algorithms,
		Revocation: issuer + RevokePath,
		Push:       issuer + PushPath, PushedOnly: true,
		ProofAlgorithms: algorithms,
		Resources:       list{issuer}, ClientDocuments: true,
	})
	if err != nil {
		panic(err) // there is nothing in it that does not encode
	}
	return body
}
