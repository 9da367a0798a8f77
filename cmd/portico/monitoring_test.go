package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	namedMetric = regexp.MustCompile(`\bportico_[a-z0-9_]+`)
	rule        = regexp.MustCompile(`(?m)^      - alert: (\w+)\n((?:        .*\n)+)`)
)

// What the dashboard and the alerts ask for is what a server has, and what it has is on the dashboard.
func TestMonitoringAsksForWhatThereIs(t *testing.T) {
	known := make(map[string]bool)
	for _, m := range described() {
		known[m.Name] = true
		if m.Type == "histogram" {
			known[m.Name+"_bucket"], known[m.Name+"_count"] = true, true
		}
	}
	shown := ""
	for _, f := range monitoringFiles {
		text, err := deploy.ReadFile("deploy/" + f.file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range namedMetric.FindAllString(string(text), -1) {
			if !known[name] {
				t.Errorf("%s asks for %s, which no server has", f.file, name)
			}
		}
		if f.name == "dashboard" {
			shown = string(text)
			var d struct {
				Panels []struct {
					ID      int
					Title   string
					Targets []struct{ Expr string }
				}
			}
			if err := json.Unmarshal(text, &d); err != nil {
				t.Fatal(err)
			}
			ids := make(map[int]bool)
			for _, p := range d.Panels {
				if ids[p.ID] {
					t.Errorf("%s has the number of another panel", p.Title)
				}
				ids[p.ID] = true
				for _, target := range p.Targets {
					if n := strings.Count(target.Expr, `job=~"$job",instance=~"$instance"`); n == 0 || n != strings.Count(target.Expr, "{") {
						t.Errorf("%s asks for servers that were not chosen: %s", p.Title, target.Expr)
					}
				}
			}
		}
	}
	for _, m := range described() {
		// When what is counted was counted is for who doubts it.
		if m.Name != "portico_counts_timestamp_seconds" && !strings.Contains(shown, m.Name) {
			t.Errorf("%s is not on the dashboard", m.Name)
		}
	}
}

// Each alert says what is the matter and where it is told what to do, and there it is.
func TestAlertsSayWhatToDo(t *testing.T) {
	text, err := deploy.ReadFile("deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range rule.FindAllStringSubmatch(string(text), -1) {
		name, body := r[1], r[2]
		names = append(names, name)
		for _, line := range []string{"severity: (critical|warning|info)", `summary: "[^"]+"`, `description: ".{20,}"`, "runbook: OPERATING.md#" + strings.ToLower(name)} {
			if !regexp.MustCompile(`(?m)^ +` + line + `$`).MatchString(body) {
				t.Errorf("%s has no %s", name, line)
			}
		}
		_, todo, ok := strings.Cut(string(manual), "\n#### "+name+"\n\n")
		if todo, _, _ = strings.Cut(todo, "\n#"); !ok || len(todo) < 150 {
			t.Errorf("OPERATING.md does not say what to do about %s", name)
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^#### (Portico\w+)$`).FindAllStringSubmatch(string(manual), -1) {
		if !slices.Contains(names, heading[1]) {
			t.Errorf("OPERATING.md has %s, which is no alert", heading[1])
		}
	}
	if n := strings.Count(string(text), "- alert:"); n < 20 || n != len(names) {
		t.Errorf("%d alerts were found of %d", len(names), n)
	}
}
