// Modulepath puts this module under a path of one's own, as "make module" does:
//
//	go run ./cmd/internal/modulepath example.com/you/portico
//
// A module is fetched by its path, so one that is called portico and no more can be by
// nobody. What imports a package, names one to the go command, or says which the module
// is, is changed in the working tree; all else that is called Portico stays.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: make module MODULE=example.com/you/portico")
		os.Exit(2)
	}
	n, err := move(".", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%d files name the module %s now\n", n, os.Args[1])
}

var (
	valid     = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9._~-]+)+$`)
	directive = regexp.MustCompile(`(?m)^module (\S+)$`)
)

// move changes the module in dir to the path, and returns how many files that took.
func move(dir, path string) (files int, err error) {
	if !valid.MatchString(path) {
		return 0, fmt.Errorf("%q is not the path of a module that can be fetched, such as example.com/you/portico", path)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return 0, err
	}
	found := directive.FindSubmatch(mod)
	if found == nil {
		return 0, errors.New("go.mod names no module")
	}
	old := regexp.QuoteMeta(string(found[1]))
	// A package of the module; what go.mod and its template say of it; and the name as
	// a text of its own where code compares paths.
	named := regexp.MustCompile(`(^|[^\w./-])` + old + `(/(?:api|impl|db|gen|cmd|\.\.\.))`)
	said := regexp.MustCompile(`(?m)((?:^|")(?:module|replace|require) )` + old + `( |\\n|$)`)
	compared := regexp.MustCompile(`(!= "|HasPrefix\(p, "|\), ")` + old + `([ /]?")`)
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "node_modules", "bin", "data"}, entry.Name()):
			return fs.SkipDir
		case entry.IsDir(), !slices.Contains([]string{".go", ".mod", ".tmpl", ".txt", ".md"}, filepath.Ext(name)):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		changed := string(text)
		for {
			// Twice where one match ends with what the next begins with.
			next := named.ReplaceAllString(changed, "${1}"+path+"${2}")
			if next == changed {
				break
			}
			changed = next
		}
		changed = said.ReplaceAllString(changed, "${1}"+path+"${2}")
		if strings.HasSuffix(name, ".go") {
			changed = compared.ReplaceAllString(changed, "${1}"+path+"${2}")
		}
		if changed == string(text) {
			return nil
		}
		files++
		return os.WriteFile(name, []byte(changed), 0o666)
	})
	return files, err
}
