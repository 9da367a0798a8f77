package adopt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/tree"
)

// repositoriesValue is the meta value with what was read of the stores whose repositories
// are written.
const repositoriesValue = "adopted repositories"

// notes are that value.
type notes struct {
	Figures  figures   `json:"figures"`
	Findings []Finding `json:"findings"`
}

// atOnce is how many accounts share a transaction, at most.
const atOnce = 200

// repositories writes the repositories of all accounts, with what else is in their stores.
// Several small ones share a transaction; a large one has several, of which the last
// writes the row of the repository, so that one which has its row is done. What is wrong
// with a store becomes a finding, and its repository is left out: then it returns ErrRefused.
func (a *Adoption) repositories(ctx context.Context) error {
	todo, all, err := a.waiting(ctx)
	if err != nil {
		return err
	}
	w := &repositoryWriter{a: a, done: int64(all - len(todo)), all: int64(all)}
	if w.notes, err = a.notes(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for of := range a.read(ctx, todo) {
		if err := w.take(ctx, <-of); err != nil {
			return err
		}
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, f := range w.notes.Findings {
		a.found(f)
	}
	if w.grave > 0 {
		return fmt.Errorf("%w: %d repositories are damaged", ErrRefused, w.grave)
	}
	return nil
}

// waiting returns the accounts whose repositories are to be written, and how many there are
// in all.
func (a *Adoption) waiting(ctx context.Context) (todo []syntax.DID, all int, err error) {
	for actor, err := range a.Source.Actors(ctx) {
		if err != nil {
			return nil, 0, err
		}
		all++
		did := syntax.DID(actor.DID)
		_, err := a.Target.Repo(ctx, did)
		switch {
		case errors.Is(err, db.ErrNotFound):
			todo = append(todo, did)
		case err != nil:
			return nil, 0, err
		}
	}
	return todo, all, nil
}

// notes returns what is noted of the repositories that are written.
func (a *Adoption) notes(ctx context.Context) (notes, error) {
	var of notes
	b, err := a.Target.Meta(ctx, repositoriesValue)
	if errors.Is(err, db.ErrNotFound) {
		return of, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &of)
	}
	if err != nil {
		return of, fmt.Errorf("meta value %s: %w", repositoriesValue, err)
	}
	return of, nil
}

// A readStore is a store that was read, or why it was not.
type readStore struct {
	did  syntax.DID
	repo *repository
	err  error // errLarge: it is not read yet
}

// read reads the stores of accounts, several at a time, and gives them in their order until
// the context ends. As many are in memory as there are processors, and one more.
func (a *Adoption) read(ctx context.Context, dids []syntax.DID) <-chan (<-chan readStore) {
	stores := make(chan (<-chan readStore), runtime.GOMAXPROCS(0)-1)
	go func() {
		defer close(stores)
		for _, did := range dids {
			one := make(chan readStore, 1)
			select {
			case stores <- one:
			case <-ctx.Done():
				return
			}
			go func() {
				r := readStore{did: did}
				r.err = a.withStore(ctx, did, func(s *reference.Store) (err error) {
					r.repo, err = readSmall(ctx, s, did)
					return err
				})
				one <- r
			}()
		}
	}()
	return stores
}

func (a *Adoption) withStore(ctx context.Context, did syntax.DID, do func(*reference.Store) error) error {
	s, err := a.Source.Store(ctx, did.String())
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// A repositoryWriter writes what was read.
type repositoryWriter struct {
	a         *Adoption
	notes     notes // with what is not written yet
	some      []*repository
	bytes     int
	done, all int64
	grave     int // findings
}

// take takes one store, and writes it with others when they are enough.
func (w *repositoryWriter) take(ctx context.Context, s readStore) error {
	if errors.Is(s.err, errLarge) {
		s.repo, s.err = w.large(ctx, s.did)
	}
	if s.err != nil {
		w.done++
		return w.broken(ctx, s.did, s.err)
	}
	w.some = append(w.some, s.repo)
	w.bytes += s.repo.rows.bytes
	if w.bytes < batchBytes && len(w.some) < atOnce {
		return nil
	}
	return w.flush(ctx)
}

// large reads a large store and writes all of it but the end.
func (w *repositoryWriter) large(ctx context.Context, did syntax.DID) (r *repository, err error) {
	err = w.a.withStore(ctx, did, func(s *reference.Store) (err error) {
		r, err = readLarge(ctx, s, did, func(some *batch) error {
			err := w.a.Target.WriteAlone(ctx, func(tx *db.Tx) error { return some.write(ctx, tx, did) })
			if err != nil {
				return fmt.Errorf("%w: %w", errTarget, err)
			}
			return nil
		})
		return err
	})
	return r, err
}

// flush writes the repositories that were taken.
func (w *repositoryWriter) flush(ctx context.Context) error {
	if len(w.some) == 0 {
		return nil
	}
	for _, r := range w.some {
		w.notes.Figures.add(r.figures)
		w.notes.Findings = append(w.notes.Findings, r.findings...)
	}
	note, err := json.Marshal(w.notes)
	if err != nil {
		return err
	}
	err = w.a.Target.WriteAlone(ctx, func(tx *db.Tx) error {
		for _, r := range w.some {
			if err := r.finish(ctx, tx); err != nil {
				return fmt.Errorf("store repository of %s: %w", r.did, err)
			}
		}
		return tx.PutMeta(ctx, repositoriesValue, note)
	})
	if err != nil {
		return err
	}
	w.done += int64(len(w.some))
	w.some, w.bytes = nil, 0
	w.a.progress("repositories", w.done, w.all)
	return nil
}

// broken makes an error of a store a finding, unless it is not the store's.
func (w *repositoryWriter) broken(ctx context.Context, did syntax.DID, err error) error {
	if ctx.Err() != nil || errors.Is(err, errTarget) {
		return err
	}
	if errors.Is(err, reference.ErrNoStore) && w.a.SkipBroken {
		return nil
	}
	w.a.found(storeFinding(did, err))
	w.grave++
	return nil
}

// storeFinding says what is wrong with a store that could not be read.
func storeFinding(did syntax.DID, err error) Finding {
	f := Finding{Name: "store-damaged", DID: did, Grave: true, Text: err.Error()}
	for _, kind := range []struct {
		err        error
		name, mend string
	}{
		{reference.ErrNoStore, "store-missing", "a deletion was cut off, or a file is gone: restore it, or let --skip-broken finish the deletion"},
		{tree.ErrMissing, "block-missing", ""},
		{car.ErrHash, "block-damaged", ""},
		{tree.ErrNode, "tree-damaged", ""},
		{repo.ErrCommit, "commit-damaged", ""},
		{errRecords, "records-differ", "the old server's script rebuild-repo makes the tree of an account anew from its records"},
	} {
		if errors.Is(err, kind.err) {
			if f.Name = kind.name; kind.mend != "" {
				f.Text += "; " + kind.mend
			}
			break
		}
	}
	return f
}
