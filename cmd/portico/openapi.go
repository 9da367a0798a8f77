package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"portico/api"
	"portico/api/xrpc"
)

// describeMethods serves the OpenAPI document of the methods in routes at
// /openapi.json, and at /docs a page that shows it and tries them.
func describeMethods(e *echo.Echo, routes []xrpc.Route, version string) error {
	document, err := describe(api.OpenAPI, routes, version)
	if err != nil {
		return err
	}
	page, err := viewer.ReadFile("docs/index.html")
	if err != nil {
		return err
	}
	script, err := viewer.ReadFile("docs/openapi-explorer.min.js")
	if err != nil {
		return err
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/openapi.json", file("application/json", document), vary)
		e.Add(method, "/docs", file("text/html; charset=utf-8", page), vary)
		e.Add(method, "/docs/openapi-explorer.min.js", file("text/javascript; charset=utf-8", script), vary)
	}
	return nil
}

//go:embed docs
var viewer embed.FS

// docsPolicy keeps the viewer to this server. It writes its own styles, which is all
// that is let through of what could be injected.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file serves content that only another release changes.
func file(kind string, content []byte) echo.HandlerFunc {
	sum := sha256.Sum256(content)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Type", kind)
		h.Set("ETag", etag)
		h.Set("Cache-Control", "no-cache") // which is to ask whether it is still the same
		h.Set("Content-Security-Policy", docsPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(content))
		return nil
	}
}

// openAPI is the part of an OpenAPI document that the server changes; the rest stays
// as the generator wrote it.
type openAPI struct {
	Generated  json.RawMessage                 `json:"x-generated,omitzero"`
	OpenAPI    json.RawMessage                 `json:"openapi"`
	Info       openAPIInfo                     `json:"info"`
	Servers    json.RawMessage                 `json:"servers"`
	Tags       []openAPITag                    `json:"tags"`
	Paths      map[string]map[string]operation `json:"paths"`
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
	Name string `json:"name"`
}

type operation struct {
	ID          string                `json:"operationId"`
	Tags        []string              `json:"tags"`
	Summary     string                `json:"summary"`
	Description string                `json:"description,omitzero"`
	Deprecated  bool                  `json:"deprecated,omitzero"`
	Parameters  json.RawMessage       `json:"parameters,omitzero"`
	RequestBody json.RawMessage       `json:"requestBody,omitzero"`
	Responses   json.RawMessage       `json:"responses"`
	Security    []map[string][]string `json:"security"`
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

// security says in OpenAPI's terms what a policy asks of callers.
func security(auth string) ([]map[string][]string, error) {
	one := func(scheme string) map[string][]string { return map[string][]string{scheme: {}} }
	switch {
	case auth == "public":
		return []map[string][]string{}, nil
	case strings.HasPrefix(auth, "session("):
		return []map[string][]string{one("session")}, nil
	case auth == "refresh token", auth == "refresh token, expired ones too":
		return []map[string][]string{one("refresh")}, nil
	case auth == "admin":
		return []map[string][]string{one("admin")}, nil
	case auth == "moderation service or admin":
		return []map[string][]string{one("service"), one("admin")}, nil
	case auth == "service token":
		return []map[string][]string{one("service")}, nil
	case auth == "service token or anonymous":
		return []map[string][]string{{}, one("service")}, nil
	}
	return nil, fmt.Errorf("describe the methods: no security scheme is known for the policy %q", auth)
}

var schemaRef = regexp.MustCompile(`"\$ref":\s*"#/components/schemas/([^"]+)"`)

// describe is the generated document with what this server adds to it: its methods
// only, and who may call them.
func describe(generated []byte, routes []xrpc.Route, version string) ([]byte, error) {
	var d openAPI
	decoder := json.NewDecoder(bytes.NewReader(generated))
	decoder.DisallowUnknownFields() // nothing may be lost on the way
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("read the generated OpenAPI document: %w", err)
	}
	paths := map[string]map[string]operation{}
	served := map[string]bool{}
	for _, r := range routes {
		path := "/xrpc/" + r.NSID
		operations, ok := d.Paths[path]
		if !ok {
			return nil, fmt.Errorf("%s is served and not in the generated OpenAPI document: run `make generate`", r.NSID)
		}
		paths[path] = map[string]operation{}
		for verb, op := range operations {
			var err error
			if op.Security, err = security(r.Auth); err != nil {
				return nil, fmt.Errorf("%s: %w", r.NSID, err)
			}
			op.Description = strings.TrimSpace(op.Description + "\n\nWho may call: `" + r.Auth + "`.")
			paths[path][verb] = op
			for _, tag := range op.Tags {
				served[tag] = true
			}
		}
	}
	d.Info = openAPIInfo{"Portico", version, "What this server answers below /xrpc/, and to whom. " +
		"A token that is put in here stays in this page."}
	d.Paths = paths
	d.Tags = slices.DeleteFunc(d.Tags, func(t openAPITag) bool { return !served[t.Name] })
	d.Components.Schemes = securitySchemes

	text, err := json.Marshal(paths)
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
