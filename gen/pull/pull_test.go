package pull

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

const publisher = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// proof is what a server answered for com.example.shop.buy, of a repository with more
// in it, and the key of the repository.
func proof(t testing.TB) ([]byte, atcrypto.PublicKey) {
	t.Helper()
	car, err := os.ReadFile("testdata/buy.car")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/buy.key")
	if err != nil {
		t.Fatal(err)
	}
	key, err := atcrypto.ParsePublicDIDKey(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return car, key
}

func TestVerify(t *testing.T) {
	car, key := proof(t)
	r, err := verify(car, publisher, key, "com.example.shop.buy")
	if err != nil || r.Value["description"] != "Buys." || r.Rev != "3kdgeujwlq32y" ||
		r.URI() != "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/com.atproto.lexicon.schema/com.example.shop.buy" {
		t.Fatalf("%+v, %v", r, err)
	}
	// Not a bit of it can be another.
	for i := range car {
		altered := append([]byte(nil), car...)
		altered[i] ^= 1
		if other, err := verify(altered, publisher, key, "com.example.shop.buy"); err == nil && other.CID != r.CID {
			t.Errorf("with byte %d altered, another record is proven", i)
		}
	}
}

func FuzzVerify(f *testing.F) {
	car, key := proof(f)
	f.Add(car)
	r, err := verify(car, publisher, key, "com.example.shop.buy")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, car []byte) {
		if other, err := verify(car, publisher, key, "com.example.shop.buy"); err == nil && other.CID != r.CID {
			t.Error("another record is proven")
		}
	})
}

func TestAuthority(t *testing.T) {
	for pattern, want := range map[string]string{
		"com.example.shop.*": "shop.example.com", "com.example.*": "example.com", "example.com": "example.com",
		"com.example.shop": "", "com.*": "", "*": "", "": "", ".*": "", "com": "", "a b.com": "", "com.example.shop.buy": "", "1.2": "",
	} {
		domain, ok := Authority(pattern)
		if ok != (want != "") || ok && domain != want {
			t.Errorf("%q: %q, %v; want %q", pattern, domain, ok, want)
		}
	}
}

// The documents of this project, made from what a repository keeps of them, are
// spelt as they are.
func TestFormatProject(t *testing.T) {
	files, err := filepath.Glob("../../lexicons/com/atproto/*/*.json")
	if err != nil || len(files) < 90 {
		t.Fatalf("%d documents, %v", len(files), err)
	}
	alike := 0
	for _, name := range files {
		old, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var value map[string]any
		if err := json.Unmarshal(old, &value); err != nil {
			t.Fatal(err)
		}
		if got, err := Format(value, old); err != nil || string(got) != string(old) {
			t.Errorf("%s, which did not change, is spelt anew: %v", name, err)
		}
		// One change, and the rest stays in its place.
		value["revision"] = 7
		got, err := Format(value, old)
		if err != nil || !same(mustMarshal(t, value), got) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		if len(got) > 0 && strings.Count(string(got), "\n") <= strings.Count(string(old), "\n")+2 {
			alike++
		}
	}
	if alike < 60 {
		t.Errorf("%d of %d documents are laid out as upstream does it", alike, len(files))
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func FuzzFormat(f *testing.F) {
	f.Add([]byte(`{"lexicon":1,"id":"a.b.c","defs":{"main":{"type":"query","x":[1,[2],{"y":null}]}}}`), []byte(`{"id":"a.b.c","defs":{}}`))
	f.Add([]byte(`{"":{"<":"\u2028"}}`), []byte(`{`))
	f.Fuzz(func(t *testing.T, text, old []byte) {
		var value map[string]any
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		if d.Decode(&value) != nil || value == nil {
			return
		}
		got, err := Format(value, old)
		if err != nil {
			t.Fatal(err)
		}
		if !same(mustMarshal(t, value), got) {
			t.Errorf("%s\nbecame\n%s", text, got)
		}
		if again, err := Format(value, got); err != nil || string(again) != string(got) {
			t.Errorf("%s\nbecame the second time\n%s", got, again)
		}
	})
}
