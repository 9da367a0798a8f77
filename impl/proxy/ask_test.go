package proxy_test

import (
	"testing"

	"portico/impl/servertest"
)

// A record of a repository that is not here, or not to be read, is asked for at the app
// view or where the client wants, in nobody's name; without an app view nowhere.
func TestRecordElsewhere(t *testing.T) {
	w := newWorld(t)
	other := w.NewUpstream("did:web:other.example", "view")
	const path = "com.atproto.repo.getRecord?repo=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa&collection=app.bsky.feed.post&rkey=a"
	w.AppView.Says(servertest.Answers(200, `{"uri":"at://x","value":1.5,"odd":[]}`, "Atproto-Repo-Rev", "3k", "Set-Cookie", "a=b"))
	for _, credential := range []string{"", w.alice.Access, servertest.Admin, "Bearer nonsense"} {
		a := w.Accepted(w.Get(path, credential, "Accept-Language: de", "Accept-Encoding: br", "X-Atproto-A: b"))
		if a.Body != `{"uri":"at://x","value":1.5,"odd":[]}` || a.Header.Get("Atproto-Repo-Rev") != "3k" || a.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s, header %v", a.Body, a.Header)
		}
		r := one(t, w.AppView)
		if r.Method != "GET" || r.RequestURI != "/xrpc/"+path || r.Header["Authorization"] != nil || r.Header.Get("Accept-Language") != "de" || r.Header.Get("X-Atproto-A") != "b" {
			t.Errorf("%s %s %v", r.Method, r.RequestURI, r.Header)
		}
	}
	w.Accepted(w.Get(path, w.alice.Access, "Atproto-Proxy: did:web:other.example#view"))
	if r := one(t, other); r.Header["Authorization"] != nil {
		t.Error("the client's service is told who it is")
	}
	w.Refused(w.Get(path, "Atproto-Proxy: did:web:nobody.example#view"), 400, "InvalidRequest", "could not resolve proxy did")
	w.AppView.Says(servertest.Answers(400, `{"error":"RecordNotFound","message":"Nothing there"}`))
	w.Refused(w.Get(path), 400, "RecordNotFound", "Nothing there")
	w.AppView.Says(servertest.Answers(400, `{"error":"UnheardOf","message":"Odd"}`))
	w.Refused(w.Get("com.atproto.repo.getRecord?repo=nobody.example&collection=app.bsky.feed.post&rkey=a"), 400, "UnheardOf", "Odd")
	w.AppView.Asked()

	// What is here is not asked for, unless its account is not active.
	mine := "com.atproto.repo.getRecord?repo=" + w.alice.DID.String() + "&collection=app.bsky.feed.post&rkey=a"
	w.Refused(w.Get(mine), 400, "RecordNotFound", "Could not locate record: at://"+w.alice.DID.String()+"/app.bsky.feed.post/a")
	nobody(t, w.AppView)
	w.Deactivate(w.alice.DID)
	w.Refused(w.Get(mine), 400, "UnheardOf", "Odd")
	one(t, w.AppView)

	alone := servertest.New(t)
	alone.NewUpstream("did:web:other.example", "view")
	for _, header := range []string{"", "Atproto-Proxy: did:web:other.example#view"} {
		alone.Refused(alone.Get(path, header), 400, "InvalidRequest", "Could not locate record")
	}
}

// An answer that may be read here is asked for in an encoding that both this server and the
// client can read (contract §4).
func TestEncodings(t *testing.T) {
	w := newWorld(t)
	const path = "com.atproto.repo.getRecord?repo=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa&collection=app.bsky.feed.post&rkey=a"
	const all, none = "identity;q=1,gzip;q=0.3,deflate;q=0.2,br;q=0.1", "this service does not support any of the requested encodings"
	for _, tt := range []struct{ accept, plain, packed string }{
		{"none", "identity;q=1", "identity;q=0.1"},
		{"", "identity;q=1", "identity;q=0.1"},
		{"identity", "identity;q=1", "identity;q=0.1"},
		{"*", all, "gzip;q=1,deflate;q=0.9,br;q=0.8,identity;q=0.1"},
		{"gzip, deflate, br, zstd", all, "gzip;q=1,deflate;q=0.9,br;q=0.8,identity;q=0.1"},
		{"gzip;q=0.5, br;q=1.0", "identity;q=1,gzip;q=0.3,br;q=0.1", "gzip;q=1,br;q=0.8,identity;q=0.1"},
		{"GZIP;Q=0.5", "identity;q=1,gzip;q=0.3", "gzip;q=1,identity;q=0.1"},
		{"gzip;q=0", "identity;q=1", "identity;q=0.1"},
		{"zstd", "identity;q=1", "identity;q=0.1"},
		{"identity;q=0, gzip", "gzip;q=0.3,*;q=0", "gzip;q=1,*;q=0"},
		{"br, *;q=0", "br;q=0.1,*;q=0", "br;q=0.8,*;q=0"},
	} {
		for _, packed := range []bool{false, true} {
			w.Proxy.PreferCompressed = packed
			want := tt.plain
			if packed {
				want = tt.packed
			}
			header := []string{"Accept-Encoding: " + tt.accept}
			if tt.accept == "none" {
				header = nil
			}
			if response, _, err := w.do(w.request("GET", path, nil, header...)); err != nil || response.StatusCode != 200 {
				t.Fatalf("%q: %v, %v", tt.accept, response, err)
			}
			if got := one(t, w.AppView).Header.Get("Accept-Encoding"); got != want {
				t.Errorf("%q became %q, want %q", tt.accept, got, want)
			}
		}
	}
	for _, accept := range []string{"identity;q=0", "*;q=0", "zstd, *;q=0", "gzip;q=0, identity;q=0"} {
		w.Refused(w.Get(path, "Accept-Encoding: "+accept), 406, "NotAcceptable", none)
	}
	for accept, bad := range map[string]string{
		"gzip;q=x": "gzip;q=x", "br, gzip;q=2": "gzip;q=2", "gzip;q=": "gzip;q=", "gzip ; q=0.2": "gzip ; q=0.2", "gzip;q=0.5;x=1": "gzip;q=0.5;x=1",
		",": "", "a,,b": "", "gzip;q=-1": "gzip;q=-1", "gzip;q=NaN": "gzip;q=NaN", "q=1": "q=1",
	} {
		w.Refused(w.Get(path, "Accept-Encoding: "+accept), 400, "InvalidRequest", `Invalid accept-encoding: "`+bad+`"`)
	}
	nobody(t, w.AppView)
}
