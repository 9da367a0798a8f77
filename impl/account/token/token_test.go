package token

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"
)

const (
	service = "did:web:pds.example.com"
	alice   = syntax.DID("did:plc:gnme2elp3bnvqq53n6oc6qgx")
)

var noon = time.Unix(1795383345, 0).UTC()

func issuer(tb testing.TB) *Issuer {
	tb.Helper()
	return &Issuer{
		Secret:     []byte("secret"),
		ServiceDID: service,
		Now:        func() time.Time { return noon },
		Rand:       rand.Reader,
	}
}

// forge signs any header and payload text with the issuer's secret.
func forge(tb testing.TB, alg, header, payload string) string {
	tb.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(header)) + "." + enc([]byte(payload))
	sig, err := jwt.GetSigningMethod(alg).Sign(text, []byte("secret"))
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + enc(sig)
}

func segment(tb testing.TB, token string, n int) string {
	tb.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestWireFormat(t *testing.T) {
	i := issuer(t)
	access := i.Access(alice, "com.atproto.appPass", noon.Add(700*time.Millisecond))
	refresh := i.Refresh(alice, "PPNLBAlTcUgqFDcPbEivIzg1zoOitB7Vr12CGj96dAU", noon)
	for _, tt := range []struct{ name, got, want string }{
		{"access header", segment(t, access, 0), `{"typ":"at+jwt","alg":"HS256"}`},
		{"access claims", segment(t, access, 1), `{"scope":"com.atproto.appPass","aud":"did:web:pds.example.com","sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx","iat":1795383345,"exp":1795390545}`},
		{"refresh header", segment(t, refresh, 0), `{"typ":"refresh+jwt","alg":"HS256"}`},
		{"refresh claims", segment(t, refresh, 1), `{"scope":"com.atproto.refresh","aud":"did:web:pds.example.com","sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx","jti":"PPNLBAlTcUgqFDcPbEivIzg1zoOitB7Vr12CGj96dAU","iat":1795383345,"exp":1803159345}`},
	} {
		if tt.got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, tt.got, tt.want)
		}
	}
	// Any JWT library must find the signature good.
	if _, err := jwt.NewParser(jwt.WithTimeFunc(func() time.Time { return noon })).Parse(access, func(*jwt.Token) (any, error) { return []byte("secret"), nil }); err != nil {
		t.Error(err)
	}
}

func TestScopeValues(t *testing.T) {
	for _, tt := range []struct {
		set  Scopes
		want string
	}{
		{Full, "com.atproto.access"},
		{Privileged, "com.atproto.access com.atproto.appPassPrivileged"},
		{Standard, "com.atproto.access com.atproto.appPassPrivileged com.atproto.appPass"},
		{Full.With(Takendown, SignupQueued, Refresh), "com.atproto.access com.atproto.takendown com.atproto.signupQueued com.atproto.refresh"},
		{Scopes{ForAppPassword(true), ForAppPassword(false)}, "com.atproto.appPassPrivileged com.atproto.appPass"},
	} {
		var names []string
		for _, s := range tt.set {
			names = append(names, string(s))
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	i := issuer(t)
	c, err := i.VerifyAccess(i.Access(alice, Access, noon), Full)
	if want := (Claims{DID: alice, Scope: "com.atproto.access", IssuedAt: noon, ExpiresAt: noon.Add(2 * time.Hour)}); err != nil || c != want {
		t.Errorf("access: %+v, %v", c, err)
	}
	c, err = i.VerifyRefresh(i.Refresh(alice, "id", noon))
	if want := (Claims{DID: alice, Scope: "com.atproto.refresh", ID: "id", IssuedAt: noon, ExpiresAt: noon.AddDate(0, 0, 90)}); err != nil || c != want {
		t.Errorf("refresh: %+v, %v", c, err)
	}
}

func TestVerifyAccess(t *testing.T) {
	const header = `{"typ":"at+jwt","alg":"HS256"}`
	const good = `{"scope":"com.atproto.access","aud":"did:web:pds.example.com","sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx","iat":1795383345,"exp":1795383346}`
	claims := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the claims", old)
		}
		return forge(t, "HS256", header, strings.Replace(good, old, new, 1))
	}
	i := issuer(t)
	valid := forge(t, "HS256", header, good)
	other := issuer(t)
	other.Secret = []byte("Secret")
	segmentOf := func(n int) string { return strings.Split(valid, ".")[n] }
	// reseal puts another text in place of a segment, and signs it as it stands.
	reseal := func(n int, text string) string {
		part := strings.Split(valid, ".")[:2]
		part[n] = text
		sealed := strings.Join(part, ".")
		sig, err := jwt.SigningMethodHS256.Sign(sealed, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		return sealed + "." + base64.RawURLEncoding.EncodeToString(sig)
	}

	// loosen encodes a text whose length is no multiple of three, with a bit set that no text has.
	loosen := func(text string) string {
		b := []byte(base64.RawURLEncoding.EncodeToString([]byte(text)))
		b[len(b)-1]++
		return string(b)
	}

	for _, tt := range []struct {
		name, token string
		want        error
	}{
		{"good", valid, nil},
		{"none", "", ErrMissing},

		{"HS384", forge(t, "HS384", `{"typ":"at+jwt","alg":"HS384"}`, good), nil},
		{"HS512", forge(t, "HS512", `{"alg":"HS512","typ":"at+jwt"}`, good), nil},
		{"typ in capitals with prefix", forge(t, "HS256", `{"typ":"Application/AT+JWT","alg":"HS256"}`, good), nil},
		{"typ of a refresh token", forge(t, "HS256", `{"typ":"refresh+jwt","alg":"HS256"}`, good), ErrUnverifiable},
		{"no typ", forge(t, "HS256", `{"alg":"HS256"}`, good), ErrUnverifiable},
		{"typ no string", forge(t, "HS256", `{"typ":["at+jwt"],"alg":"HS256"}`, good), ErrUnverifiable},
		{"header key in capitals", forge(t, "HS256", `{"TYP":"at+jwt","alg":"HS256"}`, good), ErrUnverifiable},
		{"crit", forge(t, "HS256", `{"typ":"at+jwt","alg":"HS256","crit":["x"],"x":1}`, good), ErrUnverifiable},
		{"alg none", strings.Join([]string{base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"at+jwt","alg":"none"}`)), strings.Split(valid, ".")[1], ""}, "."), ErrUnverifiable},
		{"alg RS256 keyed with the secret", forge(t, "HS256", `{"typ":"at+jwt","alg":"RS256"}`, good), ErrUnverifiable},
		{"alg in small letters", forge(t, "HS256", `{"typ":"at+jwt","alg":"hs256"}`, good), ErrUnverifiable},
		{"no alg", forge(t, "HS256", `{"typ":"at+jwt"}`, good), ErrUnverifiable},
		{"alg null", forge(t, "HS256", `{"typ":"at+jwt","alg":null}`, good), ErrUnverifiable},
		{"alg twice", forge(t, "HS256", `{"typ":"at+jwt","alg":"HS256","alg":"none"}`, good), ErrUnverifiable},
		{"typ twice", forge(t, "HS256", `{"typ":"at+jwt","alg":"HS256","typ":"refresh+jwt"}`, good), ErrUnverifiable},
		{"crit null", forge(t, "HS256", `{"typ":"at+jwt","alg":"HS256","crit":null}`, good), ErrUnverifiable},
		{"crit b64", forge(t, "HS256", `{"typ":"at+jwt","alg":"HS256","b64":false,"crit":["b64"]}`, good), ErrUnverifiable},
		{"b64 that need not be understood", forge(t, "HS256", `{"typ":"at+jwt","alg":"HS256","b64":false}`, good), nil},
		{"header with more behind it", forge(t, "HS256", `{"typ":"at+jwt","alg":"HS256"}{}`, good), ErrUnverifiable},
		{"header an array", forge(t, "HS256", `["at+jwt"]`, good), ErrUnverifiable},
		{"header empty", forge(t, "HS256", ``, good), ErrUnverifiable},
		{"alg not the one used", forge(t, "HS384", header, good), ErrUnverifiable},
		{"other secret", other.Access(alice, Access, noon), ErrUnverifiable},
		{"one segment", "x", ErrUnverifiable},
		{"two segments", strings.Join(strings.Split(valid, ".")[:2], "."), ErrUnverifiable},
		{"four segments", valid + ".", ErrUnverifiable},
		{"padded", valid + "=", ErrUnverifiable},
		{"header padded", reseal(0, segmentOf(0)+"="), ErrUnverifiable},
		{"claims padded", reseal(1, segmentOf(1)+"="), ErrUnverifiable},
		{"line break in the header", reseal(0, "\r\n"+segmentOf(0)), ErrUnverifiable},
		{"line break in the claims", reseal(1, segmentOf(1)+"\n"), ErrUnverifiable},
		{"other alphabet in the header", reseal(0, base64.RawStdEncoding.EncodeToString([]byte(`{"typ":"at+jwt","alg":"HS256","a":"???>>>"}`))), ErrUnverifiable},
		{"loose bits in the header", reseal(0, loosen(header+" ")), ErrUnverifiable},
		{"loose bits in the claims", reseal(1, loosen(good)), ErrUnverifiable},
		{"loose bits in the signature", valid[:len(valid)-1] + string(valid[len(valid)-1]+1), ErrUnverifiable},
		{"signature empty", valid[:strings.LastIndexByte(valid, '.')+1], ErrUnverifiable},
		{"signature cut", valid[:len(valid)-4], ErrUnverifiable},
		{"line break in the signature", valid[:len(valid)-4] + "\n" + valid[len(valid)-4:], ErrUnverifiable},
		{"header no JSON", forge(t, "HS256", `{`, good), ErrUnverifiable},
		{"header null", forge(t, "HS256", `null`, good), ErrUnverifiable},
		{"claims no JSON", forge(t, "HS256", header, `x`), ErrUnverifiable},
		{"claims an array", forge(t, "HS256", header, `[]`), ErrUnverifiable},
		{"claims with more behind them", forge(t, "HS256", header, good+`{}`), ErrUnverifiable},
		{"claims with blanks behind them", forge(t, "HS256", header, good+" \n"), nil},
		{"claims of bad UTF-8", forge(t, "HS256", header, strings.Replace(good, `{`, "{\"a\":\"\xff\",", 1)), nil},
		{"claims null", forge(t, "HS256", header, `null`), ErrUnverifiable},

		{"other aud", claims(`"aud":"did:web:pds.example.com"`, `"aud":"did:web:other.example.com"`), ErrUnverifiable},
		{"no aud", claims(`"aud":"did:web:pds.example.com",`, ``), ErrUnverifiable},
		{"aud null", claims(`"aud":"did:web:pds.example.com"`, `"aud":null`), ErrUnverifiable},
		{"aud with fragment", claims(`pds.example.com"`, `pds.example.com#x"`), ErrUnverifiable},
		{"aud an array without us", claims(`"aud":"did:web:pds.example.com"`, `"aud":["did:web:a","did:web:b"]`), ErrUnverifiable},
		{"aud an array with us", claims(`"aud":"did:web:pds.example.com"`, `"aud":["did:web:pds.example.com"]`), ErrMalformed},
		{"aud an array with us, expired", claims(`"aud":"did:web:pds.example.com","sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx","iat":1795383345,"exp":1795383346`, `"aud":["did:web:pds.example.com"],"exp":1`), ErrExpired},
		{"aud empty", claims(`"aud":"did:web:pds.example.com"`, `"aud":""`), ErrUnverifiable},
		{"aud an empty array", claims(`"aud":"did:web:pds.example.com"`, `"aud":[]`), ErrUnverifiable},
		{"aud a number", claims(`"aud":"did:web:pds.example.com"`, `"aud":7`), ErrUnverifiable},
		{"aud an array of more than texts", claims(`"aud":"did:web:pds.example.com"`, `"aud":[7,"did:web:pds.example.com"]`), ErrMalformed},
		{"aud twice", claims(`"aud":"did:web:pds.example.com"`, `"aud":"did:web:pds.example.com","aud":"did:web:other.example.com"`), ErrUnverifiable},
		{"aud twice, ours last", claims(`"aud":`, `"aud":"did:web:other.example.com","aud":`), nil},
		{"aud in capitals", claims(`"aud"`, `"AUD"`), ErrUnverifiable},
		{"AUD beside aud", claims(`{`, `{"AUD":"did:web:other.example.com",`), nil},
		{"nbf now", claims(`"iat":1795383345`, `"nbf":1795383345`), nil},
		{"nbf in a second", claims(`"iat":1795383345`, `"nbf":1795383346`), ErrUnverifiable},
		{"nbf in a second and expired", claims(`"iat":1795383345,"exp":1795383346`, `"nbf":1795383346,"exp":1`), ErrUnverifiable},
		{"nbf no number", claims(`"iat":1795383345`, `"nbf":"1"`), ErrUnverifiable},
		{"iat no number", claims(`"iat":1795383345`, `"iat":"1"`), ErrUnverifiable},
		{"iat in the future", claims(`"iat":1795383345`, `"iat":1999999999`), nil},
		{"exp now", claims(`"exp":1795383346`, `"exp":1795383345`), ErrExpired},
		{"exp in half a second", claims(`"exp":1795383346`, `"exp":1795383345.5`), nil},
		{"exp half a second ago", claims(`"exp":1795383346`, `"exp":1795383344.5`), ErrExpired},
		{"exp in other digits", claims(`"exp":1795383346`, `"exp":1.795383346e9`), nil},
		{"exp with a leading zero", claims(`"exp":1795383346`, `"exp":01795383346`), ErrUnverifiable},
		{"exp too large to read", claims(`"exp":1795383346`, `"exp":1e999`), ErrUnverifiable},
		{"exp zero", claims(`"exp":1795383346`, `"exp":0`), ErrExpired},
		{"exp negative", claims(`"exp":1795383346`, `"exp":-1`), ErrExpired},
		{"exp hugely negative", claims(`"exp":1795383346`, `"exp":-1e300`), ErrExpired},
		{"exp twice", claims(`"exp":1795383346`, `"exp":1795383346,"exp":1`), ErrExpired},
		{"EXP beside exp", claims(`{`, `{"EXP":1,`), nil},
		{"exp in capitals alone", claims(`"exp":1795383346`, `"EXP":1`), nil},
		{"nbf huge", claims(`"iat":1795383345`, `"nbf":1e300`), ErrUnverifiable},
		{"nbf half a second ahead", claims(`"iat":1795383345`, `"nbf":1795383345.5`), ErrUnverifiable},
		{"nbf null", claims(`"iat":1795383345`, `"nbf":null`), ErrUnverifiable},
		{"iat null", claims(`"iat":1795383345`, `"iat":null`), ErrUnverifiable},
		{"iat huge", claims(`"iat":1795383345`, `"iat":1e300`), nil},
		{"exp no number", claims(`"exp":1795383346`, `"exp":"1795383346"`), ErrUnverifiable},
		{"exp null", claims(`"exp":1795383346`, `"exp":null`), ErrUnverifiable},
		{"no exp", claims(`,"exp":1795383346`, ``), nil},
		{"exp huge", claims(`"exp":1795383346`, `"exp":1e300`), nil},

		{"lxm", claims(`{`, `{"lxm":"com.atproto.server.getSession",`), ErrMalformed},
		{"cnf", claims(`{`, `{"cnf":{"jkt":"x"},`), ErrMalformed},
		{"lxm null", claims(`{`, `{"lxm":null,`), ErrMalformed},
		{"cnf null", claims(`{`, `{"cnf":null,`), ErrMalformed},
		{"jti null", claims(`{`, `{"jti":null,`), ErrMalformed},
		{"sub null", claims(`"did:plc:gnme2elp3bnvqq53n6oc6qgx"`, `null`), ErrMalformed},
		{"sub twice", claims(`"sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx"`, `"sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx","sub":"x"`), ErrMalformed},
		{"no sub", claims(`"sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx",`, ``), ErrMalformed},
		{"sub in capitals", claims(`"sub"`, `"SUB"`), ErrMalformed},
		{"sub no DID", claims(`"did:plc:gnme2elp3bnvqq53n6oc6qgx"`, `"alice.test"`), ErrMalformed},
		{"sub no string", claims(`"did:plc:gnme2elp3bnvqq53n6oc6qgx"`, `1`), ErrMalformed},
		{"jti no string", claims(`{`, `{"jti":7,`), ErrMalformed},
		{"jti", claims(`{`, `{"jti":"x",`), nil},
		{"malformed and expired", claims(`"iat":1795383345,"exp":1795383346`, `"lxm":"x","exp":1`), ErrExpired},

		{"scope not allowed", claims(`com.atproto.access`, `com.atproto.appPass`), ErrScope},
		{"scope unknown", claims(`com.atproto.access`, `com.example.access`), ErrScope},
		{"no scope", claims(`"scope":"com.atproto.access",`, ``), ErrScope},
		{"scope no string", claims(`"com.atproto.access"`, `["com.atproto.access"]`), ErrScope},
		{"scope and malformed", claims(`"scope":"com.atproto.access"`, `"scope":"x","jti":1`), ErrMalformed},
		{"scope null", claims(`"com.atproto.access"`, `null`), ErrScope},
		{"scope in capitals", claims(`"scope"`, `"Scope"`), ErrScope},
		{"scope twice", claims(`"scope":"com.atproto.access"`, `"scope":"com.atproto.access","scope":"com.atproto.appPass"`), ErrScope},
		{"escaped name of scope", claims(`"scope"`, `"\u0073cope"`), nil},
		{"escaped scope", claims(`com.atproto.access`, `com.atproto.acces\u0073`), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := i.VerifyAccess(tt.token, Full)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil && c != (Claims{}) {
				t.Errorf("claims of a refused token: %+v", c)
			}
			if tt.token != "" {
				if parsed, err := i.parse(tt.token, accessType, Full, false); !errors.Is(err, tt.want) || parsed != c {
					t.Errorf("parsed %+v, %v; verified %+v", parsed, err, c)
				}
			}
		})
	}
}

func TestVerifyRefresh(t *testing.T) {
	i := issuer(t)
	const header = `{"typ":"refresh+jwt","alg":"HS256"}`
	claims := func(more string) string {
		return forge(t, "HS256", header, `{"aud":"did:web:pds.example.com","sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx",`+more+`}`)
	}
	for _, tt := range []struct {
		name, token   string
		want, anyTime error
	}{
		{"good", claims(`"scope":"com.atproto.refresh","jti":"x"`), nil, nil},
		{"none", "", ErrMissing, ErrMissing},
		{"no jti", claims(`"scope":"com.atproto.refresh"`), ErrMissingID, ErrMissingID},
		{"empty jti", claims(`"scope":"com.atproto.refresh","jti":""`), ErrMissingID, ErrMissingID},
		{"other scope", claims(`"scope":"com.atproto.access","jti":"x"`), ErrScope, ErrScope},
		{"expired", claims(`"scope":"com.atproto.refresh","jti":"x","exp":1`), ErrExpired, nil},
		{"expired, other scope", claims(`"scope":"com.atproto.access","jti":"x","exp":1`), ErrExpired, ErrScope},
		{"not yet", claims(`"scope":"com.atproto.refresh","jti":"x","nbf":1999999999`), ErrUnverifiable, nil},
		{"access token", i.Access(alice, Access, noon), ErrUnverifiable, ErrUnverifiable},
		{"access token with refresh scope", i.Access(alice, Refresh, noon), ErrUnverifiable, ErrUnverifiable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := i.VerifyRefresh(tt.token); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if _, err := i.VerifyRefreshAnyTime(tt.token); !errors.Is(err, tt.anyTime) {
				t.Errorf("at any time: got %v, want %v", err, tt.anyTime)
			}
		})
	}
}

// Our own tokens, and only live ones of theirs, go the short way.
func TestReadOwn(t *testing.T) {
	i := issuer(t)
	access, refresh := i.Access(alice, AppPass, noon), i.Refresh(alice, "a+/", noon)
	for _, tt := range []struct {
		name, token, typ string
		allowed          Scopes
		anyTime, want    bool
	}{
		{"access", access, accessType, Standard, false, true},
		{"refresh", refresh, refreshType, Scopes{Refresh}, false, true},
		{"of the other type", refresh, accessType, Scopes{Refresh}, false, false},
		{"scope not allowed", access, accessType, Full, false, false},
		{"spent", i.Access(alice, AppPass, noon.Add(-AccessLifetime)), accessType, Standard, false, false},
		{"spent, at any time", i.Access(alice, AppPass, noon.Add(-AccessLifetime)), accessType, Standard, true, true},
		{"an id that JSON may escape", i.Refresh(alice, `a\u0041`, noon), refreshType, Scopes{Refresh}, false, false},
	} {
		if _, ok := i.readOwn(tt.token, tt.typ, tt.allowed, tt.anyTime); ok != tt.want {
			t.Errorf("%s: %v", tt.name, ok)
		}
	}
}

func TestIDs(t *testing.T) {
	i := issuer(t)
	i.Rand = bytes.NewReader(bytes.Repeat([]byte{0xfb}, 32))
	id, err := i.NewID()
	if want := "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s"; err != nil || id != want {
		t.Errorf("got %s, %v, want %s", id, err, want)
	}
	if _, err := i.NewID(); !errors.Is(err, io.EOF) {
		t.Errorf("exhausted source: %v", err)
	}
	next := i.SuccessorID(id)
	if len(next) != 43 || next == id || next != i.SuccessorID(id) || i.SuccessorID(next) == id {
		t.Errorf("successor %q", next)
	}
	if bytes.Equal(i.HashID(id), i.HashID(next)) || len(i.HashID(id)) != 32 {
		t.Error("hashes of ids")
	}
	other := issuer(t)
	other.Secret = []byte("other")
	if other.SuccessorID(id) == next || bytes.Equal(other.HashID(id), i.HashID(id)) {
		t.Error("the secret does not matter")
	}
}

func FuzzVerify(f *testing.F) {
	i := issuer(f)
	const header = `{"typ":"at+jwt","alg":"HS256"}`
	f.Add(header, `{"scope":"com.atproto.access","aud":"did:web:pds.example.com","sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx","iat":1,"exp":9e9,"jti":"x"}`)
	f.Add(header, `{"scope":"com.atproto.access","aud":"did:web:pds.example.com","sub":"did:plc:gnme2elp3bnvqq53n6oc6qgx","jti":"a+/","iat":1795383345,"exp":1795383346}`)
	f.Add(header, segment(f, i.Access(alice, AppPass, noon), 1))
	f.Add(`{"typ":"refresh+jwt","alg":"HS256"}`, `{"scope":"com.atproto.refresh","aud":["did:web:pds.example.com"],"sub":"did:web:x","jti":null}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		// Signed, so that everything behind the signature is reached; and as it is.
		for _, token := range []string{forge(t, "HS256", header, payload), header + "." + payload + ".", payload} {
			c, err := i.VerifyAccess(token, Standard)
			if err == nil && (!Standard.Has(c.Scope) || !strings.HasPrefix(c.DID.String(), "did:")) {
				t.Errorf("accepted %+v", c)
			}
			if err == nil && !c.ExpiresAt.IsZero() && c.ExpiresAt.Before(noon) {
				t.Errorf("accepted an expired token: %+v", c)
			}
			i.VerifyRefreshAnyTime(token)
			// The short way accepts nothing that the parser would not, and reads the same.
			for _, anyTime := range []bool{false, true} {
				if own, ok := i.readOwn(token, accessType, Standard, anyTime); ok {
					if parsed, err := i.parse(token, accessType, Standard, anyTime); err != nil || own != parsed {
						t.Errorf("own %+v, parsed %+v, %v", own, parsed, err)
					}
				}
			}
		}
	})
}

func BenchmarkVerifyAccess(b *testing.B) {
	i := issuer(b)
	token := i.Access(alice, Access, noon)
	for b.Loop() {
		if _, err := i.VerifyAccess(token, Standard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParse is VerifyAccess where a token is not spelled as ours are.
func BenchmarkParse(b *testing.B) {
	i := issuer(b)
	token := i.Access(alice, Access, noon)
	for b.Loop() {
		if _, err := i.parse(token, accessType, Standard, false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHMAC is what VerifyAccess cannot do without.
func BenchmarkHMAC(b *testing.B) {
	i := issuer(b)
	token := i.Access(alice, Access, noon)
	text, sig := token[:strings.LastIndexByte(token, '.')], token[strings.LastIndexByte(token, '.')+1:]
	mac, _ := base64.RawURLEncoding.DecodeString(sig)
	for b.Loop() {
		if err := jwt.SigningMethodHS256.Verify(text, mac, i.Secret); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAccess(b *testing.B) {
	i := issuer(b)
	for b.Loop() {
		i.Access(alice, Access, noon)
	}
}
