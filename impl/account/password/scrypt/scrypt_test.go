package scrypt

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/crypto/scrypt"
)

// dirty is an area for a cost, full of what another password left.
func dirty(N, r int) []uint32 { return slices.Repeat([]uint32{0xa5a5a5a5}, Words(N, r)+5) }

// The test vectors of RFC 7914 and x/crypto with one block at a time.
func TestVectors(t *testing.T) {
	for _, tt := range []struct {
		password, salt string
		N, r           int
		want           string
	}{
		{"p", "s", 2, 1, "48b0d2a8a3272611984c50ebd630af52"},
		{"", "", 16, 1, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442" +
			"fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"},
		{"pleaseletmein", "SodiumChloride", 16384, 8, "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2" +
			"d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"},
		{"this is a long \000 password", "and this is a long \000 salt", 16384, 8, "c3f182ee2dec846e70a6942fb529985a3a09765ef04c612923b17f18555a3707" +
			"6deb2b9830d69de5492651e4506ae5776d96d40f67aaee37e1777b8ad5c31114" +
			"32bb3b6f7e1264401879e641ae"},
	} {
		if got := Key(dirty(tt.N, tt.r), []byte(tt.password), []byte(tt.salt), tt.N, tt.r, len(tt.want)/2); hex.EncodeToString(got) != tt.want {
			t.Errorf("%q: got %x, want %s", tt.password, got, tt.want)
		}
	}
}

// One area serves all, as it does in a server: nothing of a key shows in the next one.
func TestSameAsXCrypto(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(most int) []byte {
		b := make([]byte, random.IntN(most))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	area := dirty(1<<8, 8)
	for range 50 {
		password, salt, keyLen := text(600), text(70), 1+random.IntN(200)
		N, r := 2<<random.UintN(8), 1+random.IntN(8)
		want, err := scrypt.Key(password, salt, N, r, 1, keyLen)
		if err != nil {
			t.Fatal(err)
		}
		if got := Key(area, password, salt, N, r, keyLen); !bytes.Equal(got, want) {
			t.Errorf("N=%d,r=%d: got %x, want %x", N, r, got, want)
		}
	}
}

func TestKeyPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("did not panic")
		}
	}()
	Key(make([]uint32, Words(16, 1)-1), nil, nil, 16, 1, 32)
}
