package auth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/oauth/oauthtest"
	"portico/impl/servertest"
)

const (
	algorithms = `DPoP algs="RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES256K ES384 ES512"`
	getSession = "com.atproto.server.getSession"
)

// What is wrong with a proof or a token is told in the body, and in the header that clients
// read: they try again with a nonce, or refresh the token.
func TestChallenges(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	app, other := s.LetIn(alice, "atproto"), oauthtest.NewKey(t, "ES256")
	url, nonce, access := servertest.Endpoint+"/xrpc/"+getSession, s.Proofs.Nonces.Next(), app.Access
	header := func(token, proof string) string {
		if proof == "" {
			return "DPoP " + token
		}
		return "DPoP " + token + "\nDPoP: " + proof
	}
	with := func(claims map[string]any) string { return header(access, app.ProofWith("GET", getSession, claims)) }
	about := func(token string) string {
		return header(token, app.Key.Proof(t, s.Now(), "GET", url, nonce, token, nil))
	}
	session := strings.TrimPrefix(alice.Access, "Bearer ")
	refresh := strings.TrimPrefix(alice.Refresh, "Bearer ")
	spoiled := access[:len(access)-4] + "AAAA"
	used := app.Credential("GET", getSession)
	s.Accepted(s.Get(getSession, used))
	for _, tt := range []struct{ name, header, error, message, described string }{
		{"no proof", header(access, ""), "invalid_dpop_proof", "DPoP proof required", "DPoP proof required"},
		{"no proof of anything", "DPoP abc", "invalid_dpop_proof", "DPoP proof required", "DPoP proof required"},
		{"proof that is none", header(access, "abc"), "invalid_dpop_proof", "Failed to verify DPoP proof: Invalid Compact JWS", "Failed to verify DPoP proof: Invalid Compact JWS"},
		{"no nonce", header(access, app.Key.Proof(t, s.Now(), "GET", url, "", access, nil)), "use_dpop_nonce", "Authorization server requires nonce in DPoP proof", "Authorization server requires nonce in DPoP proof"},
		{"nonce of nobody", with(map[string]any{"nonce": "abc"}), "use_dpop_nonce", `DPoP "nonce" mismatch`, ""},
		{"another method", with(map[string]any{"htm": "POST"}), "invalid_dpop_proof", `DPoP "htm" mismatch`, ""},
		{"another address", with(map[string]any{"htu": s.URL + "/xrpc/" + getSession}), "invalid_dpop_proof", `DPoP "htu" mismatch`, ""},
		{"another token", with(map[string]any{"ath": "abc"}), "invalid_dpop_proof", `DPoP "ath" mismatch`, ""},
		{"no token's", with(map[string]any{"ath": nil}), "invalid_dpop_proof", `DPoP "ath" mismatch`, ""},
		{"no name", with(map[string]any{"jti": nil}), "invalid_dpop_proof", `DPoP "jti" missing`, ""},
		{"old", with(map[string]any{"iat": s.Now().Add(-time.Hour).Unix()}), "invalid_dpop_proof", `Failed to verify DPoP proof: "iat" claim timestamp check failed (too far in the past)`, ""},
		{"used before", used, "invalid_dpop_proof", "DPoP proof replayed", "DPoP proof replayed"},
		{"another key", header(access, other.Proof(t, s.Now(), "GET", url, nonce, access, nil)), "invalid_token", "Invalid DPoP key binding", "Invalid DPoP key binding"},
		{"no JWT", about("abc"), "invalid_token", "Malformed token", "Malformed token"},
		{"refresh token", about(app.Refresh), "invalid_token", "Malformed token", "Malformed token"},
		{"session token", about(session), "invalid_token", `missing required "iss" claim`, ""},
		{"refresh token of a session", about(refresh), "invalid_token", `missing required "iss" claim`, ""},
		{"signature", about(spoiled), "invalid_token", "signature verification failed", "signature verification failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			defer func() { s.TB = t }()
			a := s.Get(getSession, tt.header)
			s.Refused(a, 401, tt.error, tt.message)
			want := algorithms + `, error="` + tt.error + `"`
			if tt.described != "" {
				want += `, error_description="` + tt.described + `"`
			}
			if got := a.Header.Get("WWW-Authenticate"); got != want {
				t.Errorf("WWW-Authenticate: %s\nwant %s", got, want)
			}
			looked(t, s, a, "DPoP-Nonce", "WWW-Authenticate")
		})
	}
	s.TB = t
	// The scheme is written in any case.
	s.Accepted(s.Get(getSession, strings.Replace(app.Credential("GET", getSession), "DPoP", "dpop", 1)))
	looked(t, s, app.Get(getSession), "DPoP-Nonce")
	// Of a token without its proof nothing is believed.
	s.Refused(s.Get(getSession, "Bearer "+access), 400, "InvalidToken", "Malformed token")
	s.Refused(s.Get(getSession, "Bearer "+access, "DPoP: "+app.ProofWith("GET", getSession, nil)), 400, "InvalidToken", "Malformed token")
}

// looked checks the headers of an answer to credentials by DPoP that were looked at, of which
// scripts of other origins have to be able to read some.
func looked(t *testing.T, s *servertest.Server, a servertest.Answer, exposed ...string) {
	t.Helper()
	for name, want := range map[string]string{
		"DPoP-Nonce": s.Proofs.Nonces.Next(), "Cache-Control": "private", "Access-Control-Allow-Origin": "*",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if vary := a.Header.Get("Vary"); !strings.Contains(vary, "Authorization") {
		t.Errorf("Vary: %q", vary)
	}
	if got, want := strings.Join(a.Header["Access-Control-Expose-Headers"], ", "), strings.Join(exposed, ", "); got != want {
		t.Errorf("Access-Control-Expose-Headers: %s, want %s", got, want)
	}
}

// A browser asks before it sends a proof to another origin.
func TestPreflight(t *testing.T) {
	s := servertest.New(t)
	a := s.Call(http.MethodOptions, getSession, "", "Origin: https://app.example", "Access-Control-Request-Method: GET",
		"Access-Control-Request-Headers: authorization,content-type,dpop")
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "authorization,content-type,dpop", "Access-Control-Allow-Methods": "GET,HEAD,PUT,PATCH,POST,DELETE",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A token is over with its time, with its session, and when its account is gone or taken down.
func TestTokensThatAreOver(t *testing.T) {
	for _, tt := range []struct {
		name, message string
		end           func(s *servertest.Server, app *servertest.App)
	}{
		{"expired", `"exp" claim timestamp check failed`, func(s *servertest.Server, _ *servertest.App) { s.Advance(20 * time.Minute) }},
		{"session ended", "Invalid token", func(s *servertest.Server, app *servertest.App) {
			all := servertest.Must(s.Grants.Sessions(s.Context(), app.DID))
			s.Check(s.Grants.End(s.Context(), app.DID, all[0].ID))
		}},
		{"taken down", "Invalid token", func(s *servertest.Server, app *servertest.App) {
			s.SetAccount(app.DID, func(a *db.Account) { a.TakedownRef = new("x") })
		}},
		{"deleted", "Invalid token", func(s *servertest.Server, app *servertest.App) { s.Remove(app.DID) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := servertest.New(t)
			app := s.LetIn(s.SignUp("alice"), "atproto transition:generic")
			s.Accepted(app.Get(getSession))
			tt.end(s, app)
			a := app.Get(getSession)
			s.Refused(a, 401, "invalid_token", tt.message)
			looked(t, s, a, "DPoP-Nonce", "WWW-Authenticate")
			s.Refused(app.Procedure("com.atproto.repo.createRecord", `{}`), 401, "invalid_token", tt.message)
		})
	}
}

// Proofs beside tokens that are not good are not remembered: anybody can sign them.
func TestProofsOfStrangersAreNotKept(t *testing.T) {
	s := servertest.New(t)
	app := s.LetIn(s.SignUp("alice"), "atproto")
	other := oauthtest.NewKey(t, "ES256")
	token := app.Access
	proof := other.Proof(t, s.Now(), "GET", servertest.Endpoint+"/xrpc/"+getSession, s.Proofs.Nonces.Next(), token, nil)
	for range 2 {
		s.Refused(s.Get(getSession, "DPoP "+token, "DPoP: "+proof), 401, "invalid_token", "Invalid DPoP key binding")
	}
}

// Without OAuth there are no apps, as ever.
func TestWithoutOAuth(t *testing.T) {
	s := servertest.New(t)
	app := s.LetIn(s.SignUp("alice"), "atproto")
	for _, n := range s.Nodes() {
		n.Proxy.Gate.Grants = nil
	}
	a := app.Get(getSession)
	s.Refused(a, 400, "InvalidToken", "Unexpected authorization type")
	if a.Header.Get("DPoP-Nonce") != "" {
		t.Error("a nonce is handed out")
	}
}

// Each row is a method as apps with a scope may call it, or may not.
func TestMethods(t *testing.T) {
	s := servertest.New(t, func(o *servertest.Options) { o.AppView, o.Reports = true, true })
	alice := s.SignUp("alice")
	const (
		view     = "did:web:appview.example%23bsky_appview"
		reports  = "did:web:reports.example%23atproto_labeler"
		all      = "account:email?action=manage account:repo?action=manage account:status?action=manage identity:* repo:* blob:*/* rpc:*?aud=" + view + " rpc:*?aud=" + reports
		write    = `{"repo":"DID","collection":"com.example.x","rkey":"a","record":{"$type":"com.example.x"}}`
		missing  = "ScopeMissingError"
		noOAuth  = "OAuth credentials are not supported for this endpoint"
		manager  = "Use the account manager interface to update email address associated with an account"
		register = `{"serviceDid":"did:web:appview.example","token":"t","platform":"ios","appId":"a"}`
		report   = `{"reasonType":"com.atproto.moderation.defs#reasonSpam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"DID"}}`
	)
	type call struct{ verb, method, body string }
	for _, tt := range []struct {
		name    string
		call    call
		scope   string // beside atproto
		status  int
		error   string
		message string
	}{
		{"status of the account", call{"GET", "com.atproto.server.checkAccountStatus", ""}, "", 200, "", ""},
		{"recommended credentials", call{"GET", "com.atproto.identity.getRecommendedDidCredentials", ""}, "", 200, "", ""},
		{"missing blobs", call{"GET", "com.atproto.repo.listMissingBlobs", ""}, "", 200, "", ""},

		{"confirm", call{"POST", "com.atproto.server.confirmEmail", `{"email":"alice@example.com","token":"x"}`}, "account:email transition:email transition:generic", 403, missing, `Missing required scope "account:email?action=manage"`},
		{"confirm", call{"POST", "com.atproto.server.confirmEmail", `{"email":"alice@example.com","token":"x"}`}, "account:email?action=manage", 400, "InvalidToken", "Token is invalid"},
		{"confirmation", call{"POST", "com.atproto.server.requestEmailConfirmation", ""}, "account:email", 403, missing, `Missing required scope "account:email?action=manage"`},
		{"confirmation", call{"POST", "com.atproto.server.requestEmailConfirmation", ""}, "account:email?action=manage", 200, "", ""},
		{"deactivate", call{"POST", "com.atproto.server.deactivateAccount", `{}`}, "transition:generic account:status account:repo?action=manage", 403, missing, `Missing required scope "account:status?action=manage"`},

		{"activate", call{"POST", "com.atproto.server.activateAccount", ""}, all, 403, "Forbidden", "Account reactivation is not available with OAuth credentials. Sign in to your account management page to reactivate."},
		{"ask for another address", call{"POST", "com.atproto.server.requestEmailUpdate", ""}, all, 403, "Forbidden", manager},
		{"another address", call{"POST", "com.atproto.server.updateEmail", `{"email":"a@example.com"}`}, all, 403, "Forbidden", manager},
		{"app password", call{"POST", "com.atproto.server.createAppPassword", `{"name":"x"}`}, all, 403, "Forbidden", noOAuth},
		{"app passwords", call{"GET", "com.atproto.server.listAppPasswords", ""}, all, 403, "Forbidden", noOAuth},
		{"end app password", call{"POST", "com.atproto.server.revokeAppPassword", `{"name":"x"}`}, all, 403, "Forbidden", noOAuth},
		{"invite codes", call{"GET", "com.atproto.server.getAccountInviteCodes", ""}, all, 403, "Forbidden", noOAuth},
		{"ask for deletion", call{"POST", "com.atproto.server.requestAccountDelete", ""}, all, 403, "Forbidden", noOAuth},
		{"queue", call{"GET", "com.atproto.temp.checkSignupQueue", ""}, all, 403, "Forbidden", noOAuth},

		{"sign up", call{"POST", "com.atproto.server.createAccount", `{"handle":"bob.test","email":"bob@example.com","password":"correct horse"}`}, all, 401, "AuthenticationRequired", "Invalid authorization header"},
		{"refresh", call{"POST", "com.atproto.server.refreshSession", ""}, all, 401, "AuthMissing", "Authentication Required"},
		{"sign out", call{"POST", "com.atproto.server.deleteSession", ""}, all, 401, "AuthMissing", "Authentication Required"},
		{"describe the server", call{"GET", "com.atproto.server.describeServer", ""}, "", 200, "", ""},
		{"reserve a key", call{"POST", "com.atproto.server.reserveSigningKey", `{}`}, "", 200, "", ""},
		{"invite code", call{"POST", "com.atproto.server.createInviteCode", `{"useCount":1}`}, all, 401, "AuthenticationRequired", "Authentication Required"},
		{"administration", call{"GET", "com.atproto.admin.getAccountInfo?did=DID", ""}, all, 401, "AuthenticationRequired", "Authentication Required"},
		{"our own", call{"GET", "alt.portico.operator.getHealth", ""}, all, 401, "AuthenticationRequired", "Authentication Required"},

		{"handle", call{"POST", "com.atproto.identity.updateHandle", `{"handle":"alicia.test"}`}, "transition:generic", 403, missing, `Missing required scope "identity:handle"`},
		{"handle", call{"POST", "com.atproto.identity.updateHandle", `{"handle":"alice.test"}`}, "identity:handle", 200, "", ""},
		{"handle", call{"POST", "com.atproto.identity.updateHandle", `{"handle":"alice.test"}`}, "identity:*", 200, "", ""},
		{"ask for an operation", call{"POST", "com.atproto.identity.requestPlcOperationSignature", ""}, "identity:handle transition:generic", 403, missing, `Missing required scope "identity:*"`},
		{"ask for an operation", call{"POST", "com.atproto.identity.requestPlcOperationSignature", ""}, "identity:*", 200, "", ""},
		{"sign an operation", call{"POST", "com.atproto.identity.signPlcOperation", `{}`}, "identity:handle", 403, missing, `Missing required scope "identity:*"`},
		{"submit an operation", call{"POST", "com.atproto.identity.submitPlcOperation", `{"operation":{}}`}, "identity:handle", 403, missing, `Missing required scope "identity:*"`},
		{"resolve", call{"GET", "com.atproto.identity.resolveHandle?handle=alice.test", ""}, "", 200, "", ""},

		{"create", call{"POST", "com.atproto.repo.createRecord", write}, "repo:com.example.y repo:com.example.x?action=update&action=delete", 403, missing, `Missing required scope "repo:com.example.x?action=create"`},
		{"create", call{"POST", "com.atproto.repo.createRecord", write}, "repo:com.example.x?action=create", 200, "", ""},
		{"put", call{"POST", "com.atproto.repo.putRecord", write}, "repo:com.example.x?action=create", 403, missing, `Missing required scope "repo:com.example.x?action=update"`},
		{"put", call{"POST", "com.atproto.repo.putRecord", write}, "repo:com.example.x?action=update", 403, missing, `Missing required scope "repo:com.example.x?action=create"`},
		{"put", call{"POST", "com.atproto.repo.putRecord", write}, "repo:com.example.x?action=create&action=update", 200, "", ""},
		{"put", call{"POST", "com.atproto.repo.putRecord", write}, "transition:generic", 200, "", ""},
		{"delete", call{"POST", "com.atproto.repo.deleteRecord", `{"repo":"DID","collection":"com.example.x","rkey":"a"}`}, "repo:com.example.x?action=create&action=update", 403, missing, `Missing required scope "repo:com.example.x?action=delete"`},
		{"delete", call{"POST", "com.atproto.repo.deleteRecord", `{"repo":"DID","collection":"com.example.x","rkey":"a"}`}, "repo:*?action=delete", 200, "", ""},
		{"import", call{"POST", "com.atproto.repo.importRepo", "x"}, "repo:* transition:generic", 403, missing, `Missing required scope "account:repo?action=manage"`},
		{"upload", call{"POST", "com.atproto.repo.uploadBlob", "{}"}, "blob:image/* repo:*", 403, missing, `Missing required scope "blob:application/json"`},
		{"upload", call{"POST", "com.atproto.repo.uploadBlob", "{}"}, "blob:application/*", 200, "", ""},
		{"upload", call{"POST", "com.atproto.repo.uploadBlob", "{}"}, "transition:generic", 200, "", ""},

		{"preferences", call{"GET", "app.bsky.actor.getPreferences", ""}, "", 403, missing, `Missing required scope "rpc:app.bsky.actor.getPreferences?aud=` + view + `"`},
		{"preferences", call{"GET", "app.bsky.actor.getPreferences", ""}, "rpc:app.bsky.actor.getPreferences?aud=did:web:appview.example%23other", 403, missing, `Missing required scope "rpc:app.bsky.actor.getPreferences?aud=` + view + `"`},
		{"preferences", call{"GET", "app.bsky.actor.getPreferences", ""}, "rpc:app.bsky.actor.getPreferences?aud=" + view, 200, "", ""},
		{"preferences", call{"GET", "app.bsky.actor.getPreferences", ""}, "transition:generic", 200, "", ""},
		{"set preferences", call{"POST", "app.bsky.actor.putPreferences", `{"preferences":[]}`}, "rpc:app.bsky.actor.getPreferences?aud=" + view, 403, missing, `Missing required scope "rpc:app.bsky.actor.putPreferences?aud=` + view + `"`},
		{"set preferences", call{"POST", "app.bsky.actor.putPreferences", `{"preferences":[]}`}, "rpc:app.bsky.actor.putPreferences?aud=*", 200, "", ""},
		{"set the birthday", call{"POST", "app.bsky.actor.putPreferences", `{"preferences":[{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"2000-01-01T00:00:00Z"}]}`}, "transition:generic", 400, "InvalidRequest", "Do not have authorization to set preferences: app.bsky.actor.defs#personalDetailsPref"},
		{"timeline", call{"GET", "app.bsky.feed.getTimeline", ""}, "repo:*", 403, missing, `Missing required scope "rpc:app.bsky.feed.getTimeline?aud=` + view + `"`},
		{"timeline", call{"GET", "app.bsky.feed.getTimeline", ""}, "rpc:*?aud=" + view, 200, "", ""},
		{"feed", call{"GET", "app.bsky.feed.getFeed?feed=at://did:web:appview.example/app.bsky.feed.generator/a", ""}, "rpc:app.bsky.feed.getFeed?aud=" + view, 400, "UnknownFeed", "could not resolve feed did"},
		{"feed", call{"GET", "app.bsky.feed.getFeed?feed=at://did:web:appview.example/app.bsky.feed.generator/a", ""}, "rpc:app.bsky.feed.getFeedSkeleton?aud=" + view, 403, missing, `Missing required scope "rpc:app.bsky.feed.getFeed?aud=` + view + `"`},
		{"feed", call{"GET", "app.bsky.feed.getFeed?feed=at://did:web:appview.example/app.bsky.feed.generator/a", ""}, "rpc:app.bsky.feed.getFeed?lxm=app.bsky.feed.getFeedSkeleton&aud=" + view, 403, missing, `Missing required scope "rpc:app.bsky.feed.getFeed?aud=` + view + `"`}, // no form of a scope
		{"push", call{"POST", "app.bsky.notification.registerPush", register}, "rpc:app.bsky.notification.registerPush?aud=" + view, 403, missing, `Missing required scope "rpc:app.bsky.notification.registerPush?aud=did:web:appview.example%23bsky_notif"`},
		{"push", call{"POST", "app.bsky.notification.registerPush", register}, "rpc:app.bsky.notification.registerPush?aud=did:web:appview.example%23bsky_notif", 200, "", ""},
		{"report", call{"POST", "com.atproto.moderation.createReport", report}, "rpc:com.atproto.moderation.createReport?aud=" + view, 403, missing, `Missing required scope "rpc:com.atproto.moderation.createReport?aud=` + reports + `"`},

		{"passed on", call{"GET", "app.bsky.graph.getLists?actor=DID", ""}, "", 403, missing, `Missing required scope "rpc:app.bsky.graph.getLists?aud=` + view + `"`},
		{"passed on", call{"GET", "app.bsky.graph.getLists?actor=DID", ""}, "rpc:app.bsky.graph.getLists?aud=did:web:appview.example%23other", 403, missing, `Missing required scope "rpc:app.bsky.graph.getLists?aud=` + view + `"`},
		{"passed on", call{"GET", "app.bsky.graph.getLists?actor=DID", ""}, "rpc:app.bsky.graph.getLists?aud=" + view, 200, "", ""},
		{"passed on", call{"POST", "app.bsky.graph.muteActor", `{"actor":"DID"}`}, "transition:generic", 200, "", ""},
		{"chat", call{"GET", "chat.bsky.convo.getLog", ""}, "transition:generic", 403, missing, `Missing required scope "rpc:chat.bsky.convo.getLog?aud=` + view + `"`},
		{"chat in capitals", call{"GET", "CHAT.bsky.convo.getLog", ""}, "transition:generic", 403, missing, `Missing required scope "rpc:chat.bsky.convo.getLog?aud=` + view + `"`},
		{"chat", call{"GET", "chat.bsky.convo.getLog", ""}, "transition:generic transition:chat.bsky", 200, "", ""},
		{"moderators' elsewhere", call{"GET", "com.atproto.admin.stillToCome", ""}, "transition:generic rpc:*?aud=" + view, 400, "InvalidToken", "Bad token method"},
		{"protected", call{"GET", "COM.atproto.server.createapppasswords", ""}, "", 403, missing, `Missing required scope "rpc:com.atproto.server.createapppasswords?aud=` + view + `"`},

		{"service token", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=com.example.x", ""}, "", 403, missing, `Missing required scope "rpc:com.example.x?aud=did:web:x.example"`},
		{"service token", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=com.example.x", ""}, "rpc:com.example.x?aud=did:web:x.example%23service", 403, missing, `Missing required scope "rpc:com.example.x?aud=did:web:x.example"`},
		{"service token", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example%23service&lxm=com.example.x", ""}, "rpc:com.example.x?aud=did:web:x.example%23service", 200, "", ""},
		{"service token", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=com.example.x", ""}, "rpc:com.example.x?aud=*", 200, "", ""},
		{"service token for any method", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example", ""}, "rpc:com.example.x?aud=*", 403, missing, `Missing required scope "rpc:*?aud=did:web:x.example"`},
		{"service token for any method", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example", ""}, "transition:generic", 200, "", ""},
		{"service token for chat", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=CHAT.bsky.convo.getLog", ""}, "transition:generic", 403, missing, `Missing required scope "rpc:chat.bsky.convo.getLog?aud=did:web:x.example"`},
		{"service token for moderators", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=com.atproto.admin.getAccountInfo", ""}, "transition:generic", 400, "InvalidRequest", "insufficient access to request a service auth token for the following method: com.atproto.admin.getAccountInfo"},
		{"service token for what is protected", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=com.atproto.server.updateEmail", ""}, "transition:generic", 400, "InvalidRequest", "cannot request a service auth token for the following protected method: com.atproto.server.updateEmail"},
		{"service token to move away", call{"GET", "com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=com.atproto.server.createAccount", ""}, "rpc:com.atproto.server.createAccount?aud=*", 200, "", ""},
	} {
		t.Run(tt.name+" with "+tt.scope, func(t *testing.T) {
			s.TB = t
			app := s.LetIn(alice, strings.TrimSpace("atproto "+tt.scope))
			fill := func(text string) string { return strings.ReplaceAll(text, "DID", alice.DID.String()) }
			a := app.Call(tt.call.verb, fill(tt.call.method), fill(tt.call.body))
			if tt.status == 200 {
				s.Accepted(a)
			} else {
				s.Refused(a, tt.status, tt.error, tt.message)
			}
		})
		s.TB = t
	}
}
