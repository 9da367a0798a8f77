package password

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// cheap makes tests fast; what is tested does not depend on the cost.
var cheap = Params{Memory: 64, Time: 1, Threads: 1}

func cheapHasher() *Hasher { return NewHasher(Config{Rand: rand.Reader, Params: cheap}) }

// Made by the reference for the password "pw" and, in the account did:plc:gnme2elp3bnvqq53n6oc6qgx, for the app password
// "fttv-hske-er6f-p33w".
const (
	referenceHash    = "faa9996d6df43ad8c39cf06514de0e98:4f868d47ea16187f3bf8809b91120fd8ea2f5e6abaa3ce3444cce9daedaae90ae73fc3d688041e81d7e9f90ec65979538579fca820c525f51772cdea767d62b0"
	referenceAppHash = "0539b0985f356f1126df3d5ffee5d383:304156f0555a16e892fc336144fb9b134935c8e1e4226aa41f1f70e688c19c3280d2507155f5b00ad459817d969a150b0f275a420a54b5636dc577f6968ad37b"
)

func TestDefaultCost(t *testing.T) {
	h := NewHasher(Config{Rand: bytes.NewReader(bytes.Repeat([]byte{1}, 16))})
	got, err := h.Hash(t.Context(), Caller{}, "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	if want := "$argon2id$v=19$m=19456,t=2,p=1$AQEBAQEBAQEBAQEBAQEBAQ$"; !strings.HasPrefix(got, want) || len(got) != len(want)+43 {
		t.Errorf("got %s, want %s…", got, want)
	}
	if ok, err := h.Verify(t.Context(), Caller{}, got, "hunter2"); !ok || err != nil {
		t.Errorf("own hash: %v, %v", ok, err)
	}
}

func TestVerify(t *testing.T) {
	h := cheapHasher()
	own, err := h.Hash(t.Context(), Caller{}, "pässwörd")
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.Hash(t.Context(), Caller{}, "pässwörd")
	if err != nil || again == own {
		t.Errorf("two hashes of a password are the same: %v", err)
	}
	// From the reference implementation's argon2 command: t=2, m=2^16, p=1, salt "somesalt", 24 bytes.
	const foreign = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, tt := range []struct {
		name, stored, password string
		ok, rehash             bool
		err                    error
	}{
		{"own", own, "pässwörd", true, false, nil},
		{"own, other password", own, "passwörd", false, false, nil},
		{"own, empty password", own, "", false, false, nil},
		{"reference", referenceHash, "pw", true, true, nil},
		{"reference, other password", referenceHash, "PW", false, true, nil},
		{"other argon2id cost", foreign, "password", true, true, nil},
		{"no password set", "", "", false, true, nil},
		{"unknown", "$2b$10$abcdefghijklmnopqrstuv", "pw", false, true, ErrFormat},
		{"short key", "aa:bb", "pw", false, true, ErrFormat},
		{"other argon", strings.Replace(own, "argon2id", "argon2i", 1), "pässwörd", false, true, ErrFormat},
		{"too much memory", strings.Replace(own, "m=64", "m=4294967295", 1), "pässwörd", false, true, ErrFormat},
		{"no passes", strings.Replace(own, "t=1", "t=0", 1), "pässwörd", false, true, ErrFormat},
		{"no lanes", strings.Replace(own, "p=1", "p=0", 1), "pässwörd", false, true, ErrFormat},
		{"leading zero", strings.Replace(own, "m=64", "m=064", 1), "pässwörd", false, true, ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if ok, err := h.Verify(t.Context(), Caller{}, tt.stored, tt.password); ok != tt.ok || !errors.Is(err, tt.err) {
				t.Errorf("verify: %v, %v", ok, err)
			}
			if got := h.NeedsRehash(tt.stored); got != tt.rehash {
				t.Errorf("needs rehash: %v", got)
			}
		})
	}
	if err := h.VerifyNothing(t.Context(), Caller{}, "pw"); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if _, err := NewHasher(Config{Rand: strings.NewReader(""), Params: cheap}).Hash(t.Context(), Caller{}, "x"); !errors.Is(err, io.EOF) {
		t.Errorf("no randomness: %v", err)
	}
}

// A hash that comes from elsewhere may cost what the server's own do, and no more.
func TestDearer(t *testing.T) {
	h := NewHasher(Config{Rand: rand.Reader, Params: Params{Memory: 128, Time: 2, Threads: 1}})
	const rest = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, tt := range []struct {
		stored string
		want   bool
		err    error
	}{
		{"$argon2id$v=19$m=128,t=2,p=1" + rest, false, nil},
		{"$argon2id$v=19$m=64,t=4,p=1" + rest, false, nil},
		{"$argon2id$v=19$m=129,t=1,p=1" + rest, false, nil},
		{"$argon2id$v=19$m=132,t=1,p=1" + rest, true, nil},
		{"$argon2id$v=19$m=128,t=3,p=1" + rest, true, nil},
		{"$argon2id$v=19$m=64,t=5,p=1" + rest, true, nil},
		{"$argon2id$v=19$m=64,t=1,p=255" + rest, true, nil},
		{referenceHash, false, nil},
		{"", false, ErrFormat},
		{"$argon2id$v=19$m=128,t=65,p=1" + rest, false, ErrFormat},
	} {
		if got, err := h.Dearer(tt.stored); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: %t, %v", tt.stored, got, err)
		}
	}
}

// The work for an unknown account is that of a known one: same parameters, same code.
func TestVerifyNothingCostsAsMuch(t *testing.T) {
	h := cheapHasher()
	stored, err := h.Hash(t.Context(), Caller{}, "x")
	if err != nil {
		t.Fatal(err)
	}
	known, _ := parseArgonHash(stored)
	if h.decoy.params != known.params || len(h.decoy.salt) != len(known.salt) || len(h.decoy.key) != len(known.key) {
		t.Errorf("decoy %+v, hash %+v", h.decoy, known)
	}
}

func TestLength(t *testing.T) {
	for password, want := range map[string]int{"": 0, "abc": 3, "äöü": 3, "日本": 2, "😀": 2, "a😀b": 4, "👨‍👩‍👧": 8} {
		if got := Length(password); got != want {
			t.Errorf("%q: got %d, want %d", password, got, want)
		}
	}
	if MaxNew != 256 || MaxLogin != 512 {
		t.Errorf("limits %d, %d", MaxNew, MaxLogin)
	}
}

func TestAppPassword(t *testing.T) {
	all, _ := hex.DecodeString("00443214c74254b635cf") // the alphabet's first half, in order
	got, err := NewApp(bytes.NewReader(all))
	if want := "abcd-efgh-ijkl-mnop"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if _, err := NewApp(strings.NewReader("short")); err == nil {
		t.Error("made one from too little randomness")
	}
	for text, want := range map[string]bool{
		got: true, "2345-67ab-cdef-ghij": true, "ABCD-efgh-ijkl-mnop": false, "abcdefghijklmnop": false,
		"abc1-efgh-ijkl-mnop": false, "abcd-efgh-ijkl-mnopq": false, "abcd_efgh_ijkl_mnop": false, "": false,
	} {
		if IsApp(text) != want {
			t.Errorf("IsApp(%q) = %v", text, !want)
		}
	}

	const did = "did:plc:gnme2elp3bnvqq53n6oc6qgx"
	imported, err := cheapHasher().ImportedAppHash(t.Context(), Caller{}, did, "fttv-hske-er6f-p33w")
	if err != nil || imported != referenceAppHash {
		t.Errorf("imported: %s, %v", imported, err)
	}
}

func TestHasherLimits(t *testing.T) {
	for _, tt := range []struct {
		name         string
		c            Config
		total, share int64
		places       int // of which half are for callers that are known
	}{
		{"as many as cores", Config{Concurrency: 4}, 4 * 19456, 19456, 128},
		{"memory for fewer", Config{Concurrency: 4, Memory: 50_000, Queue: 7}, 50_000, 25_000, 7},
		{"memory for more", Config{Concurrency: 4, Memory: 500_000}, 4 * 19456, 19456, 128},
		{"memory for none", Config{Concurrency: 4, Memory: 1}, 19456, 19456, 32},
		{"cheap hashes still leave room for scrypt", Config{Concurrency: 2, Params: cheap}, 2 * 16384, 16384, 64},
	} {
		h := NewHasher(tt.c)
		known, unknown := h.queue.known.places, h.queue.unknown.places
		if h.total != tt.total || h.share != tt.share || known+unknown != tt.places || known-unknown > 1 {
			t.Errorf("%s: total %d, share %d, places %d and %d", tt.name, h.total, h.share, known, unknown)
		}
	}
}

func TestHasherCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cheapHasher().Hash(ctx, Caller{}, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestHasherRunsAtMostConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHasher(Config{Params: cheap, Concurrency: 3, Queue: 100})
		var mu sync.Mutex
		running, most := 0, 0
		step := make(chan struct{})
		for range 10 {
			go h.run(t.Context(), Caller{}, cheap.Memory, func(area) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				<-step
				mu.Lock()
				running--
				mu.Unlock()
			})
		}
		for range 10 {
			synctest.Wait()
			step <- struct{}{}
		}
		if most != 3 {
			t.Errorf("%d ran at a time", most)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(referenceHash)
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=8,t=1,p=255$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, stored string) {
		h, err := parse(stored)
		if err != nil {
			return
		}
		if a, ok := h.(argonHash); ok && a.params.Memory <= 1024 && a.params.Time < 3 {
			a.matches(area{memory: make([]byte, a.cost()<<10)}, "x") // must not panic
			if a.String() != stored {
				t.Errorf("%s became %s", stored, a)
			}
		}
	})
}

func FuzzLength(f *testing.F) {
	f.Add("a😀\xff")
	f.Fuzz(func(t *testing.T, password string) {
		if n := Length(password); n < 0 || n > len(password) {
			t.Errorf("%q: %d", password, n)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher(Config{Rand: rand.Reader})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Hash(b.Context(), Caller{}, "correct horse battery staple"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyReference(b *testing.B) {
	h := NewHasher(Config{Rand: rand.Reader})
	for b.Loop() {
		if ok, err := h.Verify(b.Context(), Caller{}, referenceHash, "pw"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
