package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A copy of the module goes by another name afterwards: all that it imports is there,
// and what is generated is what its own generator makes.
func TestMove(t *testing.T) {
	dir := t.TempDir()
	const checkout = "../../.."
	err := filepath.WalkDir(checkout, func(name string, entry fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(checkout, name)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || rel == ".git" || rel == "bin" || rel == "data"):
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(dir, rel), 0o777)
		case !entry.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), data, 0o666)
	})
	if err != nil {
		t.Fatal(err)
	}
	const path = "example.com/you/pds"
	if n, err := move(dir, path); err != nil || n < 100 {
		t.Fatalf("%d files, %v", n, err)
	}
	command := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=readonly", "GOPROXY=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	packages := command("list", "-deps", "-test", "./...")
	for p := range strings.FieldsSeq(packages) {
		if strings.HasPrefix(p, "portico/") {
			t.Errorf("%s goes by its former name", p)
		}
	}
	if !strings.Contains(packages, "\n"+path+"/impl/account\n") {
		t.Errorf("got\n%s", packages)
	}
	command("tool", "lexgen", "generate")
	command("tool", "lexgen", "check")
	if n, err := move(dir, "example.org/me/other"); err != nil || n < 100 {
		t.Errorf("once more: %d files, %v", n, err)
	}
	if packages := command("list", "-deps", "-test", "./..."); strings.Contains(packages, path) {
		t.Errorf("once more: got\n%s", packages)
	}
}

func TestMoveRefuses(t *testing.T) {
	for _, path := range []string{"", "portico", "you/portico", "example.com", "example.com/", "https://example.com/you/portico", "example.com/you/por tico"} {
		if _, err := move(t.TempDir(), path); err == nil || !strings.Contains(err.Error(), "is not the path of a module that can be fetched") {
			t.Errorf("%q: %v", path, err)
		}
	}
}
