package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeWalk is somebody who reads README and types what it says: every line that
// begins with curl, and the commands that look at the outbox, in this order, next to a
// server that was started in the same folder.
func TestReadmeWalk(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	s, _ := startFor(t)
	var token string
	var curls, mails int
	for line := range strings.Lines(string(text)) {
		command := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(command, "curl "):
			curls++
		case strings.HasPrefix(command, "go run ./cmd/portico mail "):
			mails++
			command = strings.TrimPrefix(command, "go run ./cmd/")
		default:
			continue
		}
		command = strings.ReplaceAll(command, "http://localhost:2583", s.PublicURL.String())
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Env = append(os.Environ(), "TOKEN="+token)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		var answer struct{ Error, AccessJwt string }
		if json.Unmarshal(out, &answer); answer.Error != "" {
			t.Errorf("%s is answered\n%s", command, out)
		}
		if answer.AccessJwt != "" { // the reader copies it
			token = answer.AccessJwt
		}
		if command == "portico mail show 1" && !regexp.MustCompile(`[A-Z2-7]{5}-[A-Z2-7]{5}`).Match(out) {
			t.Errorf("%s prints no code:\n%s", command, out)
		}
	}
	if curls < 2 || mails < 2 {
		t.Errorf("README has %d lines with curl and %d about mails: where did they go?", curls, mails)
	}
}
