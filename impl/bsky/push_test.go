package bsky_test

import (
	"net/http"
	"testing"

	"portico/impl/account/token"
	"portico/impl/servertest"
)

var inNotification = servertest.In("app.bsky.notification")

// device is the body of a registration at a service, with a field that the lexicon does not
// name.
func device(service string) string {
	return `{"serviceDid":"` + service + `", "token":"a token","platform":"ios","appId":"an app","ageRestricted":true,"later":{"a":1.5}}`
}

// A registration goes on as it came: to the app view where it is meant, else to the service
// for push messages that the DID has, with a token for that DID. atproto-proxy says nothing
// about it.
func TestPush(t *testing.T) {
	s := newServer(t, inNotification)
	alice := s.SignUp("alice")
	push := s.NewUpstream("did:web:push.example", "other")
	push.Says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	s.AppView.Says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	s.PublishService("did:web:push.example", "bsky_notif", "BskyNotificationService", push.URL+"/a/path")
	s.Forget("did:web:push.example")
	other := s.NewUpstream("did:web:other.example", "bsky_notif")
	for _, method := range []string{"registerPush", "unregisterPush"} {
		for service, at := range map[string]*servertest.Upstream{"did:web:appview.example": s.AppView, "did:web:push.example": push} {
			for _, scope := range []token.Scope{token.Access, token.AppPass} {
				s.Empty(s.Post(method, device(service), s.Scoped(alice, scope), "Atproto-Proxy: did:web:other.example#bsky_notif"))
				asked := at.Asked()
				if len(asked) != 1 {
					t.Fatalf("%s asked %d times", service, len(asked))
				}
				if a := asked[0]; a.Method != "POST" || a.URL.String() != "/xrpc/app.bsky.notification."+method || string(a.Body) != device(service) ||
					a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Accept") != "*/*" ||
					tokenOf(t, a) != (said{alice.DID.String(), service, "app.bsky.notification." + method}) {
					t.Errorf("%s asked %s %v %s", service, a.URL, a.Header, a.Body)
				}
			}
		}
		// What the service says against it the client is told.
		push.Says(servertest.Answers(400, `{"error":"BadToken","message":"not a device"}`))
		s.Refused(s.Post(method, device("did:web:push.example"), alice.Access), 400, "BadToken", "not a device")
		push.Says(servertest.Answers(500, `{"error":"InternalServerError","message":"ours"}`))
		s.Refused(s.Post(method, device("did:web:push.example"), alice.Access), 502, "InternalServerError", "ours")
		push.Says(servertest.Answers(200, `{"more":"than was asked for"}`))
		s.Empty(s.Post(method, device("did:web:push.example"), alice.Access))
		push.Says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
		push.Asked()
	}
	if asked := other.Asked(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}

// A DID without a service for push messages gets nothing.
func TestPushNowhere(t *testing.T) {
	s := newServer(t, inNotification)
	alice := s.SignUp("alice")
	s.PublishService("did:web:wrongtype.example", "bsky_notif", "AnotherService", "https://push.example")
	s.PublishService("did:web:wrongname.example", "push", "BskyNotificationService", "https://push.example")
	s.PublishService("did:web:nourl.example", "bsky_notif", "BskyNotificationService", "push.example")
	s.PublishService("did:web:scheme.example", "bsky_notif", "BskyNotificationService", "ftp://push.example")
	const closed = "did:web:closed.example"
	s.PublishService(closed, "bsky_notif", "BskyNotificationService", "http://localhost:1")
	for service, message := range map[string]string{
		"did:web:nobody.example":           "could not resolve did document: did:web:nobody.example",
		"did:key:zQ3shokFTS3brHcDQrn82RUD": "could not resolve did document: did:key:zQ3shokFTS3brHcDQrn82RUD",
		"did:web:wrongtype.example":        "invalid notification service details in did document: did:web:wrongtype.example",
		"did:web:wrongname.example":        "invalid notification service details in did document: did:web:wrongname.example",
		"did:web:nourl.example":            "invalid notification service details in did document: did:web:nourl.example",
		"did:web:scheme.example":           "invalid notification service details in did document: did:web:scheme.example",
	} {
		for _, method := range []string{"registerPush", "unregisterPush"} {
			s.Refused(s.Post(method, device(service), alice.Access), 400, "InvalidRequest", message)
		}
	}
	s.Refused(s.Post("registerPush", device(closed), alice.Access), 502, "InternalServerError", "Failed to perform upstream request")
	s.Refused(s.Post("registerPush", `{"serviceDid":"push.example","token":"a","platform":"ios","appId":"a"}`, alice.Access), 400, "InvalidRequest",
		`Invalid DID (got "push.example") at $.serviceDid`)
	s.Refused(s.Post("unregisterPush", `{"serviceDid":"did:web:push.example","token":"a","platform":"ios"}`, alice.Access), 400, "InvalidRequest",
		`Missing required key "appId" at $`)
}

// Looking for a service is paid for by the address of whoever wants it looked for.
func TestPushLookUpsAreBounded(t *testing.T) {
	s := newServer(t, inNotification)
	alice := s.SignUp("alice")
	const address = "X-Forwarded-For: 203.0.113.9"
	var last servertest.Answer
	for n := range 2000 {
		last = s.Post("registerPush", device("did:web:nobody"+string(rune('a'+n%26))+string(rune('a'+n/26%26))+string(rune('a'+n/676))+".example"), alice.Access, address)
		if last.Status != 400 {
			break
		}
	}
	s.Refused(last, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	s.AppView.Says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	s.Empty(s.Post("registerPush", device("did:web:appview.example"), alice.Access, address))
}

// Who waits for a place may register a device, who is taken down may not.
func TestPushByState(t *testing.T) {
	s := newServer(t, inNotification)
	s.AppView.Says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	alice := s.SignUp("alice")
	body := device("did:web:appview.example")
	s.Empty(s.Post("registerPush", body, s.Scoped(alice, token.SignupQueued)))
	s.Refused(s.Post("unregisterPush", body, s.Scoped(alice, token.SignupQueued)), 400, "InvalidToken", "Bad token scope")
	s.Deactivate(alice.DID)
	s.Empty(s.Post("registerPush", body, alice.Access))
	s.TakeDown(alice.DID)
	for _, method := range []string{"registerPush", "unregisterPush"} {
		s.Refused(s.Post(method, body, alice.Access), 401, "AccountTakedown", "Account has been taken down")
		s.Refused(s.Post(method, body, s.Scoped(alice, token.Takendown)), 400, "InvalidToken", "Bad token scope")
	}
	s.Remove(alice.DID)
	s.Refused(s.Post("registerPush", body, alice.Access), 403, "AccountNotFound", "Account not found")
}
