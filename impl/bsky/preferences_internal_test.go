package bsky

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	api "portico/api/bsky"
)

// What a session without the account's password gives is never personal details, however
// its reader looks at it, and what is given can be stored and read.
func FuzzGivenPreferences(f *testing.F) {
	for _, body := range []string{
		`{"preferences":[]}`,
		`{"preferences":[{"$type":"app.bsky.","":[1e700]}]}`,
		`{"preferences":[{"$type":"app.bsky.x","$type":"app.bsky.actor.defs#personalDetailsPref"}]}`,
		`{"preferences":[{"\u0024type":"app.bsky.actor.defs\u0023declaredAgePref"},{"$type":"app.bsky"}],"preferences":[{"$type":"app.bsky.y","a":[1.5e3,"` + "\xff" + `"]}]}`,
		`{"preferences":[{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"1990-05-05T00:00:00Z"}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if (*api.ActorPutPreferencesInput)(nil).Schema().Check(body) != nil {
			return // the method is not called
		}
		given, err := givenPreferences(body, false)
		if err != nil {
			return
		}
		size := 0
		for _, text := range given {
			size += len(text)
			var entry map[string]json.RawMessage // numbers may be larger than Go reads
			if err := json.Unmarshal(text, &entry); err != nil || !utf8.Valid(text) {
				t.Fatalf("%q cannot be read: %v", text, err)
			}
			var kind string
			if err := json.Unmarshal(entry["$type"], &kind); err != nil || kind == personalDetails || kind == declaredAge {
				t.Fatalf("%q passes: %v", text, err)
			}
		}
		if size > 3*len(body) {
			t.Fatalf("%d bytes of %d", size, len(body))
		}
		if list, err := stored(given); err != nil || len(list) != len(given) {
			t.Fatalf("%q cannot be read back: %v", given, err)
		}
	})
}
