//go:build compare

package compare

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
)

// TestMigration moves accounts from the reference to Portico and back again, as far
// as identity goes. Each server has a DID, a rotation key and a secret of its own;
// the directory is one.
func TestMigration(t *testing.T) {
	const (
		oldDID, newDID = "did:web:old.example.com", "did:web:new.example.com"
		newRotation    = "7a0d2f4c6b8e1a3957c4d6e8f0a2b4c6d8e0f1a3b5c7d9e1f3a5b7c9d1e3f5a7"
		oldPassword    = "where it was before"
		newPassword    = "where it is from now on"
	)
	network := startNetwork(t)
	there := startReference(t, network, []string{"PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=" + oldDID})

	here := startPortico(t, network, []string{
		"PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=" + newDID, "PDS_SERVICE_HANDLE_DOMAINS=.portico.test,.test",
		"PDS_JWT_SECRET=another " + jwtSecret, "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + newRotation,
		"PDS_ENABLE_DID_DOC_WITH_SESSION=true"})
	rotation, err := parseKey(newRotation)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("reference wrote at last\n%s\nportico wrote at last\n%s", tail(there.process), tail(here.process))
		}
	}()

	for _, c := range []struct {
		name          string
		before, after string // handles
		takenDown     bool   // when it leaves again
		mail          string
	}{
		{name: "to a handle of the new server", before: "mover.test", after: "mover.portico.test", mail: "mover@example.com"},
		{name: "with the handle it has, back although taken down", before: "keeper.test", after: "keeper.test", takenDown: true, mail: "keeper@example.com"},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := there.call(t, "200", "POST", "createAccount", "", map[string]any{
				"handle": c.before, "email": c.mail, "password": oldPassword})
			did, thereAccess := made["did"].(string), made["accessJwt"].(string)

			// A stranger's word for the DID, or a token for something else, does not do.
			arrival := map[string]any{"did": did, "handle": c.after, "email": c.mail, "password": newPassword}
			token := func(from *side, access, aud, lxm string) string {
				return from.call(t, "200", "GET", "getServiceAuth?aud="+aud+"&lxm="+lxm, access, nil)["token"].(string)
			}
			here.call(t, "401 AuthenticationRequired Missing auth to create account with did: "+did, "POST", "createAccount", "", arrival)
			here.call(t, "401 BadJwtAudience jwt audience does not match service did", "POST", "createAccount",
				token(there, thereAccess, oldDID, "com.atproto.server.createAccount"), arrival)
			here.call(t, `401 BadJwtLexiconMethod bad jwt lexicon method ("lxm"). must match: com.atproto.server.createAccount`, "POST", "createAccount",
				token(there, thereAccess, newDID, "com.atproto.repo.uploadBlob"), arrival)

			pass := token(there, thereAccess, newDID, "com.atproto.server.createAccount")
			arrived := here.call(t, "200", "POST", "createAccount", pass, arrival)
			if arrived["did"] != did || arrived["handle"] != c.after {
				t.Errorf("arrived as %v, %v; want %s, %s", arrived["did"], arrived["handle"], did, c.after)
			}
			if pds := endpoint(arrived); pds != there.url {
				t.Errorf("on arrival the DID names %s, want %s", pds, there.url)
			}
			here.call(t, "400 HandleNotAvailable Handle already taken: "+c.after, "POST", "createAccount", pass, arrival)
			access := arrived["accessJwt"].(string)
			here.status(t, access, map[string]any{"activated": false, "validDid": false, "repoBlocks": 2.0, "indexedRecords": 0.0})
			if s := here.call(t, "200", "GET", "getSession", access, nil); s["active"] != false || s["status"] != "deactivated" {
				t.Errorf("session on arrival: %v", s)
			}
			here.call(t, "400 InvalidRequest Server rotation key not included in PLC DID data", "POST", "activateAccount", access, nil)

			// The DID names the new server, by an operation that the old one signs.
			recommended := here.call(t, "200", "GET", "identity.getRecommendedDidCredentials", access, nil)
			there.call(t, "200", "POST", "identity.requestPlcOperationSignature", thereAccess, nil)
			mail := there.await(c.mail, true)
			if mail == nil {
				t.Fatal("no mail with a code came from the reference")
			}
			signed := there.call(t, "200", "POST", "identity.signPlcOperation", thereAccess, map[string]any{
				"token":               mailedCode.FindString(mail.Text),
				"rotationKeys":        []string{didKey(t, rotation)},
				"alsoKnownAs":         []string{"at://" + c.after},
				"verificationMethods": recommended["verificationMethods"],
				"services":            map[string]plc.Service{"atproto_pds": {Type: plc.ServiceType, Endpoint: here.url}},
			})
			raw, err := json.Marshal(signed["operation"])
			if err != nil {
				t.Fatal(err)
			}
			op, err := plc.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := here.plc.Submit(t.Context(), syntax.DID(did), op); err != nil {
				t.Fatal(err)
			}
			here.status(t, access, map[string]any{"activated": false, "validDid": true})
			here.call(t, "200", "POST", "activateAccount", access, nil)
			here.status(t, access, map[string]any{"activated": true, "validDid": true})
			there.status(t, thereAccess, map[string]any{"validDid": false})
			there.call(t, "200", "POST", "deactivateAccount", thereAccess, map[string]any{})

			s := here.call(t, "200", "POST", "createSession", "", map[string]any{"identifier": c.after, "password": newPassword})
			if s["did"] != did || s["active"] != true || s["email"] != c.mail {
				t.Errorf("session after the move: %v", s)
			}
			if pds := endpoint(s); pds != here.url {
				t.Errorf("after the move the session's document names %s, want %s", pds, here.url)
			}

			// And back. The reference knows the DID until the account there is deleted.
			there.call(t, "200", "POST", "requestAccountDelete", thereAccess, nil)
			if mail = there.await(c.mail, true); mail == nil {
				t.Fatal("no mail with a code came from the reference")
			}
			there.call(t, "200", "POST", "deleteAccount", "", map[string]any{
				"did": did, "password": oldPassword, "token": mailedCode.FindString(mail.Text)})
			access = s["accessJwt"].(string)
			if c.takenDown {
				if err := here.takedown(t.Context(), did); err != nil {
					t.Fatal(err)
				}
				login := map[string]any{"identifier": c.after, "password": newPassword}
				here.call(t, "401 AccountTakedown Account has been taken down", "POST", "createSession", "", login)
				login["allowTakendown"] = true
				access = here.call(t, "200", "POST", "createSession", "", login)["accessJwt"].(string)
				here.call(t, "400 InvalidToken Bad token scope", "GET", "getServiceAuth?aud="+oldDID+"&lxm=com.atproto.repo.uploadBlob", access, nil)
			}
			returned := there.call(t, "200", "POST", "createAccount", token(here, access, oldDID, "com.atproto.server.createAccount"),
				map[string]any{"did": did, "handle": c.before, "email": c.mail, "password": oldPassword})
			thereAccess = returned["accessJwt"].(string)
			if returned["did"] != did {
				t.Errorf("returned as %v, want %s", returned["did"], did)
			}
			var wanted plc.Data
			credentials, err := json.Marshal(there.call(t, "200", "GET", "identity.getRecommendedDidCredentials", thereAccess, nil))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(credentials, &wanted); err != nil {
				t.Fatal(err)
			}
			last, err := here.plc.Last(t.Context(), syntax.DID(did))
			if err != nil {
				t.Fatal(err)
			}
			if op, err = plc.Update(last, func(d *plc.Data) { *d = wanted }); err != nil {
				t.Fatal(err)
			}
			if err := op.Sign(rotation); err != nil {
				t.Fatal(err)
			}
			if err := here.plc.Submit(t.Context(), syntax.DID(did), op); err != nil {
				t.Fatal(err)
			}
			there.call(t, "200", "POST", "activateAccount", thereAccess, nil)
			there.status(t, thereAccess, map[string]any{"activated": true, "validDid": true})

			here.call(t, "200", "POST", "deactivateAccount", access, map[string]any{})
			if c.takenDown {
				return
			}
			here.status(t, access, map[string]any{"activated": false, "validDid": false})
			here.call(t, "400 InvalidRequest Server rotation key not included in PLC DID data", "POST", "activateAccount", access, nil)
		})
	}
}

// call sends a request to a method of com.atproto.server, or to a path, and returns
// the JSON of the answer, nil if it has none. want is the status that must come
// and, of an error, its name and its message.
func (s *side) call(t *testing.T, want, verb, path, token string, body map[string]any) map[string]any {
	t.Helper()
	st := step{method: verb, path: path}
	if !strings.HasPrefix(path, "/") {
		st.path = methodPath(path)
	}
	if token != "" {
		st.headers = append(st.headers, header{"Authorization", "Bearer " + token})
	}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		st.body = string(b)
	} else if verb == http.MethodPost {
		st.headers = append(st.headers, header{"Content-Length", "0"})
	}
	a, err := s.send(t.Context(), st)
	if err != nil {
		t.Fatalf("%s: %s: %v", s.name, path, err)
	}
	object, _ := a.json.(map[string]any)
	got := fmt.Sprint(a.status)
	if a.status != http.StatusOK {
		got = fmt.Sprintf("%d %v %v", a.status, object["error"], object["message"])
	}
	if got != want {
		t.Fatalf("%s: %s: %s, want %s", s.name, path, got, want)
	}
	return object
}

// status asks for the status of an account and checks some of it.
func (s *side) status(t *testing.T, access string, want map[string]any) {
	t.Helper()
	got := s.call(t, "200", "GET", "checkAccountStatus", access, nil)
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %s is %v, want %v", s.name, name, got[name], value)
		}
	}
}

// endpoint is the PDS that the DID document in an answer names.
func endpoint(answer map[string]any) string {
	document, _ := answer["didDoc"].(map[string]any)
	services, _ := document["service"].([]any)
	i := slices.IndexFunc(services, func(v any) bool {
		service, _ := v.(map[string]any)
		id, _ := service["id"].(string)
		return strings.HasSuffix(id, "#atproto_pds")
	})
	if i < 0 {
		return ""
	}
	url, _ := services[i].(map[string]any)["serviceEndpoint"].(string)
	return url
}
