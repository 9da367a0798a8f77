package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// A relay is told of the server at its start and follows it until the server stops, which
// is a regular end. It may be inside of a network that strangers cannot make the server
// send requests to.
func TestRelayFollows(t *testing.T) {
	told := make(chan string, 10)
	relay := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- r.URL.Path + " " + string(body)
	}))
	t.Cleanup(relay.Close)
	s, stop := startFor(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_DISABLE_SSRF_PROTECTION=false", "PDS_CRAWLERS="+relay.URL+"/, "+relay.URL)
	for range 2 {
		if got, want := <-told, `/xrpc/com.atproto.sync.requestCrawl {"hostname":"`+s.PublicURL.Host+`"}`; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(s.PublicURL.String(), "http", "ws", 1)+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	res, err := http.Post(s.PublicURL.String()+"/xrpc/com.atproto.server.createAccount", "application/json",
		strings.NewReader(`{"handle":"alice.test","email":"alice@example.com","password":"correct horse"}`))
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	for n := range 4 {
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
	}
	go stop()
	if _, b, err := conn.Read(context.Background()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("%x, %v", b, err)
	}
}
