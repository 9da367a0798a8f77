package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"portico/api"
	"portico/api/xrpc"
)

//go:embed docs
var docs embed.FS

// describeMethods serves the OpenAPI document of the methods in routes at
// /openapi.json, and at /docs a page that shows it and tries them. Examples give
// handles under domain, which begins with a dot.
func describeMethods(e *echo.Echo, routes []xrpc.Route, version, domain string) error {
	known, err := readMethods(domain)
	if err != nil {
		return err
	}
	document, err := describe(api.OpenAPI, routes, known, version)
	if err != nil {
		return err
	}
	page, policy, err := drawPage("methods.html", nil)
	if err != nil {
		return err
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/openapi.json", file("application/json", "default-src 'none'", document), vary)
		e.Add(method, "/docs", file("text/html; charset=utf-8", policy, page), vary)
	}
	return nil
}

// drawPage fills in a page of docs. Its style and its script stand inside it, and the
// policy lets these run by their checksums, and nothing else: what somebody managed to
// put into the page would not. Scripts reach this server alone.
func drawPage(name string, data any) (page []byte, policy string, err error) {
	policy = "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
		"require-trusted-types-for 'script'"
	read := func(file, directive string) (string, error) {
		content, err := docs.ReadFile("docs/" + file)
		sum := sha256.Sum256(content)
		policy += "; " + directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		return string(content), err
	}
	t, err := template.New(name).Funcs(template.FuncMap{
		"style": func(file string) (template.CSS, error) {
			text, err := read(file, "style-src")
			return template.CSS(text), err
		},
		"script": func(file string) (template.JS, error) {
			text, err := read(file, "script-src")
			return template.JS(text), err
		},
	}).ParseFS(docs, "docs/"+name)
	if err != nil {
		return nil, "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, "", fmt.Errorf("draw %s: %w", name, err)
	}
	return b.Bytes(), policy, nil
}

// file serves content that only another start of the server changes, compressed for
// those who take it so.
func file(kind, policy string, content []byte) echo.HandlerFunc {
	sum := sha256.Sum256(content)
	tag := base64.RawURLEncoding.EncodeToString(sum[:12])
	compressed := sync.OnceValue(func() []byte {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one that there is
		w.Write(content)                                      // to memory, which takes it
		w.Close()
		return b.Bytes()
	})
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", "no-cache") // which is to ask whether it is still the same
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		body := content
		h.Set("ETag", `"`+tag+`"`)
		if takesGzip(c.Request().Header.Values("Accept-Encoding")) {
			body = compressed()
			h.Set("ETag", `"`+tag+`-gzip"`)
			h.Set("Content-Encoding", "gzip")
		}
		http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(body))
		return nil
	}
}

// takesGzip says whether these Accept-Encoding headers do. Ours because echo's Gzip
// compresses anew for each request, and under the ETag of what is not compressed.
func takesGzip(headers []string) bool {
	any := false
	for item := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		coding, parameters, _ := strings.Cut(item, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && coding != "*" {
			continue
		}
		takes := true
		for parameter := range strings.SplitSeq(parameters, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if strings.EqualFold(name, "q") {
				quality, err := strconv.ParseFloat(value, 64)
				takes = err == nil && quality > 0
			}
		}
		if coding == "gzip" {
			return takes
		}
		any = takes
	}
	return any
}
