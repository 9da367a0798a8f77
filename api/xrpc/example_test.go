package xrpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"portico/api/atproto/identity"
	"portico/api/atproto/repo"
	"portico/api/atproto/server"
	"portico/api/atproto/sync"
	"portico/api/bsky"
	"portico/api/xrpc"
)

// Sign in, and write a post with a session that refreshes itself.
func ExampleNewSession() {
	host := exampleHost() // as https://pds.example.com
	defer host.Close()
	ctx := context.Background()

	anyone := server.Client{Client: xrpc.Client{Host: host.URL}}
	out, err := anyone.CreateSession(ctx, &server.CreateSessionInput{Identifier: "alice.test", Password: "app-password"})
	if err != nil {
		log.Fatal(err)
	}
	tokens := xrpc.Tokens{DID: out.DID, Access: out.AccessJWT, Refresh: out.RefreshJWT}
	session, err := xrpc.NewSession(anyone.Client, tokens, func(_ context.Context, t xrpc.Tokens) error {
		fmt.Println("write to a file:", t) // t is JSON, and printed without its secrets
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}

	post, err := json.Marshal(bsky.FeedPost{Text: "Hello", CreatedAt: "2026-01-01T00:00:00.000Z"})
	if err != nil {
		log.Fatal(err)
	}
	pds := repo.Client{Client: session.Client()}
	written, err := pds.CreateRecord(ctx, &repo.CreateRecordInput{
		Repo: out.DID.AtIdentifier(), Collection: bsky.FeedPostNSID, Record: post,
	})
	if errors.Is(err, xrpc.ErrSignIn) {
		log.Fatal("the password is needed again: ", err)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(written.URI)
	// Output:
	// write to a file: tokens of did:plc:alice
	// at://did:plc:alice/app.bsky.feed.post/3lhello
}

// Have a PDS pass a call on to another service, and look at the header of the answer.
func ExampleClient_With() {
	host := exampleHost()
	defer host.Close()

	app := bsky.Client{Client: xrpc.Client{Host: host.URL}}
	var header http.Header
	profile, err := app.With(
		xrpc.ProxyTo("did:web:api.bsky.app", "bsky_appview"),
		xrpc.AcceptLabelers(xrpc.Labeler{DID: "did:plc:labeler", Redact: true}),
		xrpc.AnswerHeader(&header),
	).ActorGetProfile(context.Background(), &bsky.ActorGetProfileParams{Actor: "bob.test"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(profile.DID, header.Get("Atproto-Content-Labelers"))
	// Output:
	// passed on to did:web:api.bsky.app#bsky_appview
	// did:plc:bob did:plc:labeler;redact
}

// Send and read what is too large to be held.
func ExampleNewBody() {
	host := exampleHost()
	defer host.Close()
	ctx := context.Background()

	image := strings.NewReader("PNG image") // or an *os.File, which is closed
	pds := repo.Client{Client: xrpc.Client{Host: host.URL}}
	out, err := pds.UploadBlob(ctx, xrpc.NewBody(image, "image/png"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.Blob.MimeType, out.Blob.Size)

	source := sync.Client{Client: pds.Client}
	car, err := source.GetRepo(ctx, &sync.GetRepoParams{DID: "did:plc:alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer car.Close()
	n, err := io.Copy(io.Discard, car) // an error when it breaks off
	fmt.Println(n, err)
	// Output:
	// image/png 9
	// 12 <nil>
}

// Read a firehose that goes away now and then, from a cursor on.
func ExampleFollower() {
	host := exampleHost()
	defer host.Close()
	relay := sync.Client{Client: xrpc.Client{Host: host.URL}}
	enough := errors.New("enough was read")

	f := xrpc.Follower[sync.SubscribeReposMessage]{
		Subscribe: func(ctx context.Context, cursor *int64, out *xrpc.Stream[sync.SubscribeReposMessage]) error {
			return relay.SubscribeRepos(ctx, &sync.SubscribeReposParams{Cursor: cursor}, out)
		},
		Cursor:  new(int64(40)),
		MinWait: time.Millisecond,
		Lost:    func(err error, _ time.Duration) { fmt.Println("connect again:", err) },
	}
	err := f.Follow(context.Background(), func(_ context.Context, m sync.SubscribeReposMessage) error {
		if v, ok := m.Value().(*sync.SubscribeReposIdentity); ok {
			fmt.Println(v.Seq, v.DID)
			if v.Seq == 43 {
				return enough
			}
		}
		return nil
	})
	fmt.Println(err, "behind", *f.Cursor)
	// Output:
	// 41 did:plc:bob
	// 42 did:plc:bob
	// connect again: <nil>
	// 43 did:plc:bob
	// enough was read behind 42
}

// Wait for a host that says when it is less busy.
func ExampleRetry() {
	host := exampleHost()
	defer host.Close()

	pds := identity.Client{Client: xrpc.Client{
		Host:  host.URL,
		Retry: xrpc.Retry{Most: 3, MaxWait: 5 * time.Minute},
		Clock: xrpc.Clock{Sleep: func(_ context.Context, d time.Duration) error { // only here
			fmt.Println("wait", d)
			return nil
		}},
	}}
	out, err := pds.ResolveHandle(context.Background(), &identity.ResolveHandleParams{Handle: "bob.test"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.DID)
	// Output:
	// wait 30s
	// did:plc:bob
}
