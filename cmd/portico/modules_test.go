package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var moduleRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$")

// MODULES.md has a row for each module that this one asks for by itself, sorted, and
// says where it is needed: a module comes in with its row, and goes with it.
func TestModulesAreThereForAReason(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v", strings.Join(args, " "), err)
		}
		return string(out)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal([]byte(run("mod", "edit", "-json")), &mod); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../MODULES.md")
	if err != nil {
		t.Fatal(err)
	}

	// Of the packages of ours that a program is linked with, what they import.
	imports := func(program string) []string {
		return strings.Fields(run("list", "-deps", "-f",
			`{{if not .Standard}}{{with .Module}}{{if .Main}}{{range $.Imports}}{{.}} {{end}}{{end}}{{end}}{{end}}`, program))
	}
	server, generator := imports("./cmd/portico"), imports("./cmd/lexgen")
	where := func(module string) string {
		in := func(p string) bool { return p == module || strings.HasPrefix(p, module+"/") }
		switch {
		case slices.ContainsFunc(server, in):
			return "the server"
		case slices.ContainsFunc(generator, in):
			return "the generator"
		case slices.ContainsFunc(mod.Tool, func(tool struct{ Path string }) bool { return in(tool.Path) }):
			return "`make check`"
		}
		return "tests"
	}

	var listed []string
	for _, row := range moduleRow.FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, row[1])
		if got := where(row[1]); got != row[2] {
			t.Errorf("MODULES.md has %s for %s; it is for %s", row[1], row[2], got)
		}
	}
	if !slices.IsSorted(listed) {
		t.Error("the rows of MODULES.md are out of order")
	}
	var wanted []string
	for _, r := range mod.Require {
		if tool := where(r.Path) == "`make check`"; !r.Indirect || tool {
			wanted = append(wanted, r.Path)
		}
	}
	for _, module := range wanted {
		if !slices.Contains(listed, module) {
			t.Errorf("go.mod has %s: MODULES.md does not say what for", module)
		}
	}
	for _, module := range listed {
		if !slices.Contains(wanted, module) {
			t.Errorf("MODULES.md has %s, which is not in go.mod, or only because others need it", module)
		}
	}
}
