package gen

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"portico/gen/openapi"
	"portico/gen/render"
)

// Change is a file that is not as the lexicons would have it.
type Change struct {
	Path string
	Old  []byte // nil: the file is to be made
	New  []byte // nil: the file is to be deleted
}

// Changes compares files, as made by Generate, with what stands in fsys, ordered by
// path. A file is ours when it bears the header; one that is not stays what it is,
// and where the two want the same path that is an error.
func (c Config) Changes(fsys fs.FS, files map[string][]byte) ([]Change, error) {
	var changes []Change
	var clashes []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		old, err := fs.ReadFile(fsys, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			changes = append(changes, Change{Path: name, New: files[name]})
		case err != nil:
			return nil, fmt.Errorf("compare the generated files: %w", err)
		case !ours(old):
			clashes = append(clashes, fmt.Errorf("%s: was not generated and is in the way; move it or rename the document", name))
		case !bytes.Equal(old, files[name]):
			changes = append(changes, Change{name, old, files[name]})
		}
	}
	err := fs.WalkDir(fsys, c.Out, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == c.Out {
			return fs.SkipAll
		}
		if err != nil || !entry.Type().IsRegular() || !generated(name) || files[name] != nil {
			return err
		}
		old, err := fs.ReadFile(fsys, name)
		if err == nil && ours(old) {
			changes = append(changes, Change{Path: name, Old: old})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for stale files: %w", err)
	}
	if err := errors.Join(clashes...); err != nil {
		return nil, err
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return changes, nil
}

// generated tells whether name is that of a file that could be ours.
func generated(name string) bool {
	return strings.HasSuffix(name, "_gen.go") || path.Base(name) == openapi.File
}

// ours tells whether the first line of a file is the header, or what JSON has for it.
func ours(src []byte) bool {
	if bytes.HasPrefix(src, []byte(openapi.Header)) {
		return true
	}
	line, _, _ := bytes.Cut(src, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	return bytes.HasPrefix(line, []byte(render.Header)) && bytes.HasSuffix(line, []byte(render.HeaderEnd))
}

// Apply makes changes below the folder root, and removes folders that they leave
// empty.
func Apply(root string, changes []Change) error {
	for _, c := range changes {
		name := filepath.Join(root, filepath.FromSlash(c.Path))
		if c.New == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return fmt.Errorf("write generated files: %w", err)
		}
		if err := os.WriteFile(name, c.New, 0o666); err != nil {
			return fmt.Errorf("write generated files: %w", err)
		}
	}
	for _, c := range changes {
		if c.New != nil {
			continue
		}
		if err := os.Remove(filepath.Join(root, filepath.FromSlash(c.Path))); err != nil {
			return fmt.Errorf("remove stale files: %w", err)
		}
		// Remove refuses a folder that is not empty, which ends the way up.
		for dir := path.Dir(c.Path); dir != "."; dir = path.Dir(dir) {
			if os.Remove(filepath.Join(root, filepath.FromSlash(dir))) != nil {
				break
			}
		}
	}
	return nil
}
