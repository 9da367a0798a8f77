package xrpc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"
)

// everything has a field of each type that the generator uses.
type everything struct {
	Text     string               `json:"text"`
	DID      *syntax.DID          `json:"did,omitzero"`
	Handle   *syntax.Handle       `json:"handle,omitzero"`
	At       *syntax.AtIdentifier `json:"at,omitzero"`
	NSID     *syntax.NSID         `json:"nsid,omitzero"`
	ATURI    *syntax.ATURI        `json:"atUri,omitzero"`
	URI      *syntax.URI          `json:"uri,omitzero"`
	CID      *syntax.CID          `json:"cid,omitzero"`
	When     *syntax.Datetime     `json:"when,omitzero"`
	TID      *syntax.TID          `json:"tid,omitzero"`
	Key      *syntax.RecordKey    `json:"key,omitzero"`
	Language *syntax.Language     `json:"language,omitzero"`
	Number   *int64               `json:"number,omitzero"`
	Flag     *bool                `json:"flag,omitzero"`
	Bytes    atdata.Bytes         `json:"bytes,omitzero"`
	Link     *atdata.CIDLink      `json:"link,omitzero"`
	Blob     *atdata.Blob         `json:"blob,omitzero"`
	Unknown  json.RawMessage      `json:"unknown,omitzero"`
	Any      json.RawMessage      `json:"any,omitzero"`
	Maybe    Nullable[int64]      `json:"maybe,omitzero"`
	List     []everything         `json:"list,omitzero"`
	Union    unionOf              `json:"union,omitzero"`
	Texts    []string             `json:"texts,omitzero"`
}

// unionOf is written as generated unions are.
type unionOf struct{ value any }

func (u unionOf) Value() any { return u.value }

func (u unionOf) Type() string {
	switch v := u.value.(type) {
	case *everything:
		return "com.example.toy.defs#everything"
	case *UnknownVariant:
		return v.Type
	}
	return ""
}

func (u *unionOf) Hold(typ string, data []byte) any {
	if typ != "com.example.toy.defs#everything" {
		u.value = NewUnknownVariant(typ, data)
		return nil
	}
	u.value = new(everything)
	return u.value
}

func (u unionOf) MarshalJSON() ([]byte, error)     { return MarshalUnion(&u) }
func (u *unionOf) UnmarshalJSON(data []byte) error { return UnmarshalUnion(u, data) }

func (*everything) Schema() *Schema { return everythingTable }

var everythingTable = new(Schema)

func init() {
	everythingTable.Set(Object(
		Required("text", String(MaxLength(100), MaxGraphemes(50))),
		Optional("did", String(FormatDID)),
		Optional("handle", String(FormatHandle)),
		Optional("at", String(FormatAtIdentifier)),
		Optional("nsid", String(FormatNSID)),
		Optional("atUri", String(FormatATURI)),
		Optional("uri", String(FormatURI)),
		Optional("cid", String(FormatCID)),
		Optional("when", String(FormatDatetime)),
		Optional("tid", String(FormatTID)),
		Optional("key", String(FormatRecordKey)),
		Optional("language", String(FormatLanguage)),
		Optional("number", Integer(DefaultInteger(1))),
		Optional("flag", Boolean()),
		Optional("bytes", Bytes()),
		Optional("link", CIDLink()),
		Optional("blob", Blob()),
		Optional("unknown", Unknown()),
		Optional("any", Any()),
		OrNull(Optional("maybe", Integer())),
		Optional("list", Array(everythingTable)),
		Optional("union", OpenUnion(Variant("com.example.toy.defs#everything", everythingTable))),
		Optional("texts", Array(String(Enum("a", "b")))),
	))
}

var jsonSeeds = []string{
	`{"text":"x","did":"did:plc:a","handle":"a.test","at":"a.test","nsid":"a.b.c","atUri":"at://a.test/a.b.c/d","uri":"https://x","cid":"bafyreib2","when":"2030-01-01T00:00:00.5Z","tid":"3jzfcijpj2z2a","key":"self","language":"en-US","number":1.0,"flag":true}`,
	`{"text":"x","bytes":{"$bytes":"YQ=="},"link":{"$link":"` + someCID + `"},"blob":{"$type":"blob","ref":{"$link":"` + someCID + `"},"mimeType":"a/b","size":1e2,"SIZE":"x"}}`,
	`{"text":"x","blob":{"cid":"` + someCID + `","mimeType":"a/b","$TYPE":5}}`,
	`{"text":"x","TEXT":5,"text":"y","unknown":{"a":[1,2]},"any":null,"maybe":null,"list":[{"text":"z","Number":"x"}],"union":{"$type":"com.example.toy.defs#everything","text":"é","FLAG":1},"texts":["a"]}`,
	`{"text":"x","union":{"$type":"other","$TYPE":5}}`,
	`{"te\u0078t":"\ud83d\ude00","when":"0000-01-01T00:00:00Z","number":-0,"maybe":9007199254740991}`,
	`{"__proto__":1}`, `[1,{"2":3}]`, `"\ud800"`, `1e400`, `{"$link":"x"}`, `{"text":5,"text":{"b":1,"1":2}}`,
}

// FuzzCheck holds the interpreter and the structs together: what Check lets pass
// can be decoded, and what is JSON for encoding/json is for us.
func FuzzCheck(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		kept := string(data)
		err := everythingTable.Check(data)
		var v everything
		decodeErr := Unmarshal(everythingTable, data, &v)
		if (err == nil) != (decodeErr == nil) {
			t.Fatalf("Check: %v; Unmarshal: %v", err, decodeErr)
		}
		if string(data) != kept {
			t.Fatal("data was changed")
		}
		if err == nil {
			marshalled(t, &v)
		}
		anyErr := Any().Check(data)
		if _, isSyntax := anyErr.(*SyntaxError); isSyntax == json.Valid(data) && !strings.Contains(anyErr.Error(), "too deep") {
			t.Fatalf("valid for encoding/json: %v; for us: %v", json.Valid(data), anyErr)
		}
		if x, ok := anyErr.(*SyntaxError); ok && (x.Offset < 0 || x.Offset > len(data)) {
			t.Fatalf("offset %d of %d", x.Offset, len(data))
		}
		if err != nil && !utf8.ValidString(err.Error()) {
			t.Fatalf("issue is not UTF-8: %q", err)
		}
		// Every schema meets every value.
		for _, s := range []*Schema{String(), Integer(), Boolean(), Null(), Bytes(), CIDLink(), Blob(MaxSize(5), Accept("a/*")), Unknown(), Array(Any(), MinLength(1)), closedTable, recordTable, Integer(EnumInteger(1))} {
			_ = s.Check(data)
		}
	})
}

// marshalled compares what Marshal makes of v with what encoding/json makes of it, and reads
// it again.
func marshalled(t *testing.T, v *everything) {
	got, err := Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != want.String() {
		t.Fatalf("got  %s\njson %s", got, &want)
	}
	var again everything
	if err := Unmarshal(everythingTable, got, &again); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if twice, err := Marshal(&again); err != nil || string(twice) != string(got) {
		t.Fatalf("got %s\nthen %s, %v", got, twice, err)
	}
}

// FuzzPreview: previews are short, and valid UTF-8.
func FuzzPreview(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 || validate(data) != nil {
			return
		}
		c := checker{data: data}
		at := c.space(0)
		if preview := c.preview(at); preview == "" || !utf8.ValidString(preview) {
			t.Fatalf("%q", preview)
		}
		if data[at] == '"' {
			var s string
			if err := json.Unmarshal(data, &s); err != nil || s != c.text(at) {
				t.Fatalf("encoding/json reads %q, we read %q: %v", s, c.text(at), err)
			}
		}
	})
}

// FuzzPlain: what is taken at a glance is taken by those who look closer.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		"did:plc:abcdefghijklmnopqrstuvwx", "did:web:pds.example.com", "did:a:b.", "alice.example.com", "A-b.c", "com.example.fooBar", "a.b.c9",
		"at://did:plc:a/a.b.c/self", "at://a.test", "3jzfcijpj2z2a", someCID, rawCID, "self", "..", "2030-01-01T00:00:00.000Z", "2030-02-28T23:59:59Z",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, did := syntax.ParseDID(s)
		_, handle := syntax.ParseHandle(s)
		_, at := syntax.ParseAtIdentifier(s)
		_, nsid := syntax.ParseNSID(s)
		_, uri := syntax.ParseATURI(s)
		_, tid := syntax.ParseTID(s)
		_, key := syntax.ParseRecordKey(s)
		_, when := syntax.ParseDatetime(s)
		_, text := syntax.ParseCID(s)
		var link atdata.CIDLink
		cid := cmp.Or(text, link.UnmarshalJSON([]byte(`{"$link":"`+s+`"}`)))
		for _, tt := range []struct {
			format string
			plain  bool
			err    error
		}{
			{"DID", plainDID(s), did}, {"handle", plainHandle(s), handle}, {"at-identifier", plainAtIdentifier(s), at}, {"NSID", plainNSID(s), nsid},
			{"at-uri", plainATURI(s), uri}, {"TID", plainTID(s), tid}, {"record key", plainRecordKey(s), key}, {"datetime", plainDatetime(s), when},
			{"CID", plainCID(s), cid},
		} {
			if tt.plain && tt.err != nil {
				t.Errorf("%q is taken for a %s: %v", s, tt.format, tt.err)
			}
		}
		if plainCID(s) && link.String() != s {
			t.Errorf("%q is the CID %s", s, link)
		}
	})
}

// FuzzParams compares the parser with net/url where that one is strict, and the
// quick check with the interpreter.
func FuzzParams(f *testing.F) {
	for _, s := range []string{"repo=a.test&limit=5", "repo=%21&repo=b", "limit=-0&reverse=true", "cids=" + someCID + "&cids=x&numbers=9007199254740993", "repo=a+b%zz;%ff", "&&=&a=%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		v := new(Values)
		issue := parseParams(listTable, query, false, v)
		if issue != nil {
			if issue.Text == "" || !utf8.ValidString(issue.Text) {
				t.Fatalf("%q", issue.Text)
			}
			return
		}
		p := new(ListParams)
		p.DecodeParams(v)
		if _, err := syntax.ParseAtIdentifier(string(p.Repo)); err != nil || p.Limit < 1 || p.Limit > 100 {
			t.Fatalf("%+v %v", p, err)
		}
		if want, err := url.ParseQuery(query); err == nil && utf8.ValidString(want.Get("repo")) && want.Get("repo") != "" && want.Get("repo") != string(p.Repo) {
			t.Fatalf("repo %q, net/url says %q", p.Repo, want.Get("repo"))
		}
		q := new(QueryWriter)
		p.EncodeParams(q)
		again := new(Values)
		if issue := parseParams(listTable, q.encoded(), false, again); issue != nil {
			t.Fatalf("%s of %s", issue.Text, q.encoded())
		}
	})
}

// FuzzServe: nothing that a client sends gives a 5xx.
func FuzzServe(f *testing.F) {
	e, _ := newToy(f, Options{Logger: slog.New(slog.DiscardHandler), CheckOutput: true, Callers: always(Callers{Limiter: NewMemoryLimiter(nil), BypassKey: "x"})})
	for _, s := range jsonSeeds {
		f.Add("POST", "/xrpc/com.example.toy.echo", "application/json", "", "", []byte(s))
	}
	f.Add("POST", "/xrpc/com.example.toy.echo", "application/json; charset=utf-16", "", "1.2.3.4", []byte("{\x00}\x00"))
	f.Add("POST", "/xrpc/com.example.toy.both?how=x", "application/json", "gzip", "", []byte(compressed("gzip", `{"deep":1}`)))
	f.Add("POST", "/xrpc/com.example.toy.both?how=x", "application/json", "br", "", []byte(compressed("br", `{"deep":1}`)))
	f.Add("POST", "/xrpc/com.example.toy.images", "image/png", "deflate", "", []byte(compressed("deflate", `x`)))
	f.Add("GET", "/xrpc/com.example.toy.listThings?repo=a.test&limit=5", "", "", "::1, x", []byte(nil))
	f.Add("OPTIONS", "/XRPC/%41", "", "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, verb, target, contentType, encoding, forwarded string, body []byte) {
		if !strings.HasPrefix(target, "/") || strings.Contains(target, "how=") && strings.Contains(target, ".fail") {
			return
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.ContainsFunc(verb, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(string(body)))
		r.Method, r.URL, r.RequestURI = verb, u, target
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Encoding", encoding)
		r.Header.Set("Accept-Encoding", encoding)
		r.Header.Set("Atproto-Proxy", forwarded)
		r.Header.Set("X-Forwarded-For", forwarded)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Header().Get("Content-Encoding") == "" && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && verb != "HEAD" && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("answer is not JSON: %s", w.Body)
		}
		_, _ = io.Copy(io.Discard, w.Body)
	})
}

// Whatever the spelling of a path, a method is recognized by its name in any case, with one
// slash behind it or none, and then the router finds its route, and no other.
func FuzzRecognize(f *testing.F) {
	for _, path := range []string{
		"/xrpc/com.example.toy.fail", "/XRPC/COM.example.toy.FAIL/", "/xrpc/com.example.toy.fail//", "/xrpc/com%2eexample.toy.fail", "/xrpc/",
		"/xrpc", "//xrpc/com.example.toy.fail", "/xrpc/_health", "/xrpc/*", "/hello",
	} {
		f.Add(path)
	}
	e := echo.New()
	s := NewServer(e, Options{Logger: slog.New(slog.DiscardHandler)})
	if err := registerToy(e, s); err != nil {
		f.Fatal(err)
	}
	paths := map[string]string{} // of routes, by what is behind /xrpc/ in lower case
	for _, r := range e.Routes() {
		if name, ok := strings.CutPrefix(r.Path, "/xrpc/"); ok && name != "*" {
			paths[strings.ToLower(name)] = r.Path
		}
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		asked := cmp.Or(u.RawPath, u.Path)
		name := ""
		if len(asked) >= 6 && strings.ToLower(asked[:6]) == "/xrpc/" {
			name = strings.TrimSuffix(asked[6:], "/")
		}
		want := paths[strings.ToLower(name)]
		c := new(Call)
		s.recognize(c, u)
		if want == "" {
			if c.Method != nil || cmp.Or(u.RawPath, u.Path) != asked {
				t.Fatalf("%q is taken for %+v at %s", path, c.Method, u)
			}
			return
		}
		found := e.NewContext(nil, nil)
		e.Router().Find("GET", cmp.Or(u.RawPath, u.Path), found)
		if c.NSID != name || u.String() != want || c.Method != nil && "/xrpc/"+c.Method.NSID != want || found.Path() != want && found.Path() != "/xrpc/*" {
			t.Fatalf("%q is taken for %+v called %q, at %s, and found at %s; want %s", path, c.Method, c.NSID, u, found.Path(), want)
		}
	})
}
