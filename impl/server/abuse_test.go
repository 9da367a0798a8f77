package server_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/resolve"
	"portico/impl/serviceauth"
)

// The key of a DID's labeler is not the DID's own, and neither is any other service
// of it: what they sign proves nothing about the account.
func TestServiceOfADIDIsNotTheDID(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct{ did, key, fragment string }{
		{"did:web:label.example", "atproto_label", "atproto_labeler"},
		{"did:web:other.example", "atproto", "other"},
	} {
		did := syntax.DID(tt.did)
		key := f.internet.identity(t, did)
		public, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := resolve.ParseDocument(did, fmt.Appendf(nil, `{"id":%q,"verificationMethod":[
			{"id":"#%s","type":"Multikey","publicKeyMultibase":%q}]}`, did, tt.key, strings.TrimPrefix(public.DIDKey(), "did:key:")))
		if err != nil {
			t.Fatal(err)
		}
		f.internet.mu.Lock()
		f.internet.documents[did] = doc
		f.internet.mu.Unlock()
		token, err := serviceauth.Issue(serviceauth.Request{
			Issuer: syntax.DID(tt.did + "#" + tt.fragment), Audience: "did:web:pds.test", Method: move,
			IssuedAt: f.clock.Now(), Expires: f.clock.Now().Unix() + 60,
		}, key, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f.refused(f.post("createAccount", fmt.Sprintf(`{"handle":"alice.test","email":"a@example.com","did":%q}`, did), bearer(token)...),
			401, "AuthenticationRequired", "Missing auth to create account with did: "+tt.did)
	}
}
