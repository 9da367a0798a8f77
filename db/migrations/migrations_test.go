package migrations

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// A step names the oldest version that works with it by a step that there is, no later than
// itself and no earlier than the first that could say so, and of both engines the same.
func TestOldest(t *testing.T) {
	said := map[string]string{}
	for _, engine := range []string{"sqlite", "postgres"} {
		steps, err := For(engine)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range steps {
			if !slices.ContainsFunc(steps, func(o Step) bool { return o.Name == s.Oldest }) || s.Oldest > s.Name {
				t.Errorf("%s of %s: works with %q", s.Name, engine, s.Oldest)
			}
			if s.Oldest != s.Name && s.Oldest < "0024_more_nodes" {
				t.Errorf("%s of %s: %s does not know of later steps", s.Name, engine, s.Oldest)
			}
			if before, ok := said[s.Name]; ok && before != s.Oldest {
				t.Errorf("%s works with %s and with %s", s.Name, before, s.Oldest)
			}
			said[s.Name] = s.Oldest
			if n := strings.Count(strings.ToLower(s.SQL), "works with:"); n > 1 || (n == 1) != (s.Oldest != s.Name) {
				t.Errorf("%s of %s: what it works with is said %d times", s.Name, engine, n)
			}
		}
	}
}

func TestOldestIsRead(t *testing.T) {
	steps, err := in(fstest.MapFS{
		"0001_one.sql":          {Data: []byte("-- One.\nSELECT 1;\n")},
		"0002_two.sqlite.sql":   {Data: []byte("-- Two,\n-- and more.\n--\n-- Works with: 0001_one\n\nSELECT 1;\n")},
		"0002_two.postgres.sql": {Data: []byte("-- Works with: 0002_two\n-- Two.\n")},
		"0003_three.sql":        {Data: []byte("-- Works with: 0002_two\r\nSELECT 1;\n")},
	}, "sqlite")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		got = append(got, s.Name+" "+s.Oldest+" "+strings.TrimSpace(s.About()))
	}
	if want := []string{"0001_one 0001_one One.", "0002_two 0001_one Two, and more.", "0003_three 0002_two "}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
