package plc

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"portico/impl/repo/dagcbor"
)

// terms are those of the server whose rotation key is that of the vector.
var terms = Terms{Handle: "alice.test", Endpoint: "https://pds.example.com", RotationKeys: []string{rotationKey}}

// own is a rotation key of a client's.
func own(t testing.TB) (*atcrypto.PrivateKeyK256, string) {
	t.Helper()
	key := privateKey(t, 3)
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public.DIDKey()
}

// genesis is a first operation that the terms allow, changed and then signed by the
// client's key.
func genesis(t testing.TB, change func(Operation)) []byte {
	t.Helper()
	key, public := own(t)
	op := NewGenesis([]string{public, rotationKey}, signingKey, "alice.test", "https://pds.example.com")
	change(op)
	if err := op.Sign(key); err != nil {
		t.Fatal(err)
	}
	return encode(t, op)
}

func encode(t testing.TB, op Operation) []byte {
	t.Helper()
	b, err := json.Marshal(op)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseGenesis(t *testing.T) {
	_, public := own(t)
	p256, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	other, err := p256.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	bySmallCurve := NewGenesis([]string{other.DIDKey(), rotationKey}, signingKey, "alice.test", "https://pds.example.com")
	if err := bySmallCurve.Sign(p256); err != nil {
		t.Fatal(err)
	}
	keys := func(all ...any) []byte {
		return genesis(t, func(op Operation) { op["rotationKeys"] = all })
	}
	for name, in := range map[string][]byte{
		"client's key first":     genesis(t, func(Operation) {}),
		"server's key first":     keys(rotationKey, public),
		"server's key between":   keys(public, rotationKey, signingKey),
		"four keys":              keys(public, signingKey, other.DIDKey(), rotationKey),
		"signed with P-256":      encode(t, bySmallCurve),
		"signed by the server":   encode(t, genesisVector()),
		"with blanks in between": indented(t, genesisVector()),
	} {
		op, did, key, err := ParseGenesis(in, terms)
		if err != nil || key != signingKey {
			t.Errorf("%s: key %q, %v", name, key, err)
			continue
		}
		if want, err := DID(op); err != nil || did != want {
			t.Errorf("%s: DID %s, want %s, %v", name, did, want, err)
		}
	}
	if _, did, _, _ := ParseGenesis(encode(t, genesisVector()), terms); did != "did:plc:bsrfrnhnso2qhg4g7k3j7ivu" {
		t.Errorf("DID of the vector: %s", did)
	}
}

func indented(t testing.TB, op Operation) []byte {
	t.Helper()
	b, err := json.MarshalIndent(op, "", "    ")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// highS is the other signature of the same numbers.
func highS(t testing.TB, sig, order string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || len(b) != 64 {
		t.Fatalf("signature %q: %v", sig, err)
	}
	n, _ := new(big.Int).SetString(order, 16)
	n.Sub(n, new(big.Int).SetBytes(b[32:])).FillBytes(b[32:])
	return base64.RawURLEncoding.EncodeToString(b)
}

func TestParseGenesisRefuses(t *testing.T) {
	const (
		k256 = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
		p256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
	)
	_, public := own(t)
	set := func(field string, v any) func(Operation) { return func(op Operation) { op[field] = v } }
	service := func(kind, endpoint string, more ...string) map[string]any {
		pds := map[string]any{"type": kind, "endpoint": endpoint}
		for _, field := range more {
			pds[field] = "x"
		}
		return map[string]any{"atproto_pds": pds}
	}
	// resigned is the operation after its signature was changed.
	resigned := func(change func(sig string) string) []byte {
		op, err := Parse(genesis(t, func(Operation) {}))
		if err != nil {
			t.Fatal(err)
		}
		op["sig"] = change(op.Sig())
		return encode(t, op)
	}
	small, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	smallPublic, err := small.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	bySmallCurve := NewGenesis([]string{smallPublic.DIDKey(), rotationKey}, signingKey, "alice.test", "https://pds.example.com")
	if err := bySmallCurve.Sign(small); err != nil {
		t.Fatal(err)
	}
	bySmallCurve["sig"] = highS(t, bySmallCurve.Sig(), p256)
	stranger := NewGenesis([]string{public, rotationKey}, signingKey, "alice.test", "https://pds.example.com")
	if err := stranger.Sign(privateKey(t, 4)); err != nil {
		t.Fatal(err)
	}
	methods := map[string]any{"atproto": signingKey, "atproto_label": signingKey}
	key := func(n int) any {
		p, err := privateKey(t, byte(10+n)).PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return p.DIDKey()
	}
	const (
		notOne    = "invalid plc operation: not a signed operation of type plc_operation"
		unknown   = "invalid plc operation: unknown field"
		handle    = "provided handle does not match DID document handle"
		endpoint  = "DID document pds endpoint does not match service endpoint"
		noKey     = "invalid plc operation: verificationMethods has no did:key for atproto"
		badKey    = "invalid plc operation: invalid rotation key"
		twice     = "invalid plc operation: repeated rotation key"
		notOurs   = "PLC DID does not include service rotation key"
		signature = "invalid plc operation: signature is not a canonical one of a rotation key"
	)
	for _, tt := range []struct {
		name string
		in   []byte
		want string
	}{
		{"null", []byte("null"), notOne},
		{"text", []byte(`"plc_operation"`), notOne},
		{"empty object", []byte("{}"), notOne},
		{"tombstone", []byte(`{"type":"plc_tombstone","prev":"bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm","sig":"x"}`), notOne},
		{"legacy", []byte(`{"type":"create","signingKey":"","recoveryKey":"","handle":"","service":"","prev":null,"sig":"x"}`), notOne},
		{"another type", genesis(t, set("type", "plc_other")), notOne},
		{"number as type", genesis(t, set("type", 1)), notOne},
		{"text as rotation keys", genesis(t, set("rotationKeys", public)), notOne},
		{"number as rotation key", genesis(t, set("rotationKeys", []any{1})), notOne},
		{"array as services", genesis(t, set("services", []any{})), notOne},
		{"no services", genesis(t, func(op Operation) { delete(op, "services") }), notOne},
		{"no prev", genesis(t, func(op Operation) { delete(op, "prev") }), notOne},
		{"no signature", []byte(strings.Replace(string(genesis(t, func(Operation) {})), `"sig":`, `"Sig":`, 1)), notOne},
		{"too large", append(genesis(t, func(Operation) {}), strings.Repeat(" ", 8<<10)...), "invalid plc operation: more than 8192 bytes"},
		{"unknown field", genesis(t, set("nonce", "x")), unknown},
		{"unknown field of the service", genesis(t, set("services", service(ServiceType, "https://pds.example.com", "region"))), unknown},
		{"prev", genesis(t, set("prev", "bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm")), "invalid plc operation: prev is not null"},
		{"empty prev", genesis(t, set("prev", "")), "invalid plc operation: prev is not null"},
		{"another handle", genesis(t, set("alsoKnownAs", []any{"at://bob.test"})), handle},
		{"handle in capitals", genesis(t, set("alsoKnownAs", []any{"at://Alice.test"})), handle},
		{"no handle", genesis(t, set("alsoKnownAs", []any{})), handle},
		{"another name", genesis(t, set("alsoKnownAs", []any{"at://alice.test", "https://alice.example.com"})), "invalid plc operation: alsoKnownAs has more than the handle"},
		{"the handle twice", genesis(t, set("alsoKnownAs", []any{"at://alice.test", "at://alice.test"})), "invalid plc operation: alsoKnownAs has more than the handle"},
		{"another server", genesis(t, set("services", service(ServiceType, "https://pds.example.org"))), endpoint},
		{"the server's name with a slash", genesis(t, set("services", service(ServiceType, "https://pds.example.com/"))), endpoint},
		{"no server", genesis(t, set("services", map[string]any{})), endpoint},
		{"another kind of server", genesis(t, set("services", service("BskyFeedGenerator", "https://pds.example.com"))), "invalid plc operation: incorrect type of atproto_pds"},
		{"another service", genesis(t, func(op Operation) {
			op["services"].(map[string]any)["atproto_labeler"] = map[string]any{"type": "AtprotoLabeler", "endpoint": "https://label.example.com"}
		}), "invalid plc operation: services has more than atproto_pds"},
		{"no signing key", genesis(t, set("verificationMethods", map[string]any{})), noKey},
		{"no did:key as signing key", genesis(t, set("verificationMethods", map[string]any{"atproto": "did:key:\x00"})), noKey},
		{"long signing key", genesis(t, set("verificationMethods", map[string]any{"atproto": "did:key:z" + strings.Repeat("z", 5000)})), noKey},
		{"another key", genesis(t, set("verificationMethods", methods)), "invalid plc operation: verificationMethods has more than atproto"},
		{"no rotation key", genesis(t, set("rotationKeys", []any{})), "invalid plc operation: 0 rotation keys, which must be 1 to 4"},
		{"five rotation keys", genesis(t, set("rotationKeys", []any{public, rotationKey, key(1), key(2), key(3)})), "invalid plc operation: 5 rotation keys, which must be 1 to 4"},
		{"bad rotation key", genesis(t, set("rotationKeys", []any{public, rotationKey, "did:key:nonsense"})), badKey},
		{"Ed25519", genesis(t, set("rotationKeys", []any{public, rotationKey, "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"})), badKey},
		{"the same rotation key", genesis(t, set("rotationKeys", []any{public, rotationKey, public})), twice},
		{"the server's key twice", genesis(t, set("rotationKeys", []any{rotationKey, public, rotationKey})), twice},
		{"without the server's key", genesis(t, set("rotationKeys", []any{public})), notOurs},
		{"signed by a stranger", encode(t, stranger), signature},
		{"signed by the signing key", func() []byte {
			op := NewGenesis([]string{public, rotationKey}, signingKey, "alice.test", "https://pds.example.com")
			if err := op.Sign(privateKey(t, 2)); err != nil {
				t.Fatal(err)
			}
			return encode(t, op)
		}(), signature},
		{"empty signature", resigned(func(string) string { return "" }), signature},
		{"high S", resigned(func(sig string) string { return highS(t, sig, k256) }), signature},
		{"high S on P-256", encode(t, bySmallCurve), signature},
		{"padding", resigned(func(sig string) string { return sig + "==" }), signature},
		{"line break", resigned(func(sig string) string { return sig[:40] + "\n" + sig[40:] }), signature},
		{"half a signature", resigned(func(sig string) string { return sig[:43] }), signature},
	} {
		op, did, key, err := ParseGenesis(tt.in, terms)
		refused, ok := errors.AsType[*GenesisError](err)
		if !ok || refused.Reason != tt.want || op != nil || did != "" || key != "" {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// What a stranger sends takes so much memory for a moment, however long it is.
func TestParseGenesisMemory(t *testing.T) {
	const most = 512 << 10
	for name, in := range map[string]string{
		"too long":      `{"type":"` + strings.Repeat("x", 1<<20) + `"}`,
		"deep":          `{"type":` + strings.Repeat("[", 8000),
		"many fields":   `{` + strings.Repeat(`"":0,`, 1600) + `"":0}`,
		"many arrays":   `{"type":[` + strings.Repeat(`[],`, 2600) + `[]]}`,
		"many keys":     string(genesis(t, func(op Operation) { op["rotationKeys"] = list(make([]string, 2500)) })),
		"long key":      string(genesis(t, func(op Operation) { op["rotationKeys"] = []any{"did:key:z" + strings.Repeat("z", 7000)} })),
		"long numbers":  `{"prev":` + strings.Repeat("9", 8000) + `}`,
		"many services": string(genesis(t, func(op Operation) { op["services"] = services(200) })),
	} {
		const runs = 10
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if _, _, _, err := ParseGenesis([]byte(in), terms); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		runtime.ReadMemStats(&after)
		used := int(after.TotalAlloc-before.TotalAlloc)/runs - len(in)
		if used > most {
			t.Errorf("%s: %d bytes allocated, want at most %d", name, used, most)
		}
	}
}

func services(n int) map[string]any {
	all := map[string]any{}
	for i := range n {
		all[strings.Repeat("s", i)] = map[string]any{"type": "", "endpoint": ""}
	}
	return all
}

// What is taken is what the DID is made of: the directory would take it too.
func FuzzParseGenesis(f *testing.F) {
	f.Add(genesis(f, func(Operation) {}))
	f.Add(encode(f, genesisVector()))
	f.Add(genesis(f, func(op Operation) { op["prev"] = "" }))
	f.Add([]byte(`{"type":"plc_tombstone","prev":"x","sig":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		op, did, key, err := ParseGenesis(b, terms)
		if err != nil {
			if refused, ok := errors.AsType[*GenesisError](err); !ok || len(refused.Reason) > 200 {
				t.Errorf("error %v", err)
			}
			return
		}
		again, sameDID, sameKey, err := ParseGenesis(encode(t, op), terms)
		if err != nil || sameDID != did || sameKey != key || again.Sig() != op.Sig() {
			t.Errorf("through JSON and back: %s, %v; want %s", sameDID, err, did)
		}
		d, _ := op.Data()
		if cbor, err := op.Encode(); err != nil || len(cbor) > 2000 || op["prev"] != nil || len(d.RotationKeys) > 4 || d.Handle() != "alice.test" {
			t.Errorf("taken: %s, %v", b, err)
		}
		if cid, err := op.CID(); err != nil || did.String() != "did:plc:"+didEncoding.EncodeToString(cid[4:])[:24] || cid == (dagcbor.CID{}) {
			t.Errorf("DID %s of the operation %s, %v", did, cid, err)
		}
	})
}
