package xrpc_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"portico/api/atproto/repo"
	"portico/api/atproto/server"
	"portico/api/bsky"
	"portico/api/xrpc"
)

const (
	signIn = `{"identifier":"alice.example.com","password":"correct-horse-battery-staple"}`
	signUp = `{"email":"alice@example.com","handle":"alice.example.com","inviteCode":"pds-example-com-abcde-fghij","password":"correct-horse-battery-staple"}`
)

func BenchmarkUnmarshal(b *testing.B) {
	benchUnmarshal[server.CreateSessionInput](b, "createSession", signIn)
	benchUnmarshal[server.CreateAccountInput](b, "createAccount", signUp)
	one := `{"uri":"at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.post/3jzfcijpj2z2a",` +
		`"cid":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",` +
		`"value":{"$type":"app.bsky.feed.post","text":"Hello, all of you","createdAt":"2030-01-01T00:00:00.000Z","langs":["en"]}}`
	benchUnmarshal[repo.ListRecordsOutput](b, "listRecords of 100", `{"records":[`+one+strings.Repeat(","+one, 99)+`]}`)
}

func benchUnmarshal[T any, P interface {
	*T
	Schema() *xrpc.Schema
}](b *testing.B, name, body string) {
	schema, data := P(nil).Schema(), []byte(body)
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := xrpc.Unmarshal(schema, data, new(T)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(name+", encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := json.Unmarshal(data, new(T)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMarshal(b *testing.B) {
	out := &server.CreateSessionOutput{
		AccessJWT: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl", RefreshJWT: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
		Handle: "alice.example.com", DID: "did:plc:abcdefghijklmnopqrstuvwx", DIDDoc: json.RawMessage(`{"id":"did:plc:abcdefghijklmnopqrstuvwx","service":[]}`),
		Email: new("alice@example.com"), EmailConfirmed: new(true), Active: new(true),
	}
	b.Run("createSession", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := xrpc.Marshal(out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("createSession, encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(out); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Many may be the first to read and write a type.
func TestFirstUse(t *testing.T) {
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			var in bsky.FeedPost
			data := []byte(`{"$type":"app.bsky.feed.post","text":"Käse","createdAt":"2030-01-01T00:00:00Z","langs":["de"],` +
				`"embed":{"$type":"app.bsky.embed.external","external":{"uri":"https://a.test/ä","title":"","description":""}},` +
				`"facets":[{"index":{"byteStart":0,"byteEnd":1},"features":[{"$type":"app.bsky.richtext.facet#tag","tag":"x"},{"$type":"com.example.new","a":1.5}]}]}`)
			if err := xrpc.Unmarshal(in.Schema(), data, &in); err != nil {
				t.Error(err)
			}
			const want = `{"$type":"app.bsky.feed.post","text":"Käse",` +
				`"facets":[{"index":{"byteStart":0,"byteEnd":1},"features":[{"$type":"app.bsky.richtext.facet#tag","tag":"x"},{"$type":"com.example.new","a":1.5}]}],` +
				`"embed":{"$type":"app.bsky.embed.external","external":{"uri":"https://a.test/ä","title":"","description":""}},` +
				`"langs":["de"],"createdAt":"2030-01-01T00:00:00Z"}`
			if got, err := xrpc.Marshal(&in); err != nil || string(got) != want {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	all.Wait()
}
