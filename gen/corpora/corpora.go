// Package corpora has lexicons of several authors, for tests of what is to work with
// everybody's. Where they are from stands in each file; most are made in the shapes of what
// an author publishes, and none has its descriptions.
package corpora

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed *.json
var files embed.FS

// A Corpus is the lexicons of one author. What they refer to and do not have is in
// lexicons/ of this module.
type Corpus struct {
	Name      string     // of the file
	From      string     // what is known of where it is from
	Documents []Document // ordered by ID
}

// Document is one lexicon.
type Document struct {
	ID   string
	Main string // the type of the definition main, "" where there is none
	Text []byte
}

// All are all of them, ordered by name.
func All() ([]Corpus, error) {
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		return nil, err
	}
	var all []Corpus
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var file struct {
			From      string
			Documents []json.RawMessage
		}
		if err := json.Unmarshal(data, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		c := Corpus{Name: strings.TrimSuffix(name, ".json"), From: file.From}
		for i, text := range file.Documents {
			var d struct {
				ID   string
				Defs struct{ Main struct{ Type string } }
			}
			if err := json.Unmarshal(text, &d); err != nil {
				return nil, fmt.Errorf("%s: document %d: %w", name, i, err)
			}
			c.Documents = append(c.Documents, Document{d.ID, d.Defs.Main.Type, text})
		}
		slices.SortFunc(c.Documents, func(a, b Document) int { return cmp.Compare(a.ID, b.ID) })
		all = append(all, c)
	}
	return all, nil
}

// Lay writes the documents into a folder, which is made if need be.
func (c Corpus) Lay(folder string) error {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	for _, d := range c.Documents {
		if err := os.WriteFile(filepath.Join(folder, d.ID+".json"), d.Text, 0o666); err != nil {
			return err
		}
	}
	return nil
}
