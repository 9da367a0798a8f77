//go:build interop

package interop

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	identityapi "portico/api/atproto/identity"
	"portico/api/xrpc"
)

// TestAppView asks a server for a handle that only its app view knows.
func TestAppView(t *testing.T) {
	view := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, map[bool]string{true: `{"did":"did:plc:bob"}`, false: `{"error":"InvalidRequest"}`}[r.FormValue("handle") == "bob.example.com"])
	}))
	defer view.Close()
	p := startPlace(t, "", "", "PDS_BSKY_APP_VIEW_URL="+view.URL, "PDS_BSKY_APP_VIEW_DID=did:web:api.example.com")
	o := p.signUp(t, "alice")
	anybody := &identityapi.Client{Client: xrpc.Client{Host: p.url}}
	for handle, want := range map[string]string{"bob.example.com": "did:plc:bob", "alice.test": o.did.String()} {
		out, err := anybody.ResolveHandle(t.Context(), &identityapi.ResolveHandleParams{Handle: syntax.Handle(handle)})
		if err != nil || out.DID.String() != want {
			t.Errorf("%s: %+v, %v", handle, out, err)
		}
	}
	_, err := anybody.ResolveHandle(t.Context(), &identityapi.ResolveHandleParams{Handle: "nobody.example.com"})
	o.refused(err, 400, "InvalidRequest", "Unable to resolve handle")
}
