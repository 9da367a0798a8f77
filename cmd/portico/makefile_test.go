package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portico/db/dbtest"
)

// Whoever runs make test without Postgres or Redis is told, in the end, what was not
// run; nobody else is told anything.
func TestMakeSaysWhatIsNotRun(t *testing.T) {
	bare := t.TempDir() // a folder of programs with no more than make and its shell
	for _, name := range []string{"make", "sh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bare, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{os.Getenv("PATH"), bare} {
		t.Setenv("PATH", path)
		t.Setenv("MAKEFLAGS", "") // of a make that runs the tests
		cmd := exec.CommandContext(t.Context(), "make", "-s", "-C", "../..", "not-run")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("make not-run: %v\n%s", err, out)
		}
		_, err = exec.LookPath("redis-server")
		for name, here := range map[string]bool{"Postgres": dbtest.Available(), "a pooler": dbtest.PoolerAvailable(), "Redis": err == nil} {
			if strings.Contains(string(out), "NOT RUN: whatever is tested on "+name) == here {
				t.Errorf("%s is here: %v; with %s on PATH make says\n%s", name, here, path, out)
			}
		}
	}
}
