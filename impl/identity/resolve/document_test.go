package resolve

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

const alice = syntax.DID("did:plc:gnme2elp3bnvqq53n6oc6qgx")

// What an older and a current directory publish: keys as uncompressed points and as multikeys.
const (
	older = `{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/suites/secp256k1-2019/v1"],
		"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","alsoKnownAs":["at://dom1.test"],
		"verificationMethod":[{"id":"#atproto","type":"EcdsaSecp256k1VerificationKey2019","controller":"did:plc:gnme2elp3bnvqq53n6oc6qgx",
			"publicKeyMultibase":"zR8RzoDXeKQ4SN3ch7M5mRep7gLvKQaHzqA3ynmf98hcTdV9Q8zUqH5FSGvjWEpxDNfSydxPHJBABCuYbcAAFAxWA"}],
		"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"http://localhost:2593"}]}`
	current = `{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1"],
		"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","alsoKnownAs":["https://example.com","at://alice.test","at://old.test"],
		"verificationMethod":[
			{"id":"did:plc:other#atproto","type":"Multikey","controller":"x","publicKeyMultibase":"zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"},
			{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx#atproto","type":"Multikey","controller":"did:plc:gnme2elp3bnvqq53n6oc6qgx","publicKeyMultibase":"zQ3shajmTb29MxR6htjD79Hdo6vneJLvyKCzZSRcawNWks9JC"},
			{"id":"#atproto_label","type":"Multikey","controller":"x","publicKeyMultibase":"zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"},
			{"id":"#jwk","type":"JsonWebKey2020","controller":"x"}],
		"service":[
			{"id":"#object","type":"X","serviceEndpoint":{"uri":"https://x"}},
			{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"}],
		"unknown":{"kept":true}}`
)

func TestParseDocument(t *testing.T) {
	for _, tt := range []struct{ name, text, handle, pds, key string }{
		// The directory that made the older form gives its key, compressed, in the account's operation log.
		{"older directory", older, "dom1.test", "http://localhost:2593", "did:key:zQ3shrwk7QNGvJmfzrMJMaFVRGgLV5hhcr4oaAWevKebYwryE"},
		{"current directory", current, "alice.test", "https://pds.example.com", "did:key:zQ3shajmTb29MxR6htjD79Hdo6vneJLvyKCzZSRcawNWks9JC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := ParseDocument(alice, []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if doc.Handle() != tt.handle || doc.PDS() != tt.pds || string(doc.JSON) != tt.text {
				t.Errorf("handle %q, PDS %q", doc.Handle(), doc.PDS())
			}
			key, err := doc.Key("atproto")
			if err != nil || key.DIDKey() != tt.key {
				t.Errorf("key %v, %v", key, err)
			}
		})
	}
	doc, err := ParseDocument(alice, []byte(current))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := doc.Key("atproto_label"); err != nil || key.DIDKey() != "did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9" {
		t.Errorf("label key %v, %v", key, err)
	}
	for _, name := range []string{"jwk", "none", ""} {
		if _, err := doc.Key(name); !errors.Is(err, ErrKey) {
			t.Errorf("key %q: %v", name, err)
		}
	}
	for name, want := range map[string]string{"object": "", "none": ""} {
		if got := doc.ServiceEndpoint(name, ""); got != want {
			t.Errorf("service %q: %q", name, got)
		}
	}
}

func TestKeyForms(t *testing.T) {
	const compressed = "zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9" // the generator of the curve
	for _, tt := range []struct {
		name string
		m    VerificationMethod
		ok   bool
	}{
		{"multikey", VerificationMethod{Type: "Multikey", Multibase: compressed}, true},
		{"multikey of no multibase", VerificationMethod{Type: "Multikey", Multibase: "x"}, false},
		{"no key", VerificationMethod{Type: "Multikey"}, false},
		{"point of another curve", VerificationMethod{Type: "EcdsaSecp256r1VerificationKey2019", Multibase: "zR8RzoDXeKQ4SN3ch7M5mRep7gLvKQaHzqA3ynmf98hcTdV9Q8zUqH5FSGvjWEpxDNfSydxPHJBABCuYbcAAFAxWA"}, false},
		{"multikey as point", VerificationMethod{Type: "EcdsaSecp256k1VerificationKey2019", Multibase: compressed}, false},
		{"no base58", VerificationMethod{Type: "EcdsaSecp256k1VerificationKey2019", Multibase: "z0OIl"}, false},
		{"very long", VerificationMethod{Type: "EcdsaSecp256k1VerificationKey2019", Multibase: "z" + strings.Repeat("2", 100_000)}, false},
		{"unknown type", VerificationMethod{Type: "Ed25519VerificationKey2020", Multibase: compressed}, false},
	} {
		key, err := tt.m.key()
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrKey) || tt.ok && key.DIDKey() != "did:key:"+compressed {
			t.Errorf("%s: %v, %v", tt.name, key, err)
		}
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"least", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx"}`, true},
		{"context a string", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","@context":"https://www.w3.org/ns/did/v1"}`, true},
		{"context another string", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","@context":"https://example.com"}`, false},
		{"context no URL", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","@context":["x"]}`, false},
		{"context with an object", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","@context":[{}]}`, false},
		{"context null", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","@context":null}`, false},
		{"no id", `{}`, false},
		{"another id", `{"id":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}`, false},
		{"id no string", `{"id":1}`, false},
		{"no JSON", `did`, false},
		{"null", `null`, false},
		{"trailing text", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx"}x`, false},
		{"aliases no strings", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","alsoKnownAs":[1]}`, false},
		{"key null", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","verificationMethod":[null]}`, false},
		{"service without endpoint", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","service":[{"id":"#a","type":"b"}]}`, false},
		{"endpoint a number", `{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","service":[{"id":"#a","type":"b","serviceEndpoint":1}]}`, false},
	} {
		if _, err := ParseDocument(alice, []byte(tt.text)); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrDocument) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestServiceEndpoint(t *testing.T) {
	for endpoint, want := range map[string]string{
		`"https://pds.example.com"`:    "https://pds.example.com",
		`"http://localhost:2583"`:      "http://localhost:2583",
		`"https://pds.example.com/x/"`: "https://pds.example.com/x/",
		`"ftp://pds.example.com"`:      "",
		`"https://"`:                   "",
		`"https://a b"`:                "",
		`"https:pds"`:                  "",
		`{"uri":"https://x"}`:          "",
	} {
		doc := &Document{DID: alice, Services: []Service{{ID: "#atproto_pds", Type: "AtprotoPersonalDataServer", Endpoint: json.RawMessage(endpoint)}}}
		if got := doc.PDS(); got != want {
			t.Errorf("%s: %q", endpoint, got)
		}
		doc.Services[0].Type = "Other"
		if got := doc.PDS(); got != "" {
			t.Errorf("%s of another type: %q", endpoint, got)
		}
	}
}

func FuzzParseDocument(f *testing.F) {
	f.Add(older)
	f.Add(current)
	f.Add(`{"id":"did:plc:gnme2elp3bnvqq53n6oc6qgx","@context":[null],"service":[{"id":"x#y","type":"z","serviceEndpoint":{}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := ParseDocument(alice, []byte(text))
		if err != nil {
			if !errors.Is(err, ErrDocument) {
				t.Error(err)
			}
			return
		}
		doc.Handle()
		doc.PDS()
		for _, k := range doc.Keys {
			k.key()
		}
		doc.Key("atproto")
	})
}
