package xrpc_test

import (
	"encoding/json"
	"testing"

	"portico/api/atproto/server"
	"portico/api/xrpc"
)

const (
	signIn = `{"identifier":"alice.example.com","password":"correct-horse-battery-staple"}`
	signUp = `{"email":"alice@example.com","handle":"alice.example.com","inviteCode":"pds-example-com-abcde-fghij","password":"correct-horse-battery-staple"}`
)

func BenchmarkUnmarshal(b *testing.B) {
	benchUnmarshal[server.CreateSessionInput](b, "createSession", signIn)
	benchUnmarshal[server.CreateAccountInput](b, "createAccount", signUp)
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
