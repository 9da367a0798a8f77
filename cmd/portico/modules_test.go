package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// modules are those that this one asks for by itself, and what each is there for. What
// only tests need (and tools) stays out of the binary.
var modules = []struct {
	path, in, why string
}{
	{"github.com/andybalholm/brotli", "server", "bodies of requests that clients sent compressed with it"},
	{"github.com/bluesky-social/indigo", "server", "identifiers, keys, the data model and lexicons of the AT Protocol"},
	{"github.com/emersion/go-sasl", "tests", "how clients sign in to the mail server of tests"},
	{"github.com/emersion/go-smtp", "tests", "the mail server of tests"},
	{"github.com/gabriel-vasile/mimetype", "server", "what the first bytes of a blob show it to be"},
	{"github.com/golang-jwt/jwt/v5", "server", "access, refresh and service tokens"},
	{"github.com/google/go-cmp", "tests", "differences that a person can read"},
	{"github.com/hashicorp/golang-lru/v2", "server", "caches with a bound: parsed keys, DID documents"},
	{"github.com/ipfs/go-block-format", "tests", "what indigo's readers of repositories take blocks as"},
	{"github.com/ipfs/go-cid", "tests", "what indigo's readers of repositories take CIDs as"},
	{"github.com/jackc/pgx/v5", "server", "Postgres"},
	{"github.com/labstack/echo/v4", "server", "routes of the XRPC methods"},
	{"github.com/mattn/go-isatty", "server", "whether a command can ask somebody"},
	{"github.com/mr-tron/base58", "server", "public keys in DID documents"},
	{"github.com/pb33f/libopenapi", "tests", "whether openapi.json is an OpenAPI document"},
	{"github.com/pb33f/libopenapi-validator", "tests", "whether requests and answers are what openapi.json says"},
	{"github.com/redis/go-redis/v9", "server", "request limits that several processes share"},
	{"github.com/rivo/uniseg", "server", "graphemes, in which lexicons measure texts"},
	{"github.com/rogpeppe/go-internal", "tests", "scripts of an operator at the shell"},
	{"github.com/uptrace/bun", "server", "the database"},
	{"github.com/uptrace/bun/dialect/pgdialect", "server", "the database, on Postgres"},
	{"github.com/uptrace/bun/dialect/sqlitedialect", "server", "the database, on SQLite"},
	{"github.com/urfave/cli/v3", "server", "commands and their flags"},
	{"github.com/wneessen/go-mail", "server", "mails, and the mail server that takes them"},
	{"golang.org/x/crypto", "server", "argon2id, scrypt, XChaCha20-Poly1305"},
	{"golang.org/x/net", "server", "host names with other letters than a to z; the name servers of tests"},
	{"golang.org/x/sync", "server", "one look-up for all who ask at the same time"},
	{"modernc.org/sqlite", "server", "SQLite, without C"},

	{"honnef.co/go/tools/cmd/staticcheck", "tool", "make check"},
	{"portico/cmd/lexgen", "tool", "the generator"},
}

// A module comes in with a line in the table, and goes with it.
func TestModulesAreThereForAReason(t *testing.T) {
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal(run("mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, r := range mod.Require {
		if !r.Indirect {
			found = append(found, r.Path)
		}
	}
	for _, tool := range mod.Tool {
		found = append(found, tool.Path)
	}
	for _, m := range modules {
		i := slices.Index(found, m.path)
		if i < 0 {
			t.Errorf("%s is not in go.mod, or only because others need it", m.path)
			continue
		}
		found = slices.Delete(found, i, i+1)
		if m.why == "" {
			t.Errorf("%s: what is it for?", m.path)
		}
	}
	for _, path := range found {
		t.Errorf("%s is in go.mod: what is it for?", path)
	}
	// No package of ours that is in the server imports a module that is for tests. Blob
	// stores are as good as in it: only what is served from them is not written yet.
	ours := string(run("list", "-deps", "-f", `{{if not .Standard}}{{with .Module}}{{if .Main}}{{range $.Imports}}{{.}} {{end}}{{end}}{{end}}{{end}}`, "portico/cmd/portico", "portico/impl/blob"))
	for _, m := range modules {
		used := false
		for p := range strings.FieldsSeq(ours) {
			used = used || p == m.path || strings.HasPrefix(p, m.path+"/")
		}
		if used != (m.in == "server") {
			t.Errorf("%s is for %s; the server imports it: %v", m.path, m.in, used)
		}
	}
}
