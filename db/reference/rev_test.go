package reference

import (
	"encoding/hex"
	"testing"
)

func TestReadRev(t *testing.T) {
	for body, want := range map[string]string{
		"a1637265766161": "a",
		// {"ops": [{"cid": tag 42 (bytes), "n": null}], "repo": h'00', "rev": "b", "x": 1}
		"a4636f707381a263636964d82a4200016" + "16ef6647265706f41006372657661626178" + "01": "b",
		"a26372657661636178ff":              "c", // what follows is not looked at
		"":                                  "",
		"00":                                "",
		"a1":                                "",
		"a163726576":                        "",
		"a1637265760a":                      "",
		"a16372657679ffff61":                "",
		"a2617801":                          "",
		"a161789bffffffffffffffff":          "",
		"a161785bffffffffffffffff":          "",
		"bf6372657661610000ff":              "",
		"a161789fffff":                      "",
		"a16178" + "bbffffffffffffffff0000": "",
		"a1617881818181818181818181818181818181c6": "",
	} {
		b, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(body, err)
		}
		if got, err := readRev(b); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
}

func FuzzReadRev(f *testing.F) {
	f.Add([]byte{0xa1, 0x63, 'r', 'e', 'v', 0x61, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if rev, err := readRev(b); err == nil && len(rev) > len(b) {
			t.Errorf("%q", rev)
		}
	})
}
