package gen_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"portico/gen"
	"portico/gen/model"
)

var update = flag.Bool("update", false, "write what the generator makes now as what is expected")

// initialisms are those of the project.
var initialisms = []string{"DID", "URI", "URL", "CID", "JWT", "ID", "NSID", "TID", "PLC", "JSON", "HTML", "IP"}

// TestGolden runs the generator on every folder of testdata. A case has lexicons, a
// config.json when the usual settings won't do, and stderr.txt when it has something
// to say. The files that it makes are those of internal/golden/<case>, where the
// compiler sees them too.
func TestGolden(t *testing.T) {
	cases, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.Name() == "fuzz" {
			continue
		}
		t.Run(c.Name(), func(t *testing.T) { golden(t, c.Name()) })
	}
}

// settingsOf is what config.json can set.
type settingsOf struct {
	Foreign *bool
	Exclude *[]string
	*model.Config
}

func golden(t *testing.T, name string) {
	dir := filepath.Join("testdata", name)
	c := gen.Config{
		Lexicons: "lexicons", Out: "out",
		Model: model.Config{Emit: []string{"*"}, Import: "portico/gen/internal/golden/" + name, Initialisms: initialisms},
	}
	settings, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		err = json.Unmarshal(settings, &settingsOf{&c.Foreign, &c.Exclude, &c.Model})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var stderr strings.Builder
	files := map[string][]byte{}
	r, err := c.Run(os.DirFS(dir))
	if err != nil {
		stderr.WriteString(err.Error() + "\n")
	} else {
		for _, w := range r.Warnings {
			stderr.WriteString(w.String() + "\n")
		}
		for path, data := range r.Files {
			files[name+strings.TrimPrefix(path, "out")] = data
		}
	}

	want := gen.Config{Out: name}
	changes, err := want.Changes(os.DirFS("internal/golden"), files)
	if err != nil {
		t.Fatal(err)
	}
	said := filepath.Join(dir, "stderr.txt")
	if *update {
		if err := gen.Apply("internal/golden", changes); err != nil {
			t.Fatal(err)
		}
		if stderr.Len() == 0 {
			os.Remove(said)
		} else if err := os.WriteFile(said, []byte(stderr.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, change := range changes {
		t.Errorf("want (-), got (+):\n%s", change.Diff())
	}
	expected, err := os.ReadFile(said)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got := stderr.String(); got != string(expected) {
		t.Errorf("stderr:\n%s\nwant:\n%s", got, expected)
	}
}

var (
	placed = regexp.MustCompile(`^lexicons/[^:]+(:[1-9][0-9]*:[1-9][0-9]*)?: (/[^:]*(:[^ ][^:]*)*: )?`)
	detail = regexp.MustCompile(`"[^"]*"|'.'|[0-9]+|lexicons/\S+|(com|org|net)\.[\w.]+|one of .*`)
)

// TestMessages holds the messages of the cases that fail to what a maintainer needs:
// each has a place, and a hint what to do; and that there is a case for most.
func TestMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/fail-*/stderr.txt")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			place := placed.FindString(line)
			message := line[len(place):]
			if place == "" {
				t.Errorf("%s: no place: %s", name, line)
			}
			if !strings.Contains(message, "; ") && !strings.Contains(message, "(did you mean ") {
				t.Errorf("%s: no hint: %s", name, line)
			}
			kinds[detail.ReplaceAllString(message, "…")] = true
		}
	}
	if t.Logf("%d kinds of messages", len(kinds)); len(kinds) < 30 {
		t.Errorf("only %d kinds of messages have a case", len(kinds))
	}
}
