package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// npm is a registry with one version of one package.
type npm struct {
	literals  string            // what the package says after "schemaDict ="
	files     map[string]string // others of the package, by their path in it
	claims    int64             // bytes that the header of the literals claims, if not as many as there are
	integrity string            // of the archive, if not the one that it has
	answer    func(w http.ResponseWriter, r *http.Request) bool
}

func (n *npm) archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	add := func(name, text string, size int64) {
		if err := w.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o644, Size: size}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.files)) {
		add(name, n.files[name], int64(len(n.files[name])))
	}
	code := "/**\n * GENERATED CODE\n */\nimport { Lexicons } from '@atproto/lexicon';\nexport const schemaDict =" + n.literals +
		"\nexport const schemas = Object.values(schemaDict);\n"
	if n.claims != 0 {
		add("dist/client/lexicons.js", code, n.claims)
	} else {
		add("dist/client/lexicons.js", code, int64(len(code)))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// serve returns the address of the registry.
func (n *npm) serve(t *testing.T) string {
	t.Helper()
	archive := n.archive(t)
	sum := sha512.Sum512(archive)
	integrity := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	if n.integrity != "" {
		integrity = n.integrity
	}
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.answer != nil && n.answer(w, r) {
			return
		}
		switch r.URL.EscapedPath() {
		case "/@atproto%2Fapi/1.2.3":
			fmt.Fprintf(w, `{"name":"@atproto/api","version":"1.2.3","dist":{"integrity":%q,"tarball":%q}}`, integrity, server.URL+"/@atproto/api/-/api-1.2.3.tgz")
		case "/@atproto/api/-/api-1.2.3.tgz":
			w.Write(archive)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, "%q", "version not found: "+strings.TrimPrefix(r.URL.Path, "/@atproto/api/"))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// published is the literal of a package with what the project has of upstream, which has
// every ref in its long form, and what edit makes of its documents.
func published(t *testing.T, edit func(docs map[string]map[string]any)) string {
	t.Helper()
	docs := map[string]map[string]any{}
	err := fs.WalkDir(os.DirFS("../../lexicons"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".json" || strings.HasPrefix(name, "alt/") {
			return err
		}
		text, err := os.ReadFile(filepath.Join("../../lexicons", name))
		if err != nil {
			return err
		}
		var doc map[string]any
		if err := json.Unmarshal(text, &doc); err != nil {
			return err
		}
		id := doc["id"].(string)
		lengthen(doc, id)
		docs[id] = doc
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(docs)
	}
	b := strings.Builder{}
	b.WriteString(" {\n")
	for i, id := range slices.Sorted(maps.Keys(docs)) {
		fmt.Fprintf(&b, "    Doc%d: ", i)
		javaScript(&b, docs[id], "    ")
		b.WriteString(",\n")
	}
	b.WriteString("};")
	return b.String()
}

func lengthen(v any, id string) {
	long := func(ref any) any {
		if text := ref.(string); strings.HasPrefix(text, "#") {
			return "lex:" + id + text
		}
		return "lex:" + ref.(string)
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			lengthen(item, id)
		}
	case map[string]any:
		switch v["type"] {
		case "ref":
			v["ref"] = long(v["ref"])
		case "union":
			refs := v["refs"].([]any)
			for i := range refs {
				refs[i] = long(refs[i])
			}
		}
		for _, member := range v {
			lengthen(member, id)
		}
	}
}

var identifier = regexp.MustCompile(`^[A-Za-z_$][\w$]*$`)

// javaScript writes v as a printer of JavaScript would.
func javaScript(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		b.WriteString("{ // a comment\n")
		for _, key := range slices.Sorted(maps.Keys(v)) {
			name := key
			if !identifier.MatchString(key) {
				name = "'" + key + "'"
			}
			b.WriteString(indent + "    " + name + ": ")
			javaScript(b, v[key], indent+"    ")
			b.WriteString(",\n")
		}
		b.WriteString(indent + "}")
	case []any:
		b.WriteString("[")
		for i, item := range v {
			if i > 0 {
				b.WriteString(", /* next */ ")
			}
			javaScript(b, item, indent+"    ")
		}
		b.WriteString("]")
	case string:
		escape := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "’", `\u2019`, "é", `\xe9`)
		b.WriteString("'" + escape.Replace(v) + "'")
	default:
		text, _ := json.Marshal(v)
		b.Write(text)
	}
}

// checkout is a module with the lexicons of the project.
func checkout(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "lexicons"), os.DirFS("../../lexicons")); err != nil {
		t.Fatal(err)
	}
	put(t, root, "go.mod", "module portico\n")
	put(t, root, "impl/proxy/streams.txt", "chat.bsky.moderation.subscribeModEvents\ncom.atproto.label.subscribeLabels\ncom.atproto.sync.subscribeRepos\n")
	return root
}

// contents is the content of all files below root.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, root+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// chat is a subscription that the server does not have.
func chat(docs map[string]map[string]any) {
	docs["chat.bsky.moderation.subscribeModEvents"] = map[string]any{
		"lexicon": 1, "id": "chat.bsky.moderation.subscribeModEvents", "defs": map[string]any{"main": map[string]any{"type": "subscription"}},
	}
}

// A package that says what is here already changes nothing but its version.
func TestUpstreamSaysTheSame(t *testing.T) {
	root := checkout(t)
	want := contents(t, root)
	want["lexicons/UPSTREAM"] = "npm @atproto/api 1.2.3\n"
	n := npm{literals: published(t, chat), files: map[string]string{"package.json": "{}", "dist/../../../x": "y"}}
	for range 2 {
		status, stdout, stderr := lexgen(t, "-C", root, "upstream", "-registry", n.serve(t), "1.2.3")
		if status != 0 || stdout != "lexicons: 0 new, 0 changed, 0 removed, 138 unchanged, of @atproto/api 1.2.3\n" || stderr != "" {
			t.Fatalf("%d\n%s%s", status, stdout, stderr)
		}
		if diff := cmp.Diff(want, contents(t, root)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// What changed is written, in the order and the form that upstream's files have, and what
// nothing refers to any more goes.
func TestUpstreamChanged(t *testing.T) {
	root := checkout(t)
	put(t, root, "lexicons/UPSTREAM", "npm @atproto/api 0.21.0\ncom.example.shop.buy at://did:plc:abc/com.atproto.lexicon.schema/com.example.shop.buy bafy\n")
	put(t, root, "lexicons/app/bsky/feed/former.json", `{"lexicon":1,"id":"app.bsky.feed.former","defs":{}}`)
	put(t, root, "lexicons/com/example/shop/buy.json", `{"lexicon":1,"id":"com.example.shop.buy","defs":{"main":{"type":"query"}}}`)
	want := contents(t, root)
	const extra = `
    Ping: {
        lexicon: 1,
        id: "com.atproto.server.ping",
        defs: {
            main: {
                type: 'query',
                description: 'Ask, \u2019s\x20not', // a string
                output: { encoding: 'application/json', schema: { type: 'ref', ref: 'lex:com.atproto.server.ping#pong' } },
                errors: [{ name: 'Deaf' }, ],
            },
            /* and */ 'pong': { type: 'object', properties: { n: { type: 'integer', minimum: -1, maximum: 1000 }, 'a-b': { type: "boolean", default: true } } },
        },
    },
};`
	n := npm{literals: strings.Replace(published(t, func(docs map[string]map[string]any) {
		docs["com.atproto.server.describeServer"]["description"] = "Describes <the> server's 🙂."
		delete(docs, "com.atproto.server.reserveSigningKey")
		docs["tools.ozone.watch"] = map[string]any{"lexicon": 1, "id": "tools.ozone.watch", "defs": map[string]any{"main": map[string]any{"type": "subscription"}}}
	}), "\n};", extra, 1)}
	status, stdout, stderr := lexgen(t, "-C", root, "upstream", "-registry", n.serve(t)+"/", "1.2.3")
	if status != 0 || stdout != "lexicons: 1 new, 1 changed, 2 removed, 136 unchanged, of @atproto/api 1.2.3\n" || stderr != "" {
		t.Fatalf("%d\n%s%s", status, stdout, stderr)
	}
	got := contents(t, root)
	want["lexicons/UPSTREAM"] = "npm @atproto/api 1.2.3\ncom.example.shop.buy at://did:plc:abc/com.atproto.lexicon.schema/com.example.shop.buy bafy\n"
	want["impl/proxy/streams.txt"] = "com.atproto.label.subscribeLabels\ncom.atproto.sync.subscribeRepos\ntools.ozone.watch\n"
	delete(want, "lexicons/com/atproto/server/reserveSigningKey.json")
	delete(want, "lexicons/app/bsky/feed/former.json")
	want["lexicons/com/atproto/server/ping.json"] = `{
  "lexicon": 1,
  "id": "com.atproto.server.ping",
  "defs": {
    "main": {
      "type": "query",
      "description": "Ask, ’s not",
      "output": {
        "encoding": "application/json",
        "schema": { "type": "ref", "ref": "#pong" }
      },
      "errors": [
        { "name": "Deaf" }
      ]
    },
    "pong": {
      "type": "object",
      "properties": {
        "n": { "type": "integer", "minimum": -1, "maximum": 1000 },
        "a-b": { "type": "boolean", "default": true }
      }
    }
  }
}
`
	const changed = "lexicons/com/atproto/server/describeServer.json"
	if !strings.Contains(got[changed], `"description": "Describes <the> server's 🙂."`) {
		t.Errorf("%s is\n%s", changed, got[changed])
	}
	want[changed] = got[changed]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever is wrong is said in a line, and nothing is written.
func TestUpstreamRefuses(t *testing.T) {
	ping := func(kind string) func(map[string]map[string]any) {
		return func(docs map[string]map[string]any) {
			docs["com.atproto.server.ping"] = map[string]any{
				"lexicon": 1, "id": "com.atproto.server.ping", "defs": map[string]any{"main": map[string]any{"type": kind}},
			}
		}
	}
	good := published(t, ping("query"))
	with := func(old, new string) npm {
		if !strings.Contains(good, old) {
			t.Fatalf("the literal has no %s", old)
		}
		return npm{literals: strings.Replace(good, old, new, 1)}
	}
	code := func(text string) npm { return npm{literals: " {\n    A: " + text + "\n};"} }
	many := strings.Repeat("[", 200)
	root := checkout(t)
	before := contents(t, root)
	for name, tt := range map[string]struct {
		npm     npm
		version string
		want    string // what is said, with URL for that of the registry
	}{
		"no such version":     {npm{}, "9.9.9", "the registry has no @atproto/api 9.9.9: URL/@atproto%2Fapi/9.9.9 answers 404 Not Found: version not found: 9.9.9"},
		"no version":          {npm{}, "../x", `"../x" is no version of a package`},
		"another checksum":    {npm{literals: good, integrity: "sha512-AAAA"}, "", "fetch @atproto/api 1.2.3: URL/@atproto/api/-/api-1.2.3.tgz: it has not the SHA-512 that the registry names"},
		"a weak checksum":     {npm{literals: good, integrity: "sha1-Jge++jy8ny0INM6nj1vnFtw18BU="}, "", "fetch @atproto/api 1.2.3: URL/@atproto/api/-/api-1.2.3.tgz: the registry names no SHA-512 of it"},
		"out of order":        {npm{answer: says(503, `{"error":"come\nback"}`)}, "", "fetch @atproto/api 1.2.3: URL/@atproto%2Fapi/1.2.3 answers 503 Service Unavailable: come back"},
		"no answer of npm":    {npm{answer: says(200, "<html>")}, "", "fetch @atproto/api 1.2.3: the registry's answer: invalid character '<' looking for beginning of value"},
		"an empty answer":     {npm{answer: says(200, "{}")}, "", "fetch @atproto/api 1.2.3: the registry's answer names no version"},
		"an endless answer":   {npm{answer: says(200, strings.Repeat(" ", 5<<20))}, "", "fetch @atproto/api 1.2.3: URL/@atproto%2Fapi/1.2.3 has more than 4194304 bytes"},
		"a file of 1 GB":      {npm{literals: good, claims: 1 << 30}, "", "read @atproto/api 1.2.3: dist/client/lexicons.js is no file, is there twice, or has more than 33554432 bytes"},
		"cut off":             {npm{literals: good, claims: 2 << 20}, "", "read @atproto/api 1.2.3: unpack: unexpected EOF"},
		"few documents":       {npm{literals: " {};"}, "", "@atproto/api 1.2.3 has no com.atproto.*"},
		"a document less":     {with("id: 'app.bsky.feed.like'", "id: 'app.bsky.feed.dislike'"), "", "@atproto/api 1.2.3 has no app.bsky.feed.like"},
		"a ref to nothing":    {with("'lex:com.atproto.server.defs#", "'lex:com.atproto.server.undefs#"), "", "@atproto/api 1.2.3 has no com.atproto.server.undefs, which com.atproto.admin.defs refers to"},
		"out of the folder":   {with("id: 'com.atproto.server.ping'", "id: '../../x'"), "", `read @atproto/api 1.2.3: dist/client/lexicons.js: Doc104: the id "../../x" is no NSID`},
		"an id twice":         {with("id: 'com.atproto.server.ping'", "id: 'com.atproto.server.getSession'"), "", "read @atproto/api 1.2.3: dist/client/lexicons.js: Doc104: com.atproto.server.getSession comes twice"},
		"a document is wrong": {npm{literals: published(t, ping("qery"))}, "", `com/atproto/server/ping.json:3:23: /defs/main/type: unknown type "qery" (did you mean "query"?)`},
		"code":                {code("require('child_process').execSync('touch x')"), "", "6:8: require is no literal"},
		"an operator":         {code("{ lexicon: 1 + 1 }"), "", "6:21: want ',' after a member, got '+'"},
		"a call in a key":     {code("{ [alert()]: 1 }"), "", "6:10: '[' is no key"},
		"a method":            {code("{ id() {} }"), "", "6:12: want ':' after a key, got '('"},
		"a getter":            {code("{ get id() {} }"), "", "6:14: want ':' after a key, got 'i'"},
		"a spread":            {code("{ ...globalThis }"), "", "6:10: '.' is no key"},
		"a short property":    {code("{ process }"), "", "6:18: want ':' after a key, got '}'"},
		"a template":          {code("`${process.exit(7)}`"), "", "6:8: '`' is no literal"},
		"an expression":       {code("/x/"), "", "6:8: '/' is no literal"},
		"undefined":           {code("undefined"), "", "6:8: undefined is no literal"},
		"a hole":              {code("[1,,2]"), "", "6:11: ',' is no literal"},
		"hexadecimal":         {code("0x10"), "", "6:8: 0x10 is no number of JSON"},
		"octal":               {code("010"), "", "6:8: 010 is no number of JSON"},
		"the prototype":       {code("{ __proto__: { a: 1 } }"), "", "6:10: __proto__ is no key of JSON"},
		"its quoted name":     {code(`{ '\x5f_proto__': 1 }`), "", "6:10: __proto__ is no key of JSON"},
		"a key twice":         {code("{ a: 1, 'a': 2 }"), "", `6:16: the key "a" comes twice`},
		"a string in lines":   {code("'a\nb'"), "", "6:8: the string has no end"},
		"a joined line":       {code("'a\\\nb'"), "", "6:10: an escape that is not of JSON"},
		"an odd escape":       {code(`'\q'`), "", "6:9: an escape that is not of JSON"},
		"half a pair":         {code(`'\ud83d'`), "", "6:9: half a character"},
		"no UTF-8":            {code("'\xff'"), "", "6:9: the string is not UTF-8"},
		"an open comment":     {code("/* 1"), "", "6:8: the comment has no end"},
		"deep":                {code(many), "", "6:108: nested more than 100 levels deep"},
		"an open object":      {npm{literals: " { A: 1,"}, "", "6:8: want ':' after a key, got 'c'"},
		"more than a literal": {npm{literals: " { }.constructor.constructor('x')();"}, "", "5:30: want ';' after the literal, got '.'"},
	} {
		t.Run(name, func(t *testing.T) {
			url := tt.npm.serve(t)
			if tt.version == "" {
				tt.version = "1.2.3"
			}
			status, stdout, stderr := lexgen(t, "-C", root, "upstream", "-registry", url, tt.version)
			got := strings.ReplaceAll(stderr, url, "URL")
			if status != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(got, tt.want) {
				t.Errorf("%d %s\n%swant\n%s", status, stdout, got, tt.want)
			}
			if diff := cmp.Diff(before, contents(t, root)); diff != "" {
				t.Errorf("something was written:\n%s", diff)
			}
		})
	}
}

// says answers whatever is asked.
func says(status int, text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		fmt.Fprint(w, text)
		return true
	}
}

// Without a network the address that was asked is said.
func TestUpstreamIsNotThere(t *testing.T) {
	root := checkout(t)
	status, stdout, stderr := lexgen(t, "-C", root, "upstream", "-registry", "http://127.0.0.1:1", "0.21.0")
	const want = "lexgen: fetch @atproto/api 0.21.0: ask http://127.0.0.1:1/@atproto%2Fapi/0.21.0: dial tcp 127.0.0.1:1: connect: connection refused\n"
	if status != 1 || stdout != "" || stderr != want {
		t.Errorf("%d\n%s%s", status, stdout, stderr)
	}
	for _, args := range [][]string{{"upstream"}, {"upstream", "1", "2"}, {"upstream", "-x", "1"}} {
		if status, _, stderr := lexgen(t, args...); status != 2 || !strings.Contains(stderr, "usage: lexgen") {
			t.Errorf("%s: %d %s", args, status, stderr)
		}
	}
}
