package main

import (
	"os"
	"strings"
	"testing"
)

// What the document for operators shows of a file is the file that was tried.
func TestOperatingShowsTheFiles(t *testing.T) {
	text, err := os.ReadFile("OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, language := range map[string]string{
		"Caddyfile": "", "nginx.conf": "nginx", "haproxy.cfg": "", "compose.yaml": "yaml", "logrotate": "",
	} {
		b, err := deploy.ReadFile("deploy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\n```"+language+"\n"+string(b)+"```\n") {
			t.Errorf("OPERATING.md has not what is in deploy/%s", file)
		}
	}
}
