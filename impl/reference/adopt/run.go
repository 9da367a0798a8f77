package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// ErrRefused says that something grave was found, which the report names: nothing that a
// server would start with is there.
var ErrRefused = errors.New("not adopted")

// start begins a report with what the caller has found.
func (a *Adoption) start() {
	a.report = &Report{Counts: []Count{}, Findings: slices.Clone(a.Found), Unmanaged: []syntax.DID{}}
	if a.report.Findings == nil {
		a.report.Findings = []Finding{}
	}
}

// confirm asks about the accounts whose DIDs this server could not change, unless there is
// something grave anyhow.
func (a *Adoption) confirm() {
	r := a.report
	if r.Refused() || a.Directory != nil && len(r.Unmanaged) == 0 || a.Confirm != nil && a.Confirm(r.Unmanaged) {
		return
	}
	f := Finding{Name: "unmanaged", Grave: true, Text: fmt.Sprintf("%d accounts have DIDs that lack this server's rotation key or the account's key: "+
		"it cannot change them, and they are listed. If that is as it should be, --accept-unmanaged goes on", len(r.Unmanaged))}
	if a.Directory == nil {
		f.Name, f.Text = "identities-unknown", "the PLC directory was not asked whether this server may change the DIDs: --accept-unmanaged goes on all the same"
	}
	a.found(f)
}

// Run adopts all that was not adopted yet, looks whether it is as it was, and gives the
// database the name under which a server opens it; Target is closed then. It is called with
// what [Begin] has made.
//
// It returns ErrRefused with a report when something grave was found, [reference.ErrInUse],
// and ErrChanged when the source was written to meanwhile: then all is to begin anew.
func (a *Adoption) Run(ctx context.Context) (*Report, error) {
	a.start()
	if err := a.plan(ctx); err != nil {
		return a.report, err
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"accounts", a.accounts},
		{"repositories", a.repositories},
		{"events", a.events},
		{"blobs", a.blobs},
		{"checks", func(ctx context.Context) error { return a.check(ctx, a.report) }},
	} {
		if err := step.run(ctx); err != nil {
			return a.report, fmt.Errorf("adopt %s: %w", step.name, err)
		}
		if err := errors.Join(ctx.Err(), a.refused()); err != nil {
			return a.report, err
		}
	}
	return a.report, a.finish(ctx)
}

// refused is ErrRefused when something grave was found.
func (a *Adoption) refused() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.report.Refused() {
		return ErrRefused
	}
	return nil
}

// found adds to the report, unless that is there: what the plan has found is found again.
// Several goroutines may call it.
func (a *Adoption) found(f Finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.report.Findings, f) {
		a.report.Findings = append(a.report.Findings, f)
	}
}

// told reports whether something of this name is in the report of an account. It is not for
// several goroutines.
func (a *Adoption) told(name string, did syntax.DID) bool {
	return slices.ContainsFunc(a.report.Findings, func(f Finding) bool { return f.Name == name && f.DID == did })
}

// count puts a line into the report, in the place of the one there is of the same.
// Several goroutines may call it.
func (a *Adoption) count(c Count) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.report.Counts, func(before Count) bool { return before.Of == c.Of })
	if i < 0 {
		a.report.Counts = append(a.report.Counts, c)
	} else {
		a.report.Counts[i] = c
	}
}

// progress tells how far a part has come.
func (a *Adoption) progress(part string, done, total int64) {
	if a.Progress != nil {
		a.Progress(Progress{Part: part, Done: done, Total: total})
	}
}
