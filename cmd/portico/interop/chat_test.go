//go:build interop

package interop

import (
	"fmt"
	"net/http"
	"testing"
)

// All of chat.bsky is for full sessions and for app passwords that were made for it. A
// chat service gets a token of the account's, for that method and for a minute; of other
// requests it hears nothing.
func TestChat(t *testing.T) {
	s := newServices(t)
	answer := func(nsid string) string { return `{"answered":"` + nsid + `"}` }
	registered, _ := s.start("chat", "bsky_chat", "BskyChatService", answer)
	web := s.startWeb("chat", "bsky_chat", "BskyChatService", answer)
	p := startPlace(t, s.directory, s.directory)

	created := p.ask(t, "POST com.atproto.server.createAccount", `{"handle":"alice.test","email":"alice@example.com","password":"correct horse"}`)
	did, full := created.text("did"), created.text("accessJwt")
	appPassword := func(name string, privileged bool) string {
		made := p.ask(t, "POST com.atproto.server.createAppPassword", fmt.Sprintf(`{"name":%q,"privileged":%v}`, name, privileged), "Authorization", "Bearer "+full)
		return p.ask(t, "POST com.atproto.server.createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q}`, made.text("password"))).text("accessJwt")
	}
	sessions := []struct {
		name, token string
		may         bool
	}{
		{"full session", full, true},
		{"privileged app password", appPassword("chats", true), true},
		{"ordinary app password", appPassword("posts", false), false},
	}
	calls := []struct{ verb, method, query, body string }{
		{"GET", "chat.bsky.convo.listConvos", "?limit=20&status=accepted", ""},
		{"GET", "chat.bsky.convo.getLog", "?cursor=", ""},
		{"GET", "chat.bsky.convo.getUnreadCounts", "", ""},
		{"GET", "chat.bsky.convo.listConvoRequests", "", ""},
		{"GET", "chat.bsky.actor.exportAccountData", "", ""},
		{"POST", "chat.bsky.convo.sendMessage", "", `{"convoId":"3","message":{"text":"hello"}}`},
		{"POST", "chat.bsky.convo.addReaction", "", `{"convoId":"3","messageId":"4","value":"+"}`},
		{"POST", "chat.bsky.actor.deleteAccount", "", ""},
		{"GET", "chat.bsky.notYet.thought", "?of=it", ""},
		{"GET", "Chat.Bsky.convo.listConvos", "", ""}, // whose authority is the same
	}
	seen := map[string]bool{}
	for _, chat := range []string{registered.String(), web.String()} {
		for _, session := range sessions {
			for _, call := range calls {
				where := fmt.Sprintf("%s of %s with a %s", call.method, chat, session.name)
				got := p.ask(t, call.verb+" "+call.method+call.query, call.body,
					"Authorization", "Bearer "+session.token, "Atproto-Proxy", chat+"#bsky_chat", "Accept-Language", "de")
				passed := s.take()
				if !session.may {
					if want := "400 InvalidToken Bad token method"; got.refusal() != want || len(passed) != 0 {
						t.Errorf("%s: answered %d %s and passed on %+v", where, got.status, got.body, passed)
					}
					continue
				}
				if want := `{"answered":"` + call.method + `"}`; got.status != http.StatusOK || got.body != want || len(passed) != 1 {
					t.Errorf("%s: answered %d %s and passed on %+v", where, got.status, got.body, passed)
					continue
				}
				one := passed[0]
				if one.verb != call.verb || one.uri != "/xrpc/"+call.method+call.query || one.body != call.body || one.header.Get("Accept-Language") != "de" {
					t.Errorf("%s: passed on %+v", where, one)
				}
				if one.token.Iss != did || one.token.Aud != chat || one.token.Lxm != call.method || seen[one.token.Jti] {
					t.Errorf("%s: token %+v", where, one.token)
				}
				seen[one.token.Jti] = true
			}
		}
	}
	// Who is not signed in has nothing to chat with.
	got := p.ask(t, "GET chat.bsky.convo.listConvos", "", "Atproto-Proxy", registered.String()+"#bsky_chat")
	if want := "401 AuthMissing Authentication Required"; got.refusal() != want || len(s.take()) != 0 {
		t.Errorf("answered %d %s to a stranger", got.status, got.body)
	}
}
