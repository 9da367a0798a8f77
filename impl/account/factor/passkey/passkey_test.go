package passkey_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portico/impl/account/factor/passkey"
	"portico/impl/account/factor/passkey/passkeytest"
)

const origin, host = "https://pds.test", "pds.test"

var challenge, handle = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)

func site(t testing.TB) *passkey.Site {
	t.Helper()
	s, err := passkey.New(origin, "Test PDS")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOptions(t *testing.T) {
	s := site(t)
	got := s.Creation([]byte{1, 255}, passkey.Owner{Handle: []byte{2}, Name: "@alice.test"}, [][]byte{{3}})
	want := `{"rp":{"id":"pds.test","name":"Test PDS"},"user":{"id":"Ag","name":"@alice.test","displayName":"@alice.test"},"challenge":"Af8",` +
		`"pubKeyCredParams":[{"type":"public-key","alg":-7},{"type":"public-key","alg":-8},{"type":"public-key","alg":-257}],"timeout":300000,` +
		`"excludeCredentials":[{"type":"public-key","id":"Aw"}],"authenticatorSelection":{"residentKey":"required","requireResidentKey":true,"userVerification":"required"},"attestation":"none"}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want = `{"challenge":"Af8","rpId":"pds.test","timeout":300000,"userVerification":"required"}`
	if got := s.Request([]byte{1, 255}); got != want {
		t.Error(got)
	}
	for _, address := range []string{"http://127.0.0.1:2583", "https://[::1]", "https://192.0.2.1"} {
		if _, err := passkey.New(address, "x"); !errors.Is(err, passkey.ErrHost) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := passkey.New("http://localhost:2583", "x"); err != nil {
		t.Error(err)
	}
}

// made is a key that s has taken.
func made(t testing.TB, s *passkey.Site, change ...func(k *passkeytest.Key)) (*passkeytest.Key, *passkey.Key, error) {
	t.Helper()
	k := passkeytest.New(t, origin, host)
	for _, c := range change {
		c(k)
	}
	stored, err := s.Made(challenge, handle, []byte(k.Make(t, s.Creation(challenge, passkey.Owner{Handle: handle}, nil))))
	return k, stored, err
}

func TestMade(t *testing.T) {
	s := site(t)
	k, stored, err := made(t, s, func(k *passkeytest.Key) { k.Counter = 5 })
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored.ID, k.ID) || stored.Counter != 5 || stored.Flags != 0x5d || len(stored.Public) != 77 {
		t.Errorf("%+v", stored)
	}
	for name, change := range map[string]func(k *passkeytest.Key){
		"another origin":           func(k *passkeytest.Key) { k.Origin = "https://evil.example" },
		"another scheme":           func(k *passkeytest.Key) { k.Origin = "http://pds.test" },
		"another port":             func(k *passkeytest.Key) { k.Origin = "https://pds.test:8443" },
		"a handle's host":          func(k *passkeytest.Key) { k.Origin = "https://alice.pds.test" },
		"another site":             func(k *passkeytest.Key) { k.Site = "test" },
		"a user who is not known":  func(k *passkeytest.Key) { k.Flags = passkeytest.UserPresent },
		"a user who is not there":  func(k *passkeytest.Key) { k.Flags = passkeytest.UserVerified },
		"in a frame of another":    func(k *passkeytest.Key) { k.CrossSite = true },
		"backed up, but never can": func(k *passkeytest.Key) { k.Flags = 0x15 },
		"attested by a TPM":        func(k *passkeytest.Key) { k.Format = "tpm" },
		"attested by nothing":      func(k *passkeytest.Key) { k.Format = "packed" },
		"an ID that is too long":   func(k *passkeytest.Key) { k.ID = make([]byte, 1024) },
	} {
		if _, _, err := made(t, s, change); !errors.Is(err, passkey.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer := passkeytest.New(t, origin, host).Make(t, s.Creation(challenge, passkey.Owner{Handle: handle}, nil))
	if _, err := s.Made(bytes.Repeat([]byte{9}, 32), handle, []byte(answer)); !errors.Is(err, passkey.ErrAnswer) {
		t.Errorf("another challenge: %v", err)
	}
	for _, text := range []string{"", "{}", "null", answer[:len(answer)-1], answer + "{}", strings.Repeat(" ", passkey.MaxAnswer) + answer} {
		if _, err := s.Made(challenge, handle, []byte(text)); !errors.Is(err, passkey.ErrAnswer) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
}

func TestCheck(t *testing.T) {
	s := site(t)
	ask := s.Request(challenge)
	check := func(t *testing.T, change func(k *passkeytest.Key), challenge, handle []byte) (int64, error) {
		t.Helper()
		k, stored, err := made(t, s, func(k *passkeytest.Key) { k.Counter = 5 })
		if err != nil {
			t.Fatal(err)
		}
		change(k)
		a, err := passkey.Read([]byte(k.Sign(t, ask)))
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(a.ID(), k.ID) {
			t.Errorf("ID %x", a.ID())
		}
		return s.Check(a, challenge, handle, *stored)
	}
	n, err := check(t, func(*passkeytest.Key) {}, challenge, handle)
	if err != nil || n != 6 {
		t.Errorf("%d, %v", n, err)
	}
	for name, change := range map[string]func(k *passkeytest.Key){
		"another origin":          func(k *passkeytest.Key) { k.Origin = "https://evil.example" },
		"another site":            func(k *passkeytest.Key) { k.Site = "evil.example" },
		"a user who is not known": func(k *passkeytest.Key) { k.Flags &^= passkeytest.UserVerified },
		"a user who is not there": func(k *passkeytest.Key) { k.Flags &^= passkeytest.UserPresent },
		"another kind of key":     func(k *passkeytest.Key) { k.Flags &^= passkeytest.BackupEligible | passkeytest.BackedUp },
		"another account":         func(k *passkeytest.Key) { k.Handle = bytes.Repeat([]byte{7}, 32) },
		"no account":              func(k *passkeytest.Key) { k.Handle = nil },
		"another key of the same name": func(k *passkeytest.Key) {
			id, h := k.ID, k.Handle
			*k = *passkeytest.New(t, origin, host)
			k.ID, k.Handle = id, h
		},
		"in a frame of another": func(k *passkeytest.Key) { k.CrossSite = true },
	} {
		if _, err := check(t, change, challenge, handle); !errors.Is(err, passkey.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := check(t, func(*passkeytest.Key) {}, bytes.Repeat([]byte{9}, 32), handle); !errors.Is(err, passkey.ErrAnswer) {
		t.Errorf("another challenge: %v", err)
	}
	if _, err := check(t, func(*passkeytest.Key) {}, challenge, bytes.Repeat([]byte{9}, 32)); !errors.Is(err, passkey.ErrAnswer) {
		t.Errorf("the account of another: %v", err)
	}
}

func FuzzMade(f *testing.F) {
	s := site(f)
	f.Add(passkeytest.New(f, origin, host).Make(f, s.Creation(challenge, passkey.Owner{Handle: handle}, nil)))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := s.Made(challenge, handle, []byte(text))
		if err != nil && !errors.Is(err, passkey.ErrAnswer) {
			t.Fatal(err)
		}
		if err == nil && (len(k.ID) == 0 || len(k.ID) > 1023 || len(k.Public) > 1024) {
			t.Fatalf("%+v", k)
		}
	})
}

func FuzzRead(f *testing.F) {
	s := site(f)
	k, stored, err := made(f, s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Sign(f, s.Request(challenge)))
	f.Fuzz(func(t *testing.T, text string) {
		a, err := passkey.Read([]byte(text))
		if err == nil {
			_, err = s.Check(a, challenge, handle, *stored)
		}
		if err != nil && !errors.Is(err, passkey.ErrAnswer) {
			t.Fatal(err)
		}
	})
}
