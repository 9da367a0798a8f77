package plc

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/google/go-cmp/cmp"
)

const (
	rotationKey = "did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"
	signingKey  = "did:key:zQ3shajmTb29MxR6htjD79Hdo6vneJLvyKCzZSRcawNWks9JC"
)

func privateKey(t testing.TB, n byte) *atcrypto.PrivateKeyK256 {
	t.Helper()
	b := make([]byte, 32)
	b[31] = n
	key, err := atcrypto.ParsePrivateBytesK256(b)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// genesisVector is the first operation of the specification's example, with the
// signature that a deterministic signer gives.
func genesisVector() Operation {
	op := NewGenesis([]string{rotationKey}, signingKey, "alice.test", "https://pds.example.com")
	op["sig"] = "hqVPyNVlRzNLs4ho5rj6jf3Jh_9871YvFZk_Mo30Q3IliRKk-2tTm4UpKJFrTM66rlc_dzrTaiEWlDGRVflOxA"
	return op
}

func TestVector(t *testing.T) {
	genesis := genesisVector()
	b, err := genesis.unsigned()
	if err != nil {
		t.Fatal(err)
	}
	const want = "a66470726576f664747970656d706c635f6f7065726174696f6e687365727669636573a16b617470726f746f5f706473a264747970657819417470726f746f506572736f6e616c4461746153657276657268656e64706f696e747768747470733a2f2f7064732e6578616d706c652e636f6d6b616c736f4b6e6f776e4173816f61743a2f2f616c6963652e746573746c726f746174696f6e4b6579738178396469643a6b65793a7a51337368566332556b41664a436463315452384536364a383568343850343372393371386a47506b50706a463945663973766572696669636174696f6e4d6574686f6473a167617470726f746f78396469643a6b65793a7a51337368616a6d546232394d78523668746a44373948646f36766e654a4c76794b437a5a53526361774e576b73394a43"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("unsigned bytes:\n got %s\nwant %s", got, want)
	}
	update, err := Update(genesis, func(d *Data) { d.SetHandle("alice.example.com") })
	if err != nil {
		t.Fatal(err)
	}
	update["sig"] = "PnJP19BxTp6yg-0vRNbhHHWudIwYfpH39onDJMWgu8BM_eoUSyMTDhm_cq4Q7W2frpgbXg19w3WPkrO4Y7tWCw"
	tombstone, err := NewTombstone(update)
	if err != nil {
		t.Fatal(err)
	}
	tombstone["sig"] = "oV7puzCDdEiS19LXrMjRXSP5zdL6VYlSbvpQB4RMqNleV_K8IqJj7bDZC6N2rFzsG5em9i4tykmTcdw23Z1YOQ"
	for _, tt := range []struct {
		name      string
		op        Operation
		prev, cid string
	}{
		{"genesis", genesis, "", "bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm"},
		{"update", update, "bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm", "bafyreih7elovu36e4qpgwrdfojr6en36ifgtlkp3hp4dwbnrd72tvy6rue"},
		{"tombstone", tombstone, "bafyreih7elovu36e4qpgwrdfojr6en36ifgtlkp3hp4dwbnrd72tvy6rue", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.op.Prev(); got != tt.prev {
				t.Errorf("prev: got %s, want %s", got, tt.prev)
			}
			if cid, err := tt.op.CID(); err != nil || (tt.cid != "" && cid.String() != tt.cid) {
				t.Errorf("CID: got %s, %v; want %s", cid, err, tt.cid)
			}
			if i, err := tt.op.Verify([]string{signingKey, "did:key:junk", rotationKey}); i != 2 || err != nil {
				t.Errorf("Verify: got %d, %v; want 2", i, err)
			}
			j, err := json.Marshal(tt.op)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Parse(j)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.op, back); diff != "" {
				t.Errorf("through JSON and back (-want +got):\n%s", diff)
			}
		})
	}
	if did, err := DID(genesis); err != nil || did != "did:plc:bsrfrnhnso2qhg4g7k3j7ivu" {
		t.Errorf("DID: got %s, %v", did, err)
	}
	if _, err := DID(update); !errors.Is(err, ErrOperation) {
		t.Errorf("DID of an update: got %v, want ErrOperation", err)
	}
	if _, err := Update(tombstone, func(*Data) {}); !errors.Is(err, ErrTombstoned) {
		t.Errorf("update after a tombstone: got %v, want ErrTombstoned", err)
	}
	if _, err := NewTombstone(tombstone); !errors.Is(err, ErrTombstoned) {
		t.Errorf("tombstone after a tombstone: got %v, want ErrTombstoned", err)
	}
}

func TestSign(t *testing.T) {
	op := NewGenesis([]string{rotationKey, rotationKey}, signingKey, "alice.test", "https://pds.example.com")
	if _, err := op.CID(); !errors.Is(err, ErrSignature) {
		t.Errorf("CID of an unsigned operation: got %v, want ErrSignature", err)
	}
	if _, err := DID(op); !errors.Is(err, ErrSignature) {
		t.Errorf("DID of an unsigned operation: got %v, want ErrSignature", err)
	}
	for range 20 {
		if err := op.Sign(privateKey(t, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := op.Verify([]string{rotationKey}); err != nil {
			t.Fatalf("own signature: %v", err)
		}
	}
	if _, err := op.Verify([]string{signingKey}); !errors.Is(err, ErrSignature) {
		t.Errorf("signature by another key: got %v, want ErrSignature", err)
	}
	if d, _ := op.Data(); len(d.RotationKeys) != 1 {
		t.Errorf("rotation keys %q: want the repeated one once", d.RotationKeys)
	}
	op["more"] = "x"
	if _, err := op.Verify([]string{rotationKey}); !errors.Is(err, ErrSignature) {
		t.Errorf("signature over other fields: got %v, want ErrSignature", err)
	}
}

func TestVerifyP256(t *testing.T) {
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	op := NewGenesis([]string{public.DIDKey()}, signingKey, "alice.test", "https://pds.example.com")
	if err := op.Sign(key); err != nil {
		t.Fatal(err)
	}
	if _, err := op.Verify([]string{rotationKey, public.DIDKey()}); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	sig := genesisVector().Sig()
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		t.Fatal(err)
	}
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	high := append(raw[:32:32], new(big.Int).Sub(order, new(big.Int).SetBytes(raw[32:])).FillBytes(make([]byte, 32))...)
	der := append([]byte{0x30, 0x45, 0x02, 0x21, 0x00}, raw[:32]...)
	der = append(append(der, 0x02, 0x20), raw[32:]...)
	for name, text := range map[string]string{
		"none":             "",
		"high S":           base64.RawURLEncoding.EncodeToString(high),
		"DER":              base64.RawURLEncoding.EncodeToString(der),
		"padding":          sig + "==",
		"trailing bits":    sig[:85] + "B",
		"CR":               sig[:40] + "\r" + sig[40:],
		"LF":               sig + "\n",
		"LF for a letter":  sig[:85] + "\n",
		"standard base64":  strings.NewReplacer("-", "+", "_", "/").Replace(sig),
		"63 bytes":         base64.RawURLEncoding.EncodeToString(raw[:63]),
		"65 bytes":         base64.RawURLEncoding.EncodeToString(append(raw[:64:64], 0)),
		"zero":             base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"hex":              hex.EncodeToString(raw),
		"another message":  base64.RawURLEncoding.EncodeToString(append(raw[32:64:64], raw[:32]...)),
		"space at the end": sig + " ",
	} {
		op := genesisVector()
		op["sig"] = text
		if _, err := op.Verify([]string{rotationKey}); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v, want ErrSignature", name, err)
		}
	}
}

func TestLegacy(t *testing.T) {
	op := Operation{"type": "create", "signingKey": signingKey, "recoveryKey": rotationKey, "handle": "https://alice.test",
		"service": "pds.example.com", "prev": nil}
	if err := op.Sign(privateKey(t, 1)); err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(op)
	if err != nil {
		t.Fatal(err)
	}
	op, err = Parse(j)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := op.Data()
	if !ok {
		t.Fatal("no data")
	}
	want := Data{
		RotationKeys:        []string{rotationKey, signingKey},
		VerificationMethods: map[string]string{"atproto": signingKey},
		AlsoKnownAs:         []string{"at://alice.test"},
		Services:            map[string]Service{"atproto_pds": {"AtprotoPersonalDataServer", "https://pds.example.com"}},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := op.Verify(d.RotationKeys); err != nil {
		t.Error(err)
	}
	b, err := op.Encode()
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(b)
	if did, err := DID(op); err != nil || did.String() != "did:plc:"+didEncoding.EncodeToString(hash[:])[:24] {
		t.Errorf("DID: got %s, %v", did, err)
	}
	next, err := Update(op, func(d *Data) { d.SetHandle("bob.test") })
	if err != nil {
		t.Fatal(err)
	}
	cid, _ := op.CID()
	if next.Prev() != cid.String() || next.Type() != "plc_operation" {
		t.Errorf("update of a legacy operation: %v", next)
	}
}

func TestSetHandle(t *testing.T) {
	for _, tt := range []struct {
		name         string
		before, want []string
	}{
		{"none", nil, []string{"at://new.test"}},
		{"only others", []string{"https://a", "did:web:b"}, []string{"at://new.test", "https://a", "did:web:b"}},
		{"first of several", []string{"https://a", "at://old.test", "at://older.test"}, []string{"https://a", "at://new.test", "at://older.test"}},
	} {
		d := Data{AlsoKnownAs: tt.before}
		d.SetHandle("new.test")
		if diff := cmp.Diff(tt.want, d.AlsoKnownAs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if d.Handle() != "new.test" {
			t.Errorf("%s: Handle gives %s", tt.name, d.Handle())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const good = `{"type":"plc_operation","rotationKeys":[],"verificationMethods":{},"alsoKnownAs":[],"services":{},"prev":null,"sig":"x"}`
	if op, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	} else if b, err := op.unsigned(); err != nil || hex.EncodeToString(b) != "a66470726576f664747970656d706c635f6f7065726174696f6e687365727669636573a06b616c736f4b6e6f776e4173806c726f746174696f6e4b6579738073766572696669636174696f6e4d6574686f6473a0" {
		t.Errorf("empty collections: %x, %v", b, err)
	}
	if _, err := Parse([]byte(strings.Replace(good, `"sig"`, `"extra":{"a":[1,true,null]},"sig"`, 1))); err != nil {
		t.Errorf("an extra field: %v", err)
	}
	for name, in := range map[string]string{
		"empty":                    ``,
		"null":                     `null`,
		"array":                    `[]`,
		"trailing":                 good + `{}`,
		"no type":                  strings.Replace(good, `"type":"plc_operation",`, ``, 1),
		"unknown type":             strings.Replace(good, `plc_operation`, `plc_other`, 1),
		"no prev":                  strings.Replace(good, `"prev":null,`, ``, 1),
		"number as prev":           strings.Replace(good, `"prev":null`, `"prev":1`, 1),
		"no sig":                   strings.Replace(good, `,"sig":"x"`, ``, 1),
		"null as keys":             strings.Replace(good, `"rotationKeys":[]`, `"rotationKeys":null`, 1),
		"number in names":          strings.Replace(good, `"alsoKnownAs":[]`, `"alsoKnownAs":[1]`, 1),
		"array as methods":         strings.Replace(good, `"verificationMethods":{}`, `"verificationMethods":[]`, 1),
		"null as method":           strings.Replace(good, `"verificationMethods":{}`, `"verificationMethods":{"a":null}`, 1),
		"service without endpoint": strings.Replace(good, `"services":{}`, `"services":{"a":{"type":"b"}}`, 1),
		"string as services":       strings.Replace(good, `"services":{}`, `"services":"a"`, 1),
		"fraction":                 strings.Replace(good, `"sig"`, `"n":1.5,"sig"`, 1),
		"2^53":                     strings.Replace(good, `"sig"`, `"n":9007199254740992,"sig"`, 1),
		"depth":                    strings.Replace(good, `"sig"`, `"n":`+strings.Repeat("[", 300)+strings.Repeat("]", 300)+`,"sig"`, 1),
		"tombstone without prev":   `{"type":"plc_tombstone","prev":null,"sig":"x"}`,
		"legacy with prev":         `{"type":"create","signingKey":"","recoveryKey":"","handle":"","service":"","prev":"x","sig":"x"}`,
		"legacy without service":   `{"type":"create","signingKey":"","recoveryKey":"","handle":"","prev":null,"sig":"x"}`,
	} {
		if op, err := Parse([]byte(in)); !errors.Is(err, ErrOperation) || op != nil {
			t.Errorf("%s: got %v, %v; want ErrOperation", name, op, err)
		}
	}
}

func TestDocument(t *testing.T) {
	const did = "did:plc:bsrfrnhnso2qhg4g7k3j7ivu"
	got := string(Document(did, genesisVector()))
	const want = `{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1","https://w3id.org/security/suites/secp256k1-2019/v1"],` +
		`"id":"did:plc:bsrfrnhnso2qhg4g7k3j7ivu","alsoKnownAs":["at://alice.test"],` +
		`"verificationMethod":[{"id":"did:plc:bsrfrnhnso2qhg4g7k3j7ivu#atproto","type":"Multikey","controller":"did:plc:bsrfrnhnso2qhg4g7k3j7ivu","publicKeyMultibase":"zQ3shajmTb29MxR6htjD79Hdo6vneJLvyKCzZSRcawNWks9JC"}],` +
		`"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"}]}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var doc identity.DIDDocument
	if err := json.Unmarshal([]byte(got), &doc); err != nil {
		t.Fatal(err)
	}
	who := identity.ParseIdentity(&doc)
	if key, err := who.PublicKey(); err != nil || key.DIDKey() != signingKey {
		t.Errorf("key as indigo reads it: %v, %v", key, err)
	}
	if who.PDSEndpoint() != "https://pds.example.com" {
		t.Errorf("server as indigo reads it: %s", who.PDSEndpoint())
	}
	if got := Document(did, Operation{"type": "plc_tombstone"}); got != nil {
		t.Errorf("document of a tombstone: %s", got)
	}
	empty := string(Document(did, New(Data{}, "")))
	if empty != `{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1"],"id":"did:plc:bsrfrnhnso2qhg4g7k3j7ivu","alsoKnownAs":[],"verificationMethod":[],"service":[]}` {
		t.Errorf("document of nothing: %s", empty)
	}
}

func TestCheckRotationKey(t *testing.T) {
	if err := CheckRotationKey(rotationKey); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"", "x", "did:key:", "did:key:z", "did:key:zzz", rotationKey[:len(rotationKey)-1], "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"} {
		if err := CheckRotationKey(key); !errors.Is(err, ErrKey) {
			t.Errorf("%q: got %v, want ErrKey", key, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	j, err := json.Marshal(genesisVector())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(j)
	f.Add([]byte(`{"type":"plc_tombstone","prev":"x","sig":"x","n":-1}`))
	f.Add([]byte(`{"type":"create","signingKey":"","recoveryKey":"","handle":"","service":"","prev":null,"sig":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		op, err := Parse(b)
		if err != nil {
			return
		}
		encoded, err := op.Encode()
		if err != nil {
			t.Fatalf("parsed but cannot be encoded: %v", err)
		}
		j, err := json.Marshal(op)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(j)
		if err != nil {
			t.Fatalf("parsed but not a second time: %v", err)
		}
		if again, _ := back.Encode(); string(again) != string(encoded) {
			t.Errorf("encodes to %x and then to %x", encoded, again)
		}
		d, ok := op.Data()
		if ok == (op.Type() == TypeTombstone) {
			t.Errorf("data of a %s: %v", op.Type(), ok)
		}
		_, _ = op.Verify(d.RotationKeys)
		Document("did:plc:bsrfrnhnso2qhg4g7k3j7ivu", op)
	})
}

func BenchmarkSign(b *testing.B) {
	op, key := genesisVector(), privateKey(b, 1)
	for b.Loop() {
		if err := op.Sign(key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	op := genesisVector()
	for b.Loop() {
		if _, err := op.Verify([]string{rotationKey}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	j, err := json.Marshal(genesisVector())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Parse(j); err != nil {
			b.Fatal(err)
		}
	}
}
