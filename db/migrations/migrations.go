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
//
// # Older versions
//
// Several servers of one database are upgraded one after the other, so those of the former
// release go on, and start again, beside a schema that is newer than they are. A step says
// with which versions it works by the newest step that they know, in a line of its file:
//
//	-- Works with: 0024_more_nodes
//
// Without that line it works with none from before it: their servers have to be stopped
// before it is made, and are refused from then on. It can be had from 0024_more_nodes on,
// which gave the memory of it a place.
//
// An older version names the columns that it reads and writes, and so it lives with
//
//   - a table that it does not know, if nothing has to be there for what it does,
//   - a column more, which may be NULL or has a default that is right for rows that it
//     writes without knowing of the column,
//   - an index that is not unique,
//   - a rule that is gone, or that all it does keeps to: what a CHECK or a unique index
//     takes from it ends as a fault.
//
// It does not live with a column or a table that is renamed, dropped or of another type, with
// NOT NULL where it writes NULL, with a value that it cannot read, or with a value that means
// something else than it did. Such a change takes several releases: the first adds what is new
// beside the old and writes both; the step of the second fills in what the version before the
// first wrote meanwhile, and it reads the new; the third writes no more of the old; and a step
// of the fourth, which works with the third, drops it.
//
// The work in the background is that of whoever has the lease, also of the older version:
// each job, sweep and repair of the former release runs over rows that a newer one wrote. So a
// newer version must not rely on what the older one undoes: rows that it takes for left over
// (by their age, by what they lack, by a state that it does not know) and removes, columns
// that it writes anew from others, queues whose rows it takes and cannot do. What is new in
// that way gets a table, a queue or a name of a job that the older version does not look at,
// or its step excludes it.
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
	// Oldest is the newest step that the oldest version knows which works with the database
	// once this one is made: Name itself, unless the step says another.
	Oldest string
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
		if !strings.HasPrefix(line, worksWith) {
			words = append(words, strings.TrimSpace(remark))
		}
	}
	return strings.Join(words, " ")
}

// worksWith begins the line of a step that names the oldest version.
const worksWith = "-- Works with:"

// oldest is what the step of a name and a text says of the oldest version.
func oldest(name, text string) string {
	for line := range strings.Lines(text) {
		if step, ok := strings.CutPrefix(line, worksWith); ok {
			return strings.TrimSpace(step)
		}
	}
	return name
}

// inGo are the parts of steps that are not SQL.
var inGo = map[string]func(ctx context.Context, tx bun.IDB) error{
	"0014_repository": moveRepositories,
}

// For returns the steps of engine, "sqlite" or "postgres", in order.
func For(engine string) ([]Step, error) { return in(files, engine) }

func in(files fs.FS, engine string) ([]Step, error) {
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
		steps = append(steps, Step{Name: name, SQL: string(text), Oldest: oldest(name, string(text)), Then: inGo[name]})
	}
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.Name, b.Name) })
	return steps, nil
}
