// Command codec measures what it costs to decode and check bodies, and to encode them: by
// the server's runtime, by encoding/json, which checks nothing, and by what ogen makes of
// openapi.json in the package ogen below this one. It is a module of its own, for what ogen
// needs; the bench fills in the package and runs it with the rows as arguments, and it writes
// a line for each measurement.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/go-faster/jx"

	"portico/api/atproto/repo"
	"portico/api/atproto/server"
	"portico/api/xrpc"

	"portico/cmd/portico/bench/testdata/codec/ogen"
)

const token = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NksifQ.eyJzY29wZSI6ImNvbS5hdHByb3RvLmFjY2VzcyIsImF1ZCI6ImRpZDp3ZWI6cGRzLmV4YW1wbGUuY29tIiwic3ViIjoiZGlkOnBsYzphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3giLCJpYXQiOjE3OTYwODMyMDAsImV4cCI6MTc5NjA5MDQwMH0.c2lnbmF0dXJlIG9mIDY0IGJ5dGVzIHRoYXQgbm9ib2R5IHZlcmlmaWVzIGhlcmUsIGFzIGxvbmcgYXM"

const didDoc = `{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1","https://w3id.org/security/suites/secp256k1-2019/v1"],` +
	`"id":"did:plc:abcdefghijklmnopqrstuvwx","alsoKnownAs":["at://alice.example.com"],"verificationMethod":[{"id":"did:plc:abcdefghijklmnopqrstuvwx#atproto",` +
	`"type":"Multikey","controller":"did:plc:abcdefghijklmnopqrstuvwx","publicKeyMultibase":"zQ3shQo6TF2moaqMTrUZEM1jeuYRQXeHEx4evX9751y2qPqRA"}],` +
	`"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"}]}`

// body is a body in the types of the three.
type body struct {
	name, text string
	ours       func() value
	standard   func() any
	ogen       func() ogenValue
}

type value interface{ Schema() *xrpc.Schema }

type ogenValue interface {
	Decode(d *jx.Decoder) error
	Encode(e *jx.Encoder)
}

// Structs that a programmer would write for encoding/json.
type (
	signIn struct {
		Identifier      string  `json:"identifier"`
		Password        string  `json:"password"`
		AuthFactorToken *string `json:"authFactorToken,omitempty"`
		AllowTakendown  *bool   `json:"allowTakendown,omitempty"`
	}
	session struct {
		AccessJWT       string          `json:"accessJwt"`
		RefreshJWT      string          `json:"refreshJwt"`
		Handle          string          `json:"handle"`
		DID             string          `json:"did"`
		DIDDoc          json.RawMessage `json:"didDoc,omitempty"`
		Email           *string         `json:"email,omitempty"`
		EmailConfirmed  *bool           `json:"emailConfirmed,omitempty"`
		EmailAuthFactor *bool           `json:"emailAuthFactor,omitempty"`
		Active          *bool           `json:"active,omitempty"`
		Status          *string         `json:"status,omitempty"`
	}
	signUp struct {
		Email             *string         `json:"email,omitempty"`
		Handle            string          `json:"handle"`
		DID               *string         `json:"did,omitempty"`
		InviteCode        *string         `json:"inviteCode,omitempty"`
		VerificationCode  *string         `json:"verificationCode,omitempty"`
		VerificationPhone *string         `json:"verificationPhone,omitempty"`
		Password          *string         `json:"password,omitempty"`
		RecoveryKey       *string         `json:"recoveryKey,omitempty"`
		PLCOp             json.RawMessage `json:"plcOp,omitempty"`
	}
	account struct {
		AccessJWT  string          `json:"accessJwt"`
		RefreshJWT string          `json:"refreshJwt"`
		Handle     string          `json:"handle"`
		DID        string          `json:"did"`
		DIDDoc     json.RawMessage `json:"didDoc,omitempty"`
	}
	page struct {
		Cursor  *string `json:"cursor,omitempty"`
		Records []struct {
			URI   string          `json:"uri"`
			CID   string          `json:"cid"`
			Value json.RawMessage `json:"value"`
		} `json:"records"`
	}
)

func of[T any, P interface {
	*T
	value
}]() value {
	return P(new(T))
}

func ogenOf[T any, P interface {
	*T
	ogenValue
}]() ogenValue {
	return P(new(T))
}

func standard[T any]() any { return new(T) }

var bodies = []body{
	{
		"createSession input", `{"identifier":"alice.example.com","password":"correct horse battery staple"}`,
		of[server.CreateSessionInput], standard[signIn], ogenOf[ogen.ComAtprotoServerCreateSessionReq],
	},
	{
		"createSession output", `{"accessJwt":"` + token + `","refreshJwt":"` + token + `","handle":"alice.example.com","did":"did:plc:abcdefghijklmnopqrstuvwx",` +
			`"didDoc":` + didDoc + `,"email":"alice@example.com","emailConfirmed":true,"emailAuthFactor":false,"active":true}`,
		of[server.CreateSessionOutput], standard[session], ogenOf[ogen.ComAtprotoServerCreateSessionOK],
	},
	{
		"createAccount input", `{"email":"alice@example.com","handle":"alice.example.com","inviteCode":"pds-example-com-7ks2h-mq4wd","password":"correct horse battery staple"}`,
		of[server.CreateAccountInput], standard[signUp], ogenOf[ogen.ComAtprotoServerCreateAccountReq],
	},
	{
		"createAccount output", `{"accessJwt":"` + token + `","refreshJwt":"` + token + `","handle":"alice.example.com","did":"did:plc:abcdefghijklmnopqrstuvwx","didDoc":` + didDoc + `}`,
		of[server.CreateAccountOutput], standard[account], ogenOf[ogen.ComAtprotoServerCreateAccountOK],
	},
	{
		"listRecords output, 100 records", records(100),
		of[repo.ListRecordsOutput], standard[page], ogenOf[ogen.ComAtprotoRepoListRecordsOK],
	},
}

func records(n int) string {
	var b strings.Builder
	b.WriteString(`{"cursor":"3lz2vkx4m5c2a","records":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"uri":"at://did:plc:abcdefghijklmnopqrstuvwx/app.bsky.feed.post/3lz2vkx4m5c%02d","cid":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",`+
			`"value":{"$type":"app.bsky.feed.post","text":"The tide comes in twice a day, and this is its post %d.","createdAt":"2026-11-30T12:00:00.000Z","langs":["en"],`+
			`"facets":[{"index":{"byteStart":4,"byteEnd":8},"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com/tide"}]}]}}`, i%100, i)
	}
	b.WriteString("]}")
	return b.String()
}

// work are the two things that are measured of a body, of each program.
func work(b body, what string) (map[string]func() error, error) {
	text := []byte(b.text)
	ours, std, theirs := b.ours(), b.standard(), b.ogen()
	schema := ours.Schema()
	decode := map[string]func() error{
		"server":        func() error { return xrpc.Unmarshal(schema, text, b.ours()) },
		"encoding/json": func() error { return json.Unmarshal(text, b.standard()) },
		"ogen":          func() error { return decodeOgen(text, b.ogen()) },
	}
	if what == "decode" {
		return decode, nil
	}
	if err := xrpc.Unmarshal(schema, text, ours); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, std); err != nil {
		return nil, err
	}
	if err := decodeOgen(text, theirs); err != nil {
		return nil, err
	}
	var out []byte
	encode := map[string]func() error{
		"server":        func() (err error) { out, err = xrpc.Marshal(ours); return err },
		"encoding/json": func() (err error) { out, err = json.Marshal(std); return err },
		"ogen": func() error {
			e := jx.GetEncoder()
			theirs.Encode(e)
			out = bytes.Clone(e.Bytes())
			jx.PutEncoder(e)
			return nil
		},
	}
	for who, do := range encode { // all have to say what was read
		if err := do(); err != nil {
			return nil, fmt.Errorf("%s: %w", who, err)
		}
		var want, got any
		if err := json.Unmarshal(text, &want); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(out, &got); err != nil || !reflect.DeepEqual(want, got) {
			return nil, fmt.Errorf("%s writes %s, want %s (%v)", who, out, text, err)
		}
	}
	return encode, nil
}

func decodeOgen(text []byte, v ogenValue) error {
	if err := v.Decode(jx.DecodeBytes(text)); err != nil {
		return err
	}
	if v, ok := v.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

func main() {
	testing.Init()
	rounds := flag.Int("rounds", 5, "measure everything so many times")
	flag.Parse()
	if err := run(*rounds, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "codec:", err)
		os.Exit(1)
	}
}

// run measures the rows: "decode createSession input". The programs take turns.
func run(rounds int, rows []string) error {
	programs := []string{"server", "encoding/json", "ogen"}
	for _, row := range rows {
		what, name, _ := strings.Cut(row, " ")
		for _, b := range bodies {
			if b.name != name {
				continue
			}
			all, err := work(b, what)
			if err != nil {
				return fmt.Errorf("%s: %w", row, err)
			}
			for round := range rounds {
				for i := range programs {
					who := programs[(i+round)%len(programs)]
					if err := all[who](); err != nil {
						return fmt.Errorf("%s: %s: %w", row, who, err)
					}
					r := testing.Benchmark(func(b *testing.B) {
						for b.Loop() {
							_ = all[who]() // it went well before
						}
					})
					fmt.Printf("%s\t%s\t%d\t%.1f\t%d\t%d\n", row, who, len(b.text), float64(r.T.Nanoseconds())/float64(r.N), r.MemAllocs/uint64(r.N), r.MemBytes/uint64(r.N))
				}
			}
		}
	}
	return nil
}
