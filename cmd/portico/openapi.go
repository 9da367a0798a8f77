package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"portico/api/xrpc"
)

// openAPI is the part of an OpenAPI document that the server changes; the rest stays
// as the generator wrote it.
type openAPI struct {
	Generated  json.RawMessage   `json:"x-generated,omitzero"`
	OpenAPI    json.RawMessage   `json:"openapi"`
	Info       openAPIInfo       `json:"info"`
	Servers    json.RawMessage   `json:"servers"`
	Samples    map[string]string `json:"x-samples,omitzero"`
	Tags       []openAPITag      `json:"tags"`
	Paths      paths             `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
		Schemes map[string]securityScheme  `json:"securitySchemes"`
	} `json:"components"`
}

type openAPIInfo struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description,omitzero"`
}

type openAPITag struct {
	Name        string `json:"name"`
	Title       string `json:"x-displayName,omitzero"`
	Description string `json:"description,omitzero"`
}

// paths keeps methods in an order.
type paths []pathItem

type pathItem struct {
	url        string
	operations map[string]operation
}

func (p paths) MarshalJSON() ([]byte, error) {
	b := []byte("{")
	for i, item := range p {
		if i > 0 {
			b = append(b, ',')
		}
		url, err := json.Marshal(item.url)
		if err != nil {
			return nil, err
		}
		operations, err := json.Marshal(item.operations)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, url...), ':'), operations...)
	}
	return append(b, '}'), nil
}

func (p *paths) UnmarshalJSON(b []byte) error {
	var all map[string]map[string]operation
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields() // nothing may be lost on the way
	if err := decoder.Decode(&all); err != nil {
		return err
	}
	for _, url := range slices.Sorted(maps.Keys(all)) {
		*p = append(*p, pathItem{url, all[url]})
	}
	return nil
}

type operation struct {
	ID          string                `json:"operationId"`
	Tags        []string              `json:"tags"`
	Summary     string                `json:"summary"`
	Description string                `json:"description,omitzero"`
	Note        string                `json:"x-note,omitzero"`
	Deprecated  bool                  `json:"deprecated,omitzero"`
	Parameters  []parameter           `json:"parameters,omitzero"`
	RequestBody *requestBody          `json:"requestBody,omitzero"`
	Responses   json.RawMessage       `json:"responses"`
	Security    []map[string][]string `json:"security"`
}

type parameter struct {
	Name        string          `json:"name"`
	In          string          `json:"in"`
	Description string          `json:"description,omitzero"`
	Deprecated  bool            `json:"deprecated,omitzero"`
	Required    bool            `json:"required,omitzero"`
	Style       string          `json:"style,omitzero"`
	Explode     bool            `json:"explode,omitzero"`
	Schema      json.RawMessage `json:"schema"`
	Example     json.RawMessage `json:"example,omitzero"`
}

type requestBody struct {
	Description string           `json:"description,omitzero"`
	Required    bool             `json:"required"`
	Content     map[string]media `json:"content"`
}

type media struct {
	Schema  json.RawMessage `json:"schema,omitzero"`
	Example json.RawMessage `json:"example,omitzero"`
}

type securityScheme struct {
	Type        string `json:"type"`
	Scheme      string `json:"scheme"`
	Format      string `json:"bearerFormat,omitzero"`
	Description string `json:"description"`
}

var securitySchemes = map[string]securityScheme{
	"session": {"http", "bearer", "JWT", "The accessJwt of com.atproto.server.createSession or createAccount."},
	"refresh": {"http", "bearer", "JWT", "The refreshJwt of com.atproto.server.createSession or createAccount."},
	"service": {"http", "bearer", "JWT", "A token of com.atproto.server.getServiceAuth, from the server that an account moves away from."},
	"admin":   {"http", "basic", "", "The user admin with the password in PDS_ADMIN_PASSWORD."},
}

// caller is who may call a method: in OpenAPI's terms, and in words.
type caller struct {
	security []map[string][]string
	words    string
}

// callerOf reads what a policy says of itself.
func callerOf(auth string) (caller, error) {
	one := func(scheme string) map[string][]string { return map[string][]string{scheme: {}} }
	switch {
	case auth == "public":
		return caller{[]map[string][]string{}, "Anybody."}, nil
	case strings.HasPrefix(auth, "public; what is in quarantine: session("):
		return caller{[]map[string][]string{{}, one("session"), one("admin")},
			"Anybody. While the account is in quarantine, its owner, signed in, and the operator, with the admin password."}, nil
	case strings.HasPrefix(auth, "anonymous, session("):
		return caller{[]map[string][]string{{}, one("session"), one("admin")},
			"Anybody. While the account is taken down, deactivated or in quarantine, its owner, signed in, and the operator, with the admin password."}, nil
	case strings.HasPrefix(auth, "service token or session("):
		words, err := sessionWords(strings.TrimPrefix(auth, "service token or "))
		return caller{[]map[string][]string{one("session"), one("service")},
			words + " And services with a token that the account has signed for this method."}, err
	case strings.HasPrefix(auth, "moderation service or session("):
		words, err := sessionWords(strings.TrimPrefix(auth, "moderation service or "))
		return caller{[]map[string][]string{one("session"), one("service")},
			words + " And the moderation service that the server is set up for, about any account."}, err
	case strings.HasPrefix(auth, "session("):
		words, err := sessionWords(auth)
		return caller{[]map[string][]string{one("session")}, words}, err
	case auth == "refresh token":
		return caller{[]map[string][]string{one("refresh")}, "Whoever has the refresh token of a session."}, nil
	case auth == "refresh token, expired ones too":
		return caller{[]map[string][]string{one("refresh")}, "Whoever has the refresh token of a session, also one that has expired."}, nil
	case auth == "admin":
		return caller{[]map[string][]string{one("admin")}, "The operator, with the admin password."}, nil
	case auth == "moderation service or admin":
		return caller{[]map[string][]string{one("admin"), one("service")},
			"The operator, with the admin password, and the moderation service that the server is set up for."}, nil
	case auth == "service token":
		return caller{[]map[string][]string{one("service")}, "Whoever has a service token for this method."}, nil
	case auth == "service token or anonymous":
		return caller{[]map[string][]string{{}, one("service")},
			"Anybody. Who moves an account here sends a service token that its former server made for this method."}, nil
	}
	return caller{}, fmt.Errorf("describe the methods: no words are known for the policy %q", auth)
}

// sessionWords says which sessions a policy takes. Those that it names are the scopes
// of access tokens, then what an app needs, then a condition.
func sessionWords(auth string) (string, error) {
	list, rest, _ := strings.Cut(strings.TrimPrefix(auth, "session(["), "]; app: ")
	app, condition, ok := strings.Cut(rest, ")")
	if !ok {
		return "", fmt.Errorf("describe the methods: no words are known for the policy %q", auth)
	}
	words, also := "Whoever is signed in", ""
	scopes := strings.Fields(list)
	has := func(scope string) bool { return slices.Contains(scopes, "com.atproto."+scope) }
	switch {
	case !has("appPassPrivileged") && !has("appPass"):
		words += " with the account's own password (not with an app password)"
	case !has("appPass"):
		words += ", with an app password only if it is a privileged one"
	default:
		words += ", also with an app password"
	}
	for _, scope := range scopes {
		switch scope {
		case "com.atproto.access", "com.atproto.appPass", "com.atproto.appPassPrivileged":
		case "com.atproto.takendown":
			also += "; also while the account is taken down"
		case "com.atproto.signupQueued":
			also += "; also while the sign-up waits in a queue"
		default:
			return "", fmt.Errorf("describe the methods: no words are known for the scope %q", scope)
		}
	}
	condition, free := strings.CutSuffix(condition, ", not in quarantine")
	switch condition {
	case "", ", exists":
	case ", not taken down":
		also += "; not while the account is taken down"
	default:
		return "", fmt.Errorf("describe the methods: no words are known for the condition %q", condition)
	}
	if free {
		also += "; not while the account is in quarantine"
	}
	words += also + "."
	switch app {
	case "none":
	case "any":
		words += " And every app that the account let in by OAuth."
	default:
		words += " And apps that the account let in by OAuth with the scope `" + app + "`, or one that contains it."
	}
	return words, nil
}

// methodList is what the documentation adds to the methods: their order, by use, and
// examples.
type methodList struct {
	// Samples are the texts in examples that stand for something of the reader's own,
	// by what that is.
	Samples map[string]string `json:"samples"`
	Groups  []struct {
		Namespace string `json:"namespace"`
		Title     string `json:"title"`
		About     string `json:"about"`
		Methods   []struct {
			Name   string                     `json:"name"`
			Params map[string]json.RawMessage `json:"params"`
			Body   json.RawMessage            `json:"body"`
			Note   string                     `json:"note"` // what to do to the example first, or what it does
		} `json:"methods"`
	} `json:"groups"`
}

// readMethods reads docs/methods.json, with handles under domain.
func readMethods(domain string) (*methodList, error) {
	text, err := docs.ReadFile("docs/methods.json")
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(bytes.ReplaceAll(text, []byte("{domain}"), []byte(domain))))
	decoder.DisallowUnknownFields()
	var l methodList
	if err := decoder.Decode(&l); err != nil {
		return nil, fmt.Errorf("read docs/methods.json: %w", err)
	}
	return &l, nil
}

// position of methods in the list, by NSID; one that is not there is behind all others.
func (l *methodList) position() func(nsid string) int {
	at, next := map[string]int{}, 0
	for _, g := range l.Groups {
		for _, m := range g.Methods {
			at[g.Namespace+"."+m.Name] = next
			next++
		}
	}
	return func(nsid string) int {
		if i, ok := at[nsid]; ok {
			return i
		}
		return next
	}
}

// illustrate puts the example of op into it.
func (l *methodList) illustrate(op *operation) {
	for _, g := range l.Groups {
		for _, m := range g.Methods {
			if g.Namespace+"."+m.Name != op.ID {
				continue
			}
			for i := range op.Parameters {
				op.Parameters[i].Example = m.Params[op.Parameters[i].Name]
			}
			if op.RequestBody != nil && m.Body != nil {
				for kind, body := range op.RequestBody.Content {
					body.Example = m.Body
					op.RequestBody.Content[kind] = body
				}
			}
			op.Note = m.Note
			return
		}
	}
}

var schemaRef = regexp.MustCompile(`"\$ref":\s*"#/components/schemas/([^"]+)"`)

// describe is the generated document with what this server adds to it: its methods
// only, in the order of known, with its examples, and who may call them.
func describe(generated []byte, routes []xrpc.Route, known *methodList, version string) ([]byte, error) {
	var d openAPI
	decoder := json.NewDecoder(bytes.NewReader(generated))
	decoder.DisallowUnknownFields() // nothing may be lost on the way
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("read the generated OpenAPI document: %w", err)
	}
	generatedPaths := map[string]map[string]operation{}
	for _, p := range d.Paths {
		generatedPaths[p.url] = p.operations
	}
	routes = slices.Clone(routes)
	position := known.position()
	slices.SortStableFunc(routes, func(a, b xrpc.Route) int { return cmp.Compare(position(a.NSID), position(b.NSID)) })
	d.Paths, d.Tags = nil, nil
	for _, r := range routes {
		if r.Kind == xrpc.Subscription {
			continue // OpenAPI has no words for websockets
		}
		operations, ok := generatedPaths["/xrpc/"+r.NSID]
		if !ok {
			return nil, fmt.Errorf("%s is served and not in the generated OpenAPI document: run `make generate`", r.NSID)
		}
		who, err := callerOf(r.Auth)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.NSID, err)
		}
		p := pathItem{"/xrpc/" + r.NSID, map[string]operation{}}
		for verb, op := range operations {
			op.Security = who.security
			op.Description = strings.TrimSpace(op.Description + "\n\n**Who may call:** " + who.words)
			known.illustrate(&op)
			p.operations[verb] = op
			for _, tag := range op.Tags {
				d.tag(tag, known)
			}
		}
		d.Paths = append(d.Paths, p)
	}
	d.Info = openAPIInfo{"Portico", version, "What this server answers below /xrpc/, and to whom."}
	d.Samples = known.Samples
	d.Components.Schemes = securitySchemes

	text, err := json.Marshal(d.Paths)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	schemas := map[string]json.RawMessage{}
	for next := [][]byte{text}; len(next) > 0; next = next[1:] {
		for _, m := range schemaRef.FindAllSubmatch(next[0], -1) {
			name := string(m[1])
			if _, ok := schemas[name]; !ok {
				schemas[name] = d.Components.Schemas[name]
				next = append(next, schemas[name])
			}
		}
	}
	d.Components.Schemas = schemas
	if text, err = json.Marshal(d); err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return text, nil
}

// tag adds the tag of a namespace, unless it is there.
func (d *openAPI) tag(namespace string, known *methodList) {
	if slices.ContainsFunc(d.Tags, func(t openAPITag) bool { return t.Name == namespace }) {
		return
	}
	t := openAPITag{Name: namespace}
	for _, g := range known.Groups {
		if g.Namespace == namespace {
			t.Title, t.Description = g.Title, g.About
		}
	}
	d.Tags = append(d.Tags, t)
}
