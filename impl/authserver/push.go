package authserver

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/budget"
	"portico/impl/oauth/client"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/permissionset"
	"portico/impl/oauth/scope"
)

const (
	// maxState is how many bytes a client may have given back to it.
	maxState = 2 << 10
	// maxLocales is how many bytes it may say in which languages its user reads.
	maxLocales = 100
)

// known reports whether a parameter of that name means something to an endpoint.
func known(name string) bool { return slices.Contains(parameterNames, name) }

var parameterNames = []string{
	"client_id", "client_assertion", "client_assertion_type", "request", "response_type", "redirect_uri", "scope", "state",
	"code_challenge", "code_challenge_method", "response_mode", "prompt", "login_hint", "dpop_jkt", "display", "ui_locales", "max_age",
	"nonce", "claims", "id_token_hint", "authorization_details", "grant_type", "code", "code_verifier", "refresh_token", "token",
}

// push keeps a request of a client, for its user's browser to open (RFC 9126).
func (s *server) push(r *http.Request, sent form) (int, any, error) {
	ctx := r.Context()
	if sent["client_id"] == "" {
		return 0, nil, refuse("invalid_client", "Client credentials missing: client_id is required")
	}
	if sent["request"] == "" { // else they are inside of that
		if _, err := parameters(sent); err != nil {
			return 0, nil, err
		}
	}
	proof, err := s.Proofs.Read(r, "")
	if err != nil {
		return 0, nil, err
	}
	from, key, err := s.client(r, sent, proof)
	payer := s.payer(ctx)
	// A client that proved who it is asks from one address for all of its users, who are not to
	// be kept out by whoever visits it often.
	pays := budget.PushedRequests
	if key != "" {
		pays = budget.KeyedRequests
	}
	if err := s.Budgets.Spend(context.WithoutCancel(ctx), pays, payer); err != nil {
		return 0, nil, err
	}
	if err != nil {
		return 0, nil, err
	}
	if err := s.Proofs.Use(ctx, proof); err != nil {
		return 0, nil, err
	}
	if object := sent["request"]; object != "" {
		if sent, err = s.inside(ctx, from, object); err != nil {
			return 0, nil, err
		}
	}
	asked, err := parameters(sent)
	if err != nil {
		return 0, nil, err
	}
	if jkt := sent["dpop_jkt"]; jkt != "" && jkt != proof.Thumbprint {
		return 0, nil, &refusal{status: http.StatusUnauthorized, name: "invalid_token", description: "Invalid DPoP key binding", challenge: true}
	}
	if asked.RedirectURI, err = from.Redirect(asked.RedirectURI); err != nil {
		return 0, nil, err
	}
	if err := s.mayAsk(ctx, from, asked); err != nil {
		return 0, nil, err
	}
	uri, err := s.Grants.Push(ctx, payer, grant.Request{ClientID: from.ID, ClientKey: key, DPoPKey: proof.Thumbprint, Parameters: *asked})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int    `json:"expires_in"`
	}{uri, int(grant.RequestLasts/time.Second) - 1}, nil // one for the way
}

// payer is who pays for a request: its caller's address.
func (s *server) payer(ctx context.Context) budget.Payer {
	if c := xrpc.CallFrom(ctx); c != nil {
		return s.Budgets.Caller(c.IP)
	}
	return budget.Payer{}
}

// inside returns the parameters of a request object (RFC 9101).
func (s *server) inside(ctx context.Context, from *client.Client, object string) (form, error) {
	values, err := s.Clients.Request(ctx, from, object)
	if err != nil {
		return nil, err
	}
	f := make(form, len(values))
	for name, texts := range values {
		if len(texts) > 0 {
			f[name] = texts[0]
		}
	}
	return f, f.check()
}

var (
	// challengePattern is a SHA-256 in base64url.
	challengePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	// scopePattern is values of RFC 6749 §3.3 with a space between any two.
	scopePattern = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$`)
)

// parameters reads those of an authorization request, and refuses what no client may ask.
func parameters(sent form) (*grant.Parameters, error) {
	switch kind := sent["response_type"]; kind {
	case "code":
	case "":
		return nil, missing("response_type")
	default:
		return nil, refuse("unsupported_response_type", "Unsupported response_type "+quoted(kind))
	}
	for _, name := range []string{"nonce", "claims", "id_token_hint", "authorization_details"} {
		if sent[name] != "" {
			return nil, invalidRequest(`Unsupported "` + name + `" parameter`)
		}
	}
	p := &grant.Parameters{
		RedirectURI: sent["redirect_uri"], State: sent["state"], CodeChallenge: sent["code_challenge"],
		ResponseMode: sent["response_mode"], Prompt: sent["prompt"], UILocales: sent["ui_locales"],
	}
	switch method := sent["code_challenge_method"]; {
	case p.CodeChallenge == "" && method == "":
		return nil, invalidRequest("Use of PKCE is required")
	case p.CodeChallenge == "":
		return nil, invalidRequest("code_challenge is required when code_challenge_method is provided")
	case method != "S256":
		return nil, invalidRequest(`atproto requires use of "S256" code_challenge_method`)
	case !challengePattern.MatchString(p.CodeChallenge):
		return nil, invalid("Expected a SHA-256 in base64url at body.code_challenge")
	}
	for name, most := range map[string]int{"state": maxState, "ui_locales": maxLocales} {
		if len(sent[name]) > most {
			return nil, invalid("String too long at body." + name)
		}
	}
	for _, one := range []struct {
		name string
		of   []string
	}{
		{"response_mode", []string{"query", "fragment", "form_post"}},
		{"prompt", []string{"none", "login", "consent", "select_account", "create"}},
		{"display", []string{"page", "popup", "touch", "wap"}},
	} {
		if sent[one.name] != "" && !slices.Contains(one.of, sent[one.name]) {
			return nil, invalid("Expected one of " + strings.Join(one.of, ", ") + " at body." + one.name)
		}
	}
	if text := sent["max_age"]; text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return nil, invalid("Expected a number of seconds at body.max_age")
		}
		p.MaxAge = &n
	}
	if hint := sent["login_hint"]; hint != "" {
		id, err := syntax.ParseAtIdentifier(hint)
		if err != nil {
			return nil, invalidRequest("Invalid login_hint " + quoted(hint))
		}
		p.LoginHint = id.Normalize().String()
	}
	switch text := sent["scope"]; {
	case text == "":
		return nil, invalidScope(`The "atproto" scope is required`)
	case !scopePattern.MatchString(text):
		return nil, invalid("Expected values with single spaces between at body.scope")
	default:
		p.Scope = strings.Join(scope.Values(text), " ")
	}
	return p, nil
}

// mayAsk refuses what this client may not ask for. Values of the scope that the server does not
// understand are no error: they are what other servers understand, and permit nothing here.
func (s *server) mayAsk(ctx context.Context, from *client.Client, p *grant.Parameters) error {
	wanted, declared := strings.Fields(p.Scope), strings.Fields(from.Metadata.Scope)
	if slices.Contains(wanted, "openid") {
		return invalidScope("OpenID Connect is not compatible with atproto")
	}
	if !slices.Contains(wanted, scope.ATProto) {
		return invalidScope(`The "atproto" scope is required`)
	}
	// Anybody can say to be a client that proves nothing, so its user is always asked.
	if p.Prompt == "none" && (from.Loopback || !from.Confidential() && !from.Trusted) {
		return invalidRequest("Public clients are not allowed to use silent-sign-on")
	}
	var includes []scope.Include
	for _, value := range wanted {
		if !slices.Contains(declared, value) {
			return invalidScope("Scope " + quoted(value) + " is not declared in the client metadata")
		}
		if i, ok := scope.ParseInclude(value); ok {
			includes = append(includes, i)
		}
	}
	if len(includes) > permissionset.MaxIncludes {
		return invalidScope("At most " + strconv.Itoa(permissionset.MaxIncludes) + " permission sets can be asked for at once")
	}
	for _, i := range includes {
		if _, err := s.Sets.Find(ctx, i.NSID); err != nil {
			return err
		}
	}
	return nil
}
