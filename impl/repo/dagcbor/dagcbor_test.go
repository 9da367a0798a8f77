package dagcbor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestMarshal(t *testing.T) {
	empty, err := ParseCID("bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		v    any
		want string
	}{
		{"null", nil, "f6"},
		{"true", true, "f5"},
		{"false", false, "f4"},
		{"0", 0, "00"},
		{"23", 23, "17"},
		{"24", 24, "1818"},
		{"255", 255, "18ff"},
		{"256", 256, "190100"},
		{"65536", 65536, "1a00010000"},
		{"2^53-1", int64(9007199254740991), "1b001fffffffffffff"},
		{"-1", -1, "20"},
		{"-500", -500, "3901f3"},
		{"text", "ü", "62c3bc"},
		{"bytes", []byte{1, 2}, "420102"},
		{"empty array", []any(nil), "80"},
		{"empty strings", []string(nil), "80"},
		{"empty map", map[string]any(nil), "a0"},
		{"keys by length, then bytewise", map[string]any{"b": 1, "a": 2, "aa": 3, "": 4}, "a4600461610261620162616103"},
		{"link", empty, "d82a582500" + hex.EncodeToString(empty[:])},
		{"nested", []any{map[string]string{"a": "b"}, []string{"c"}}, "82a1616161628161" + "63"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Marshal(tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got) != tt.want {
				t.Errorf("got %x, want %s", got, tt.want)
			}
			if rest, err := skip(got, 0); err != nil || len(rest) != 0 {
				t.Errorf("reading it back: %d bytes left, %v", len(rest), err)
			}
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	deep := any("x")
	for range 200 {
		deep = []any{deep}
	}
	for name, v := range map[string]any{
		"float": 1.5, "2^53": int64(1) << 53, "-2^53": -(int64(1) << 53), "invalid UTF-8": "\xff",
		"invalid UTF-8 in a key": map[string]any{"\xff": 1}, "depth": deep, "struct": struct{}{},
	} {
		if _, err := Marshal(v); !errors.Is(err, ErrValue) {
			t.Errorf("%s: got %v, want ErrValue", name, err)
		}
	}
}

func TestCID(t *testing.T) {
	const emptyMap = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"
	if got := Sum(CodecDAGCBOR, []byte{0xa0}).String(); got != emptyMap {
		t.Errorf("CID of the empty map: got %s", got)
	}
	c, err := ParseCID(emptyMap)
	if err != nil || c.String() != emptyMap {
		t.Errorf("got %s, %v", c, err)
	}
	if got := (CID{}).String(); got != "" {
		t.Errorf("zero CID: got %q", got)
	}
	for _, s := range []string{
		"", "b", emptyMap[1:], emptyMap + "a", strings.ToUpper(emptyMap), emptyMap[:58] + "b", // trailing bits
		emptyMap[:57] + "\na", emptyMap[:58] + "\n", "z" + emptyMap[1:], "bafkqaaa", "Qm" + emptyMap[:44],
	} {
		if c, err := ParseCID(s); !errors.Is(err, ErrCID) || c != (CID{}) {
			t.Errorf("ParseCID(%q): got %v, %v; want ErrCID", s, c, err)
		}
	}
}

func TestEntriesRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing": "", "not a map": "80", "trailing": "a000", "cut short": "a16161", "huge map": "bbffffffffffffffff",
		"huge array": "a161619bffffffffffffffff", "keys out of order": "a2616201616101", "duplicate keys": "a2616101616101",
		"long integer": "a161611801", "longer integer": "a16161190018", "longest integer": "a161611b00000000ffffffff",
		"indefinite": "bf616101ff", "float": "a16161fb3ff0000000000000",
		"undefined": "a16161f7", "other tag": "a16161c000", "link without prefix": "a16161d82a" + "582501", "integer key": "a10101",
		"nested out of order": "a16161a2616201616101", "bad UTF-8": "a1616161ff",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Entries(b); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: got %v, want ErrEncoding", name, err)
		}
	}
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte{0xa0})
	f.Add([]byte("\xa2aa\x01ab\x82\xf6\xf5"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := Entries(b)
		if err != nil {
			return
		}
		again := AppendMap(nil, len(entries))
		for _, e := range entries {
			again = append(AppendText(again, e.Key), e.Value...)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("put together again: %x, was %x", again, b)
		}
	})
}

func FuzzParseCID(f *testing.F) {
	f.Add("bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCID(s); err == nil && c.String() != s {
			t.Errorf("%q reads as %s", s, c)
		}
	})
}
