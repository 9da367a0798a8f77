package pull

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"portico/gen"
	"portico/gen/source"
)

// Upstream is the file in the folder of lexicons that says where they came from: a line
// for the tree that was synced, and one for every lexicon that was pulled.
const Upstream = "UPSTREAM"

// Folder is a folder of lexicons that others are brought into.
type Folder struct {
	fsys     fs.FS
	dir      string
	docs     map[string]*source.Document // by NSID
	upstream []string                    // lines

	changes []gen.Change
}

// Open reads the folder dir of fsys, which need not be there. Documents with problems
// are as good as any other: they may be what is to be replaced.
func Open(fsys fs.FS, dir string) (*Folder, error) {
	f := &Folder{fsys: fsys, dir: dir, docs: map[string]*source.Document{}}
	docs, _, err := source.Load(fsys, dir, source.Options{Foreign: true})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, d := range docs {
		f.docs[d.NSID] = d
	}
	text, err := fs.ReadFile(fsys, path.Join(dir, Upstream))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", Upstream, err)
	}
	f.upstream = strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' })
	return f, nil
}

// Changes are what bringing the lexicons in changed, and the new [Upstream], ordered
// by path.
func (f *Folder) Changes() ([]gen.Change, error) {
	name := path.Join(f.dir, Upstream)
	old, err := fs.ReadFile(f.fsys, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", Upstream, err)
	}
	all := slices.Clone(f.changes)
	if text := []byte(strings.Join(f.upstream, "\n") + "\n"); !bytes.Equal(old, text) {
		all = append(all, gen.Change{Path: name, Old: old, New: text})
	}
	slices.SortFunc(all, func(a, b gen.Change) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// pulledFrom tells whether a line of Upstream is about one pulled lexicon, and which.
func pulledFrom(line string) (nsid string, ok bool) {
	nsid, rest, _ := strings.Cut(line, " ")
	return nsid, strings.HasPrefix(rest, "at://")
}

// put makes text the document called nsid.
func (f *Folder) put(nsid string, text []byte) (changed bool, err error) {
	name := path.Join(f.dir, strings.ReplaceAll(nsid, ".", "/")+".json")
	var old []byte
	if d := f.docs[nsid]; d != nil {
		name = d.Path
	}
	if old, err = fs.ReadFile(f.fsys, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	switch {
	case old != nil && f.docs[nsid] == nil:
		return false, fmt.Errorf("%s is not the lexicon %s and in the way; move it", name, nsid)
	case old != nil && bytes.Equal(old, text):
		return false, nil
	}
	f.changes = append(f.changes, gen.Change{Path: name, Old: old, New: text})
	return true, nil
}

// text is the document called nsid as it is, or nil.
func (f *Folder) text(nsid string) ([]byte, error) {
	d := f.docs[nsid]
	if d == nil {
		return nil, nil
	}
	return fs.ReadFile(f.fsys, d.Path)
}

// Add brings a pulled lexicon in. One with problems is refused with a [source.Error].
// missing are the lexicons that it refers to and that are not in the folder.
func (f *Folder) Add(r *Record) (changed bool, missing []string, err error) {
	nsid := r.NSID.String()
	old, err := f.text(nsid)
	if err != nil {
		return false, nil, err
	}
	text, err := Format(r.Value, old)
	if err != nil {
		return false, nil, err
	}
	var problems source.Problems
	doc := source.Parse(path.Join(f.dir, strings.ReplaceAll(nsid, ".", "/")+".json"), text, &problems)
	if err := problems.Err(); err != nil {
		return false, nil, err
	}
	if changed, err = f.put(nsid, text); err != nil {
		return false, nil, err
	}
	if f.docs[nsid] == nil {
		f.docs[nsid] = doc
	}
	f.upstream = slices.DeleteFunc(f.upstream, func(line string) bool {
		name, ok := pulledFrom(line)
		return ok && name == nsid
	})
	line := nsid + " " + r.URI() + " " + r.CID
	at, _ := slices.BinarySearchFunc(f.upstream, line, func(have, line string) int {
		if _, ok := pulledFrom(have); !ok {
			return -1
		}
		return strings.Compare(have, line)
	})
	f.upstream = slices.Insert(f.upstream, at, line)
	for _, ref := range doc.Refs() {
		if f.docs[ref] == nil {
			missing = append(missing, ref)
		}
	}
	return changed, missing, nil
}

// Count says what a sync did.
type Count struct{ New, Changed, Removed, Unchanged int }

// Sync makes the documents that emit names (NSIDs or "com.example.*") those of another
// folder, with the documents that they refer to, and removes those that the other
// folder does not have; a name of emit that it has nothing of is none of its business,
// like lexicons of one's own. What exclude matches stays what it is. A document that says what it said before stays as it is. line
// is what [Upstream] says of the other folder. Problems of the documents that are to
// be taken are a [source.Error].
func (f *Folder) Sync(other fs.FS, dir string, emit, exclude []string, line string) (Count, error) {
	var n Count
	docs, problems, err := source.Load(other, dir, source.Options{Foreign: true, Exclude: exclude})
	if err != nil {
		return n, err
	}
	theirs := slices.DeleteFunc(slices.Clone(emit), func(pattern string) bool {
		return !slices.ContainsFunc(docs, func(d *source.Document) bool { return source.Matches(pattern, d.NSID) })
	})
	named := func(nsid string) bool {
		return slices.ContainsFunc(theirs, func(pattern string) bool { return source.Matches(pattern, nsid) })
	}
	there := map[string]*source.Document{}
	taken := map[string]bool{}
	var queue []string
	take := func(nsid string) {
		if there[nsid] != nil && !taken[nsid] {
			taken[nsid] = true
			queue = append(queue, nsid)
		}
	}
	for _, d := range docs {
		there[d.NSID] = d
	}
	for _, d := range docs {
		if named(d.NSID) {
			take(d.NSID)
		}
	}
	if len(queue) == 0 {
		return n, fmt.Errorf("no document there is of %s", strings.Join(emit, ", "))
	}
	paths := map[string]bool{}
	for i := 0; i < len(queue); i++ {
		paths[there[queue[i]].Path] = true
		for _, ref := range there[queue[i]].Refs() {
			take(ref)
		}
	}
	problems = slices.DeleteFunc(problems, func(p source.Problem) bool { return !paths[p.Path] })
	if err := problems.Err(); err != nil {
		return n, err
	}
	slices.Sort(queue)
	for _, nsid := range queue {
		text, err := fs.ReadFile(other, there[nsid].Path)
		if err != nil {
			return n, err
		}
		old, err := f.text(nsid)
		if err != nil {
			return n, err
		}
		switch {
		case old == nil:
			n.New++
		case bytes.Equal(old, text) || same(old, text):
			n.Unchanged++
			continue
		default:
			n.Changed++
		}
		if _, err := f.put(nsid, text); err != nil {
			return n, err
		}
	}
	for nsid, d := range f.docs {
		out := func(pattern string) bool {
			return source.Matches(pattern, nsid) || source.Matches(pattern, strings.TrimPrefix(d.Path, f.dir+"/"))
		}
		if named(nsid) && !taken[nsid] && !slices.ContainsFunc(exclude, out) {
			old, err := fs.ReadFile(f.fsys, d.Path)
			if err != nil {
				return n, err
			}
			n.Removed++
			f.changes = append(f.changes, gen.Change{Path: d.Path, Old: old})
		}
	}
	upstream := []string{line}
	for _, have := range f.upstream {
		if nsid, ok := pulledFrom(have); ok && !taken[nsid] && !named(nsid) {
			upstream = append(upstream, have)
		}
	}
	f.upstream = upstream
	return n, nil
}
