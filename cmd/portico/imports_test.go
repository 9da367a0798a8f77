package main

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// house is what the packages of this module may import besides the standard
// library and themselves. Patterns match as in path.Match, with /** for a package
// and everything below it; the first row whose packages match counts.
var house = []struct{ packages, imports string }{
	{"portico/gen/internal/golden/**", "portico/gen/internal/golden/** " + generated},
	{"portico/gen/pull", "portico/gen/** " + lexicons + " " + published},
	{"portico/gen", "portico/gen/** " + lexicons + " github.com/rogpeppe/go-internal/diff"},
	{"portico/gen/command", "portico/gen/** " + lexicons + " github.com/bluesky-social/indigo/atproto/identity"},
	{"portico/gen/source", lexicons + " github.com/clipperhouse/uax29/v2/graphemes"},
	{"portico/gen/**", "portico/gen/** " + lexicons},
	{"portico/cmd/internal/**", ""},
	{"portico/cmd/lexgen", "portico/gen/**"},
	{"portico/api", ""},
	{"portico/api/brotli", "github.com/andybalholm/brotli"},
	{"portico/api/xrpc", "github.com/labstack/echo/v4 " + values + " github.com/clipperhouse/uax29/v2/graphemes portico/api/brotli github.com/andybalholm/brotli github.com/coder/websocket github.com/klauspost/compress/gzip golang.org/x/net/http/httpguts golang.org/x/sync/singleflight"},
	{lexiconPackages, lexiconPackages + " " + generated},
	{"portico/impl/*test portico/impl/*/*test portico/impl/*/*/*test portico/db/*test portico/api/*/*test", "**"},
	{namespaces, "portico/api/** portico/impl/** portico/db github.com/bluesky-social/indigo/atproto/** github.com/golang-jwt/jwt/v5 github.com/hashicorp/golang-lru/v2 golang.org/x/text/language"},
	{"portico/impl/metrics", "github.com/prometheus/client_golang/** github.com/prometheus/common/expfmt"},
	// The doctor asks servers as their clients do.
	{"portico/impl/doctor", "portico/api/portico/operator portico/api/atproto/sync portico/api/xrpc portico/impl/identity/** portico/impl/mail github.com/bluesky-social/indigo/atproto/syntax github.com/minio/minio-go/v7"},
	// What second factors are made with is nobody else's.
	{"portico/impl/account/factor/totp", "github.com/boombuler/barcode/qr github.com/pquerna/otp/hotp"},
	{"portico/impl/account/factor/passkey", "github.com/go-webauthn/webauthn/**"},
	{"portico/impl/**", "portico/impl/** portico/db portico/db/reference golang.org/x/crypto/** golang.org/x/sys/cpu golang.org/x/sys/unix golang.org/x/sync/** golang.org/x/net/** github.com/golang-jwt/jwt/v5 github.com/wneessen/go-mail github.com/wneessen/go-mail/** github.com/bluesky-social/indigo/atproto/** github.com/hashicorp/golang-lru/v2/** github.com/ipfs/** github.com/mr-tron/base58 github.com/gabriel-vasile/mimetype portico/api/brotli github.com/minio/minio-go/v7 github.com/minio/minio-go/v7/** github.com/klauspost/compress/zstd github.com/klauspost/compress/zstd"},
	{"portico/db/**", "portico/db/** github.com/hashicorp/golang-lru/v2/** github.com/uptrace/bun github.com/uptrace/bun/** github.com/jackc/pgx/v5 github.com/jackc/pgx/v5/** modernc.org/sqlite modernc.org/sqlite/** golang.org/x/sys/** github.com/bluesky-social/indigo/atproto/syntax"},
	{"portico/cmd/portico portico/cmd/portico/**", "**"},
}

const (
	values    = "github.com/bluesky-social/indigo/atproto/syntax github.com/bluesky-social/indigo/atproto/atdata"
	generated = "portico/api/xrpc " + values
	// lexiconPackages are the packages that are generated.
	lexiconPackages = "portico/api/atproto/** portico/api/portico/** portico/api/bsky portico/api/chatbsky portico/api/germnetwork"
	lexicons        = "github.com/bluesky-social/indigo/atproto/lexicon github.com/bluesky-social/indigo/atproto/syntax github.com/bluesky-social/indigo/lex/lexlint"
	// published is what lexgen pull fetches and verifies published lexicons with.
	published = "github.com/bluesky-social/indigo/atproto/identity github.com/bluesky-social/indigo/atproto/atcrypto github.com/bluesky-social/indigo/atproto/atdata"
	// namespaces are the packages of impl that serve generated methods, and what
	// those share: who a caller is, and what all answer alike. With them are the pages of
	// browsers, which speak HTTP as they do, know who is signed in, and call what they serve.
	// All others there are the domain.
	namespaces = "portico/impl/atproto/** portico/impl/portico/** portico/impl/bsky portico/impl/proxy portico/impl/account/auth portico/impl/answer " +
		"portico/impl/page portico/impl/page/** portico/impl/owner portico/impl/console portico/impl/authserver portico/impl/authserver/**"
	// network is what a package of the domain that uses the network imports of
	// the standard library and others.
	network = "net net/http net/smtp github.com/wneessen/go-mail github.com/minio/minio-go/v7"
)

// floors are the folders of impl from the ground up. Packages of a folder import those
// of folders on lower floors and of their own, never of another on the same floor.
var floors = [][]string{
	{"audit", "handover", "job", "keyring", "logging", "metrics", "repo"},
	{"blob", "budget"},
	{"identity", "mail", "records", "backup"},
	{"oauth"},
	{"account"},
	{"answer", "doctor", "reference"},
	{"proxy", "page"},
	// The pages call methods as clients do, by what is generated: none is below another.
	{"atproto", "bsky", "portico", "owner", "console", "authserver"},
	{"servertest"},
}

// No import in impl runs upwards, and a folder without a floor is a new wing that
// wants a reason.
func TestFloors(t *testing.T) {
	floor := make(map[string]int)
	for i, folders := range floors {
		for _, folder := range folders {
			floor[folder] = i
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "portico/impl/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	folderOf := func(p string) string {
		p = strings.TrimPrefix(p, "portico/impl/")
		folder, _, _ := strings.Cut(p, "/")
		return folder
	}
	for line := range strings.Lines(string(out)) {
		importer, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		from := folderOf(importer)
		if _, ok := floor[from]; !ok {
			t.Errorf("%s is on no floor", importer)
		}
		for imported := range strings.FieldsSeq(imports) {
			if to := folderOf(imported); strings.HasPrefix(imported, "portico/impl/") && to != from && floor[to] >= floor[from] {
				t.Errorf("%s must not import %s, which is not on a lower floor", importer, imported)
			}
		}
	}
}

// Every package imports what its place in the house allows, and no package is
// without a place.
func TestImports(t *testing.T) {
	const format = `{{if not .Standard}}{{.ImportPath}}{{range .Imports}} {{.}}{{end}}{{end}}`
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-f", format, "portico/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		importer, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		i := slices.IndexFunc(house, func(room struct{ packages, imports string }) bool { return matches(room.packages, importer) })
		if i < 0 {
			t.Errorf("%s has no place in the table of imports", importer)
			continue
		}
		usesNetwork, usesDatabase := false, false
		for imported := range strings.FieldsSeq(imports) {
			usesNetwork = usesNetwork || matches(network, imported)
			usesDatabase = usesDatabase || imported == "portico/db"
			if !standard(imported) && !matches(house[i].imports, imported) {
				t.Errorf("%s must not import %s", importer, imported)
			}
		}
		if usesNetwork && usesDatabase && house[i].imports != "**" && strings.HasPrefix(importer, "portico/impl/") && !matches(namespaces, importer) {
			t.Errorf("%s uses both the network and the database", importer)
		}
	}
}

// Of all that a package is linked with, some things must never be reached, not
// even by detours.
func TestWhatMustNotBeReached(t *testing.T) {
	for _, tt := range []struct{ packages, never string }{
		{"portico/cmd/lexgen", "portico/api/** portico/impl/** portico/db/**"},
		{"portico/api/...", "portico/impl/** portico/db/** github.com/uptrace/bun"},
		{"portico/db/...", "portico/api/** portico/impl/** github.com/labstack/echo/v4"},
		{"portico/cmd/portico", "portico/gen/** testing net/http/httptest portico/cmd/portico/*"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", tt.packages).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", tt.packages, err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			if matches(tt.never, dep) {
				t.Errorf("%s reaches %s", tt.packages, dep)
			}
		}
	}
}

// standard says whether p is of the standard library: its first element has no
// dot and is not this module's name.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".") && first != "portico"
}

func matches(patterns, p string) bool {
	for pattern := range strings.FieldsSeq(patterns) {
		if pattern == "**" {
			return true
		}
		if dir, ok := strings.CutSuffix(pattern, "/**"); ok && (p == dir || strings.HasPrefix(p, dir+"/")) {
			return true
		}
		if ok, err := path.Match(pattern, p); err == nil && ok {
			return true
		}
	}
	return false
}
