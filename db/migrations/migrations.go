// Package migrations holds the steps that lead to the newest schema.
//
// A step is a file NNNN_what.sql, or a pair NNNN_what.sqlite.sql and
// NNNN_what.postgres.sql where the engines differ. Steps are appended, never
// edited once released: what a database has seen is remembered by name. Every
// step runs in a transaction, so it must hold no statement that cannot.
//
// What SQL cannot do for both engines a step does in Go, after its statements and in
// their transaction. Such a function is a part of the step, and as final: it has models
// of its own, of the tables of its day, and changes with nothing else.
package migrations

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/uptrace/bun"
)

//go:embed *.sql
var files embed.FS

// A Step is one migration.
type Step struct {
	Name string // "0001_start"
	SQL  string
	// Then is run after SQL, in the same transaction; nil if that is all.
	Then func(ctx context.Context, tx bun.IDB) error
}

// About says in words what the step is for: the remark that it begins with, "" where it has
// none.
func (s Step) About() string {
	var words []string
	for line := range strings.Lines(s.SQL) {
		remark, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
		if !ok {
			break
		}
		words = append(words, strings.TrimSpace(remark))
	}
	return strings.Join(words, " ")
}

// inGo are the parts of steps that are not SQL.
var inGo = map[string]func(ctx context.Context, tx bun.IDB) error{
	"0014_repository": moveRepositories,
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
		steps = append(steps, Step{Name: name, SQL: string(text), Then: inGo[name]})
	}
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.Name, b.Name) })
	return steps, nil
}
