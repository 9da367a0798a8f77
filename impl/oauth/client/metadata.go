package client

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"portico/impl/oauth/jose"
)

// Bounds of documents, beside that of their bytes.
const (
	maxFields = 256
	maxKeys   = 64
	maxList   = 32
	maxName   = 100 // characters that are shown
	maxWord   = 256
)

func invalidField(name, reason string) *Error {
	return refuse("invalid_client_metadata", "Validation of %q failed with error: %s", name, reason)
}

func unfit(format string, args ...any) *Error {
	return refuse("invalid_client_metadata", format, args...)
}

// parse reads the document of a discoverable client. It returns an [*Error].
func parse(id string, raw []byte) (*Client, error) {
	c, err := read(id, raw)
	var fault *Error
	if errors.As(err, &fault) && strings.HasPrefix(fault.Description, "Validation of ") {
		return nil, unobtainable(id, fault.Description)
	}
	return c, err
}

func read(id string, raw []byte) (*Client, error) {
	doc, err := jose.ParseObject(raw, maxFields)
	if err != nil {
		return nil, unobtainable(id, "Unable to parse response as JSON")
	}
	own, err := url.Parse(id)
	if err != nil {
		return nil, invalidID(id)
	}
	c := &Client{ID: id}
	m := &c.Metadata
	if err := fields(doc, m); err != nil {
		return nil, err
	}
	if set, has := doc.Raw("jwks"); has {
		if c.keys, err = keySet(set); err != nil {
			return nil, invalidField("jwks", err.Error())
		}
	}
	for _, check := range []func() error{
		func() error { return checkOwn(doc, m, id, own) },
		func() error { return checkScope(doc, m) },
		func() error { return checkGrants(m) },
		func() error { return checkMethod(doc, m) },
		func() error { return checkRest(doc, m) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	for _, uri := range m.RedirectURIs {
		if err := checkRedirect(uri, own, m.ApplicationType == "native"); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// fields reads what has the form that it should have, and nothing else.
func fields(doc jose.Object, m *Metadata) error {
	for _, f := range []struct {
		name string
		most int
		text *string
	}{
		{"client_id", 2 * maxURI, &m.ClientID},
		{"client_name", 64 << 10, &m.Name},
		{"client_uri", maxURI, &m.URI},
		{"logo_uri", maxURI, &m.LogoURI},
		{"tos_uri", maxURI, &m.TermsURI},
		{"policy_uri", maxURI, &m.PolicyURI},
		{"jwks_uri", maxURI, &m.JWKSURI},
		{"scope", maxScope, &m.Scope},
		{"application_type", maxWord, &m.ApplicationType},
		{"token_endpoint_auth_method", maxWord, &m.AuthMethod},
		{"token_endpoint_auth_signing_alg", maxWord, &m.AuthAlgorithm},
		{"request_object_signing_alg", maxWord, &m.RequestAlg},
	} {
		if _, has := doc.Raw(f.name); !has {
			continue
		}
		var ok bool
		if *f.text, ok = doc.Text(f.name); !ok {
			return invalidField(f.name, "Expected string")
		}
		if len(*f.text) > f.most {
			return invalidField(f.name, "Too long")
		}
	}
	for _, f := range []struct {
		name     string
		most     int
		list     *[]string
		standard string
	}{
		{"redirect_uris", maxRedirects, &m.RedirectURIs, ""},
		{"grant_types", maxList, &m.GrantTypes, "authorization_code"},
		{"response_types", maxList, &m.ResponseTypes, "code"},
	} {
		_, has := doc.Raw(f.name)
		if !has && f.standard != "" {
			*f.list = []string{f.standard}
			continue
		}
		reason := "Required"
		if has {
			var ok bool
			if *f.list, ok = doc.Texts(f.name, f.most); ok && len(*f.list) > 0 {
				continue
			}
			reason = "Expected array of strings, with at least one and not too many"
		}
		return invalidField(f.name, reason)
	}
	for _, f := range []struct {
		name string
		uri  string
	}{
		{"client_uri", m.URI}, {"logo_uri", m.LogoURI}, {"tos_uri", m.TermsURI}, {"policy_uri", m.PolicyURI}, {"jwks_uri", m.JWKSURI},
	} {
		if _, has := doc.Raw(f.name); has && !web(f.uri) {
			return invalidField(f.name, "Invalid URL")
		}
	}
	m.Name = printable(m.Name, maxName)
	return nil
}

// web says whether an address is one of https, or of the own machine.
func web(uri string) bool {
	u, ok := address(uri)
	if !ok {
		return false
	}
	switch u.Scheme {
	case "https":
		return strings.HasPrefix(uri, "https://") && (domain(u.Hostname()) || onLoopback(u.Hostname()))
	case "http":
		return strings.HasPrefix(uri, "http://") && (u.Hostname() == "localhost" || onLoopback(u.Hostname()))
	}
	return false
}

// checkOwn looks at what a document says of its own address.
func checkOwn(doc jose.Object, m *Metadata, id string, own *url.URL) error {
	if _, has := doc.Raw("client_id"); !has {
		return unfit("client_id is required for discoverable clients")
	}
	if m.ClientID != id {
		return unfit("client_id does not match")
	}
	if m.URI == "" {
		return nil
	}
	u, _ := url.Parse(m.URI)
	if !public(u.Hostname()) {
		return unfit("client_uri hostname is invalid")
	}
	folder := strings.TrimSuffix(u.EscapedPath(), "/") + "/"
	if u.Scheme != own.Scheme || !strings.EqualFold(u.Host, own.Host) || !strings.HasPrefix(own.EscapedPath(), folder) && u.EscapedPath() != own.EscapedPath() {
		return unfit("client_uri must be a parent URL of the client_id")
	}
	return nil
}

func checkScope(doc jose.Object, m *Metadata) error {
	if _, has := doc.Raw("scope"); !has {
		return unfit("Missing scope property")
	}
	values, ok := scopeValues(m.Scope)
	if !ok && m.Scope != "" {
		return invalidField("scope", "Invalid")
	}
	if !slices.Contains(values, "atproto") {
		return unfit(`Missing "atproto" scope`)
	}
	if value, twice := double(values); twice {
		return unfit("Duplicate scope %s", quoted(value))
	}
	return nil
}

// double returns a value that is in a list twice.
func double(list []string) (string, bool) {
	seen := make(map[string]bool, len(list))
	for _, value := range list {
		if seen[value] {
			return value, true
		}
		seen[value] = true
	}
	return "", false
}

func checkGrants(m *Metadata) error {
	if kind, twice := double(m.GrantTypes); twice {
		return unfit("Duplicate grant type %s", quoted(kind))
	}
	for _, kind := range m.GrantTypes {
		switch kind {
		case "authorization_code", "refresh_token":
		case "implicit":
			return unfit(`Grant type "implicit" is not allowed`)
		default:
			return unfit("Grant type %s is not supported", quoted(kind))
		}
	}
	if !slices.Contains(m.ResponseTypes, "code") {
		return unfit(`response_types must include "code"`)
	}
	if !slices.Contains(m.GrantTypes, "authorization_code") {
		return unfit(`The "code" response type requires that "grant_types" contains "authorization_code"`)
	}
	return nil
}

// checkMethod looks at how the client proves who it is.
func checkMethod(doc jose.Object, m *Metadata) error {
	_, hasAlgorithm := doc.Raw("token_endpoint_auth_signing_alg")
	_, hasKeys := doc.Raw("jwks")
	switch method := m.AuthMethod; method {
	case "none":
		if hasAlgorithm {
			return unfit(`"token_endpoint_auth_signing_alg" must not be set with the "none" method`)
		}
	case "private_key_jwt":
		if hasKeys == (m.JWKSURI != "") {
			return unfit(`The "private_key_jwt" method requires one of "jwks" and "jwks_uri"`)
		}
		if !hasAlgorithm || m.AuthAlgorithm == "" {
			return unfit(`The "private_key_jwt" method requires "token_endpoint_auth_signing_alg"`)
		}
	default:
		if method == "" {
			method = "client_secret_basic" // what leaving it out stands for
		}
		return unfit(`Unsupported client authentication method %s. Make sure "token_endpoint_auth_method" is set to one of: "none", "private_key_jwt"`, quoted(method))
	}
	if hasKeys && m.JWKSURI != "" {
		return unfit(`"jwks" and "jwks_uri" exclude each other`)
	}
	return nil
}

// unsupported are fields that change what the client gets, in ways that there are not here.
var unsupported = []string{
	"default_max_age", "userinfo_signed_response_alg", "userinfo_encrypted_response_alg", "userinfo_encrypted_response_enc",
	"id_token_signed_response_alg", "authorization_encrypted_response_enc", "authorization_details_types",
}

func checkRest(doc jose.Object, m *Metadata) error {
	switch m.ApplicationType {
	case "":
		m.ApplicationType = "web"
	case "web":
	case "native":
		if m.AuthMethod != "none" {
			return unfit(`Native clients must authenticate using "none" method`)
		}
	default:
		return invalidField("application_type", `Expected "web" or "native"`)
	}
	if bound, _ := doc.Raw("dpop_bound_access_tokens"); string(bound) != "true" {
		return unfit(`"dpop_bound_access_tokens" must be true`)
	}
	m.BoundTokens = true
	for _, name := range unsupported {
		if _, has := doc.Raw(name); has {
			return unfit("%q is not supported", name)
		}
	}
	if bound, _ := doc.Raw("tls_client_certificate_bound_access_tokens"); string(bound) == "true" {
		return unfit(`"tls_client_certificate_bound_access_tokens" is not supported`)
	}
	if _, has := doc.Raw("subject_type"); has {
		if kind, _ := doc.Text("subject_type"); kind != "public" {
			return unfit(`Only "public" subject_type is supported`)
		}
	}
	return nil
}

var errPrivateKey = errors.New("Private key") //lint:ignore ST1005 sent as is

// keySet reads a JSON Web Key Set, of which keys that are not for signatures are left out (RFC
// 7517, section 5). One with a private key in it is an error: whoever reads it could sign.
func keySet(raw []byte) ([]*jose.Key, error) {
	o, err := jose.ParseObject(raw, maxFields)
	if err != nil {
		return nil, errors.New("Expected object") //lint:ignore ST1005 sent as is
	}
	list, _ := o.Raw("keys")
	parts, ok := jose.Elements(list, maxKeys)
	if !ok || len(parts) == 0 {
		return nil, errors.New("Expected array of keys, with at least one and not too many") //lint:ignore ST1005 sent as is
	}
	var keys []*jose.Key
	for _, part := range parts {
		switch key, err := jose.ParseKey(part); {
		case errors.Is(err, jose.ErrPrivate):
			return nil, errPrivateKey
		case err == nil:
			keys = append(keys, key)
		}
	}
	return keys, nil
}
