package xrpc_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/coder/websocket"

	"portico/api/atproto/sync"
	"portico/api/xrpc"
)

// exampleHost answers as much as the examples ask, and has the access token expire that it
// gave first.
func exampleHost() *httptest.Server {
	mux := http.NewServeMux()
	answer := func(method, with string) {
		mux.HandleFunc("/xrpc/"+method, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				panic(http.ErrAbortHandler)
			}
			if r.Header.Get("Authorization") == "Bearer access-1" {
				refuse(w, "ExpiredToken", "Token has expired")
				return
			}
			if to := r.Header.Get("Atproto-Proxy"); to != "" {
				w.Header().Set("Atproto-Content-Labelers", r.Header.Get("Atproto-Accept-Labelers"))
				fmt.Println("passed on to", to)
			}
			io.WriteString(w, with)
		})
	}
	const session = `{"did":"did:plc:alice","handle":"alice.test","accessJwt":"access-%d","refreshJwt":"refresh-%d"}`
	answer("com.atproto.server.createSession", fmt.Sprintf(session, 1, 1))
	answer("com.atproto.server.refreshSession", fmt.Sprintf(session, 2, 2))
	answer("com.atproto.repo.createRecord", `{"uri":"at://did:plc:alice/app.bsky.feed.post/3lhello","cid":"bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"}`)
	answer("app.bsky.actor.getProfile", `{"did":"did:plc:bob","handle":"bob.test"}`)
	answer("com.atproto.repo.uploadBlob", `{"blob":{"$type":"blob","ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"mimeType":"image/png","size":9}}`)
	answer("com.atproto.sync.getRepo", "a repository")
	mux.HandleFunc("/xrpc/com.atproto.sync.subscribeRepos", followed)
	busy := new(atomic.Bool)
	mux.HandleFunc("/xrpc/com.atproto.identity.resolveHandle", func(w http.ResponseWriter, r *http.Request) {
		if busy.CompareAndSwap(false, true) {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		io.WriteString(w, `{"did":"did:plc:bob"}`)
	})
	return httptest.NewServer(mux)
}

func refuse(w http.ResponseWriter, name, message string) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"error":%q,"message":%q}`, name, message)
}

// followed sends two messages behind the cursor, and goes away.
func followed(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	from := int64(0)
	fmt.Sscan(r.URL.Query().Get("cursor"), &from)
	for seq := from + 1; seq <= from+2; seq++ {
		frame, err := xrpc.EncodeFrame(sync.NewSubscribeReposMessage(&sync.SubscribeReposIdentity{
			Seq: seq, DID: "did:plc:bob", Time: syntax.Datetime("2026-01-01T00:00:00.000Z"),
		}))
		if err != nil || conn.Write(r.Context(), websocket.MessageBinary, frame) != nil {
			return
		}
	}
	_ = conn.Close(websocket.StatusGoingAway, "")
}
