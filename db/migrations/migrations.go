// Package migrations holds the steps that lead to the newest schema.
//
// A step is a file NNNN_what.sql, or a pair NNNN_what.sqlite.sql and
// NNNN_what.postgres.sql where the engines differ. Steps are appended, never
// edited once released: what a database has seen is remembered by name. Every
// step runs in a transaction, so it must hold no statement that cannot.
package migrations

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.sql
var files embed.FS

// A Step is one migration.
type Step struct {
	Name string // "0001_start"
	SQL  string
}

// For returns the steps of engine, "sqlite" or "postgres", in order.
func For(engine string) ([]Step, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	var steps []Step
	for _, e := range entries {
		name, of, _ := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), ".")
		if of != "" && of != engine {
			continue
		}
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		steps = append(steps, Step{Name: name, SQL: string(text)})
	}
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.Name, b.Name) })
	return steps, nil
}
