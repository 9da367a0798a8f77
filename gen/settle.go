package gen

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"portico/gen/model"
	"portico/gen/source"
)

// Settled is what [Config.Settle] came to.
type Settled struct {
	Config  Config           // that of the receiver with all that follows
	Added   []Decision       // what Config has more, ordered by setting and entry
	LeftOut []source.Problem // of documents that are left out, ordered by place
}

// Decision is an entry of the configuration.
type Decision struct{ Setting, Entry, Value, Why string }

// String says what the decision means.
func (d Decision) String() string {
	switch d.Setting {
	case "Merge":
		return fmt.Sprintf("%s is part of the package %s: %s", d.Entry, d.Value, d.Why)
	case "Folders":
		return fmt.Sprintf("%s is the package %s: %s", d.Entry, d.Value, d.Why)
	}
	return fmt.Sprintf("%s is called %s: %s", d.Entry, d.Value, d.Why)
}

// Settling says what Settle may do.
type Settling struct {
	Decide   bool // add to Merge, Folders and Rename what problems ask for
	LeaveOut bool // add documents to Exclude that have other problems, and those that need them
}

// passes is more than any set of lexicons needs, where each pass settles all that it can.
const passes = 100

// Settle finds a configuration with which the documents of fsys can be generated. It is
// the same for the same documents and the same configuration. What it may not settle, or
// cannot, is a [source.Error].
func (c Config) Settle(fsys fs.FS, may Settling) (*Settled, error) {
	s := &Settled{Config: c}
	s.Config.Exclude = slices.Clone(c.Exclude)
	s.Config.Model.Merge, s.Config.Model.Folders, s.Config.Model.Rename = maps.Clone(c.Model.Merge), maps.Clone(c.Model.Folders), maps.Clone(c.Model.Rename)
	for _, m := range []*map[string]string{&s.Config.Model.Merge, &s.Config.Model.Folders, &s.Config.Model.Rename} {
		if *m == nil {
			*m = map[string]string{}
		}
	}
	for range passes {
		docs, problems, err := source.Load(fsys, c.Lexicons, s.Config.Options())
		if err != nil {
			return nil, err
		}
		model.Build(s.Config.Model, docs, &problems)
		err = problems.Err()
		found, ok := errors.AsType[source.Error](err)
		if !ok {
			return s, err
		}
		asks := func(p source.Problem) bool { return p.Fix != nil }
		wrong := slices.DeleteFunc(slices.Clone(found), asks)
		switch {
		case len(wrong) > 0 && may.LeaveOut:
			s.leaveOut(wrong)
		case len(wrong) > 0 || !may.Decide:
			return nil, err
		default:
			s.decide(slices.DeleteFunc(found, func(p source.Problem) bool { return !asks(p) }))
		}
	}
	return nil, fmt.Errorf("settle the names and packages of %s: no end after %d attempts", c.Lexicons, passes)
}

func (s *Settled) leaveOut(wrong []source.Problem) {
	for _, p := range wrong {
		name := p.Path
		if s.Config.Lexicons != "." {
			name = strings.TrimPrefix(name, s.Config.Lexicons+"/")
		}
		if !slices.Contains(s.Config.Exclude, name) {
			s.Config.Exclude = append(s.Config.Exclude, name)
		}
	}
	s.LeftOut = append(s.LeftOut, wrong...)
}

// decide does what problems ask for, packages before names. Those that are below others
// wait: they may be gone with them.
func (s *Settled) decide(problems []source.Problem) {
	for _, setting := range []string{"Merge", "Folders", "Rename"} {
		done := false
		for _, p := range problems {
			if p.Fix.Setting == setting && !slices.ContainsFunc(problems, func(above source.Problem) bool {
				return above.Fix.Setting == setting && above.Path == p.Path && strings.HasPrefix(p.Pointer, above.Pointer+"/")
			}) {
				s.fix(p.Fix)
				done = true
			}
		}
		if done {
			return
		}
	}
}

func (s *Settled) fix(f *source.Fix) {
	m := &s.Config.Model
	into := map[string]map[string]string{"Merge": m.Merge, "Folders": m.Folders, "Rename": m.Rename}[f.Setting]
	for entry, value := range f.Entries {
		gone := func(other string) bool {
			return other == entry || f.Setting == "Merge" && strings.HasPrefix(other, entry+".")
		}
		maps.DeleteFunc(into, func(other, _ string) bool { return gone(other) })
		s.Added = slices.DeleteFunc(s.Added, func(d Decision) bool { return d.Setting == f.Setting && gone(d.Entry) })
		into[entry] = value
		s.Added = append(s.Added, Decision{f.Setting, entry, value, f.Why})
	}
	slices.SortFunc(s.Added, func(a, b Decision) int {
		return cmp.Or(strings.Compare(a.Setting, b.Setting), strings.Compare(a.Entry, b.Entry))
	})
}
