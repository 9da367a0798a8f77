package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

var (
	keyA = bytes.Repeat([]byte{'a'}, 32)
	keyB = bytes.Repeat([]byte{'b'}, 32)
)

const did = "did:plc:tfoc4jg4ai6vr2nbwlmwdzq2"

func newRing(t testing.TB, random io.Reader, current []byte, old ...[]byte) *Ring {
	t.Helper()
	r, err := New(random, current, old...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func seal(t testing.TB, r *Ring, text string) []byte {
	t.Helper()
	b, err := r.Seal("atproto", did, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSeal(t *testing.T) {
	r := newRing(t, rand.Reader, keyA)
	sealed := seal(t, r, "secret")
	if len(sealed) != 6+49 || bytes.Contains(sealed, []byte("secret")) {
		t.Errorf("sealed: %x", sealed)
	}
	if got, err := r.Open("atproto", did, sealed); err != nil || string(got) != "secret" {
		t.Errorf("opened: %q, %v", got, err)
	}
	if bytes.Equal(sealed, seal(t, r, "secret")) {
		t.Error("sealed twice alike")
	}
	for name, open := range map[string]func() ([]byte, error){
		"another purpose":   func() ([]byte, error) { return r.Open("mail", did, sealed) },
		"another DID":       func() ([]byte, error) { return r.Open("atproto", did+"x", sealed) },
		"another border":    func() ([]byte, error) { return r.Open("atproto"+did[:1], did[1:], sealed) },
		"nothing":           func() ([]byte, error) { return r.Open("atproto", did, nil) },
		"cut short":         func() ([]byte, error) { return r.Open("atproto", did, sealed[:48]) },
		"another version":   func() ([]byte, error) { return r.Open("atproto", did, append([]byte{2}, sealed[1:]...)) },
		"without its end":   func() ([]byte, error) { return r.Open("atproto", did, sealed[:len(sealed)-1]) },
		"with a longer end": func() ([]byte, error) { return r.Open("atproto", did, append(bytes.Clone(sealed), 0)) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("%s: got %q, %v; want ErrSealed", name, got, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		want := ErrSealed
		if i >= 1 && i < 9 {
			want = ErrUnknownKey
		}
		if _, err := r.Open("atproto", did, bad); !errors.Is(err, want) {
			t.Errorf("byte %d changed: got %v, want %v", i, err, want)
		}
	}
	if _, err := newRing(t, iotest.ErrReader(io.ErrClosedPipe), keyA).Seal("atproto", did, nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("no random bytes: %v", err)
	}
}

// TestSealedForm pins what is in databases.
func TestSealedForm(t *testing.T) {
	sealed, err := hex.DecodeString("01ea5a51d190e30cfb000000000000000000000000000000000000000000000000c0e3af5edb567e435813044e60491f8263a82412b03a")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newRing(t, rand.Reader, keyA).Open("atproto", did, sealed); err != nil || string(got) != "secret" {
		t.Errorf("got %q, %v", got, err)
	}
	if got := seal(t, newRing(t, bytes.NewReader(make([]byte, 24)), keyA), "secret"); !bytes.Equal(got, sealed) {
		t.Errorf("sealed: %x", got)
	}
}

func TestRotation(t *testing.T) {
	before := newRing(t, rand.Reader, keyA)
	canary, err := before.NewCanary()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Unlock(canary); err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, before, "secret")

	during := newRing(t, rand.Reader, keyB, keyA)
	if err := during.Unlock(canary); err != nil {
		t.Fatal(err)
	}
	if before.MAC("x", []byte("y")) != during.MAC("x", []byte("y")) {
		t.Error("keyed hashes change with the key")
	}
	if !before.Current(sealed) || during.Current(sealed) || during.Current(nil) {
		t.Error("Current is wrong")
	}
	fresh, err := during.Reseal("atproto", did, sealed)
	if err != nil || !during.Current(fresh) {
		t.Fatalf("reseal: %v", err)
	}
	freshCanary, err := during.ResealCanary(canary)
	if err != nil {
		t.Fatal(err)
	}

	after := newRing(t, rand.Reader, keyB)
	if err := after.Unlock(canary); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("canary of the old key: got %v, want ErrUnknownKey", err)
	}
	if err := after.Unlock(freshCanary); err != nil {
		t.Error(err)
	}
	if got, err := after.Open("atproto", did, fresh); err != nil || string(got) != "secret" {
		t.Errorf("resealed: %q, %v", got, err)
	}
	if _, err := after.Reseal("atproto", did, sealed); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("old key gone: got %v, want ErrUnknownKey", err)
	}
	if err := after.Unlock(fresh); !errors.Is(err, ErrSealed) {
		t.Errorf("another secret as canary: got %v, want ErrSealed", err)
	}
}

func TestNew(t *testing.T) {
	for _, keys := range [][][]byte{{nil}, {keyA[:31]}, {append(keyA, 0)}, {keyA, nil}, {keyA, keyB[:16]}} {
		if _, err := New(rand.Reader, keys[0], keys[1:]...); !errors.Is(err, ErrKeySize) {
			t.Errorf("%q: got %v, want ErrKeySize", keys, err)
		}
	}
}

func unlocked(t testing.TB) *Ring {
	t.Helper()
	// A fixed root: the canary is made of zeros.
	r := newRing(t, bytes.NewReader(make([]byte, 56)), keyA)
	canary, err := r.NewCanary()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Unlock(canary); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMAC(t *testing.T) {
	r := unlocked(t)
	got := r.MAC("refresh-id", []byte("jti"))
	// Pinned: it is in databases.
	if hex.EncodeToString(got[:]) != "286cffd8bdaa410ae1eb5e95040deffd72f089557c3ae3d202974c48e00611aa" {
		t.Errorf("got %x", got)
	}
	if got == r.MAC("refresh-successor", []byte("jti")) || got == r.MAC("refresh-id", []byte("jtj")) {
		t.Error("different things have the same hash")
	}
	defer func() {
		if recover() == nil {
			t.Error("MAC before Unlock did not panic")
		}
	}()
	newRing(t, rand.Reader, keyA).MAC("x", nil)
}

func TestSigningKey(t *testing.T) {
	r := newRing(t, rand.Reader, keyA)
	key, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, r, string(key.Bytes()))
	first, err := r.SigningKey("atproto", did, sealed)
	if err != nil || !first.Equal(key) {
		t.Fatalf("got %v, %v", first, err)
	}
	if again, err := r.SigningKey("atproto", did, sealed); err != nil || again != first {
		t.Errorf("second time: %v, %v; want the same", again, err)
	}
	if _, err := r.SigningKey("atproto", did+"x", sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("another DID: got %v, want ErrSealed", err)
	}
	bad := bytes.Clone(sealed)
	bad[60] ^= 1
	if _, err := r.SigningKey("atproto", did, bad); !errors.Is(err, ErrSealed) {
		t.Errorf("damaged: got %v, want ErrSealed", err)
	}
	other, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.SigningKey("atproto", did, seal(t, r, string(other.Bytes()))); err != nil || !got.Equal(other) {
		t.Errorf("replaced: %v, %v", got, err)
	}
	r.Forget("atproto", did)
	if r.parsed.Len() != 0 {
		t.Errorf("%d keys remembered", r.parsed.Len())
	}
	if _, err := r.SigningKey("atproto", did, seal(t, r, "short")); err == nil {
		t.Error("a key of five bytes")
	}
}

func TestNewKey(t *testing.T) {
	one := append(bytes.Repeat([]byte{0}, 63), 1) // zero is no key; the next is one
	key, err := NewKey(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if got := public.DIDKey(); got != "did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9" {
		t.Errorf("got %s", got)
	}
	if _, err := NewKey(bytes.NewReader(make([]byte, 64))); err == nil {
		t.Error("a source of zeros gave a key")
	}
	if _, err := NewKey(bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short source: %v", err)
	}
}

func TestPrintsNothing(t *testing.T) {
	r := unlocked(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "ring", r)
	for _, text := range []string{log.String(), fmt.Sprintf("%v %+v %#v %s", r, r, r, r)} {
		if !strings.Contains(text, "REDACTED") || strings.Contains(text, "root") {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestConcurrent(t *testing.T) {
	r := newRing(t, rand.Reader, keyA)
	canary, err := r.NewCanary()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Unlock(canary); err != nil {
		t.Fatal(err)
	}
	key, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			sealed, err := r.Seal("atproto", did, key.Bytes())
			if err != nil {
				t.Error(err)
			}
			if got, err := r.SigningKey("atproto", did, sealed); err != nil || !got.Equal(key) {
				t.Errorf("got %v, %v", got, err)
			}
			r.MAC("x", sealed)
		})
	}
	wg.Wait()
}

func FuzzOpen(f *testing.F) {
	r := newRing(f, rand.Reader, keyA)
	f.Add(seal(f, r, "secret"))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = r.Open("atproto", did, b)
		r.Current(b)
	})
}

func BenchmarkSign(b *testing.B) {
	key, err := NewKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 300)
	for b.Loop() {
		if _, err := key.HashAndSign(message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSigningKey(b *testing.B) {
	r := newRing(b, rand.Reader, keyA)
	key, err := NewKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sealed := seal(b, r, string(key.Bytes()))
	for _, remembered := range []bool{false, true} {
		b.Run(fmt.Sprintf("remembered=%v", remembered), func(b *testing.B) {
			for b.Loop() {
				if !remembered {
					r.Forget("atproto", did)
				}
				if _, err := r.SigningKey("atproto", did, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMAC(b *testing.B) {
	r := unlocked(b)
	for b.Loop() {
		r.MAC("refresh-id", keyB)
	}
}
