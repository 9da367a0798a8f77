package plc

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

type document struct {
	Context            []string         `json:"@context"`
	ID                 syntax.DID       `json:"id"`
	AlsoKnownAs        []string         `json:"alsoKnownAs"`
	VerificationMethod []documentMethod `json:"verificationMethod"`
	Service            []documentEntry  `json:"service"`
}

type documentMethod struct {
	ID                 string     `json:"id"`
	Type               string     `json:"type"`
	Controller         syntax.DID `json:"controller"`
	PublicKeyMultibase string     `json:"publicKeyMultibase"`
}

type documentEntry struct {
	ID              string `json:"id"`
	Type            string `json:"type"`
	ServiceEndpoint string `json:"serviceEndpoint"`
}

// Document returns the DID document of did after op, in the shape that the PLC
// directory gives it today, or nil for a tombstone. Methods and services come in the
// order of their encoding.
func Document(did syntax.DID, op Operation) json.RawMessage {
	d, ok := op.Data()
	if !ok {
		return nil
	}
	doc := document{
		Context:            []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"},
		ID:                 did,
		AlsoKnownAs:        d.AlsoKnownAs,
		VerificationMethod: []documentMethod{},
		Service:            []documentEntry{},
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.VerificationMethods), dagcbor.CompareKeys) {
		key := d.VerificationMethods[id]
		suite := ""
		switch public, _ := atcrypto.ParsePublicDIDKey(key); public.(type) {
		case *atcrypto.PublicKeyK256:
			suite = "https://w3id.org/security/suites/secp256k1-2019/v1"
		case *atcrypto.PublicKeyP256:
			suite = "https://w3id.org/security/suites/ecdsa-2019/v1"
		}
		if suite != "" && !slices.Contains(doc.Context, suite) {
			doc.Context = append(doc.Context, suite)
		}
		doc.VerificationMethod = append(doc.VerificationMethod, documentMethod{
			ID: did.String() + "#" + id, Type: "Multikey", Controller: did,
			PublicKeyMultibase: strings.TrimPrefix(key, "did:key:"),
		})
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.Services), dagcbor.CompareKeys) {
		s := d.Services[id]
		doc.Service = append(doc.Service, documentEntry{ID: "#" + id, Type: s.Type, ServiceEndpoint: s.Endpoint})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return nil // strings cannot fail to encode
	}
	return bytes.TrimSpace(b.Bytes())
}
