package logging

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A log that is moved away and opened anew, again and again while others write, loses
// nothing: each line is in one of the files, whole, and those of one writer in their order.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if err := os.WriteFile(path, []byte("from before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log, flush, stop := New(f, slog.LevelInfo, false)
	const writers, lines, turns = 4, 2000, 50
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range lines {
				log.Info(fmt.Sprintf("%d:%d", w, i))
			}
		})
	}
	for i := range turns {
		log.Info(fmt.Sprintf("turn:%d", i))
		if err := os.Rename(path, filepath.Join(dir, fmt.Sprintf("log.%03d", i))); err != nil {
			t.Fatal(err)
		}
		flush()
		if err := f.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	writing.Wait()
	stop()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	next := make([]int, writers)
	for i := range turns + 1 {
		name := filepath.Join(dir, fmt.Sprintf("log.%03d", i))
		if i == turns {
			name = path
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && !strings.HasPrefix(string(text), "from before\n") {
			t.Error("what was in the file is gone")
		}
		if i < turns && !strings.Contains(string(text), fmt.Sprintf("msg=turn:%d\n", i)) {
			t.Errorf("%s lacks the line from before it was moved away", name)
		}
		for _, m := range messages(strings.TrimPrefix(string(text), "from before\n")) {
			var w, n int
			if strings.HasPrefix(m, "INFO msg=turn:") {
				continue
			}
			if _, err := fmt.Sscanf(m, "INFO msg=%d:%d", &w, &n); err != nil {
				t.Fatalf("torn line %q in %s", m, name)
			}
			if n != next[w] {
				t.Fatalf("line %d of writer %d, want %d", n, w, next[w])
			}
			next[w]++
		}
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("%d lines of writer %d, want %d", n, w, lines)
		}
	}
}

// Where the new file cannot be opened the log goes on in the old one.
func TestReopenFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	moved := dir + ".moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err == nil {
		t.Error("there is no folder, and it was opened")
	}
	if _, err := f.Write([]byte("still here\n")); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(moved, "log")); err != nil || string(text) != "still here\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := OpenFile(path); err == nil {
		t.Error("opened without a folder")
	}
	info, err := os.Stat(filepath.Join(moved, "log"))
	if err != nil || info.Mode().Perm()&0o027 != 0 {
		t.Errorf("others may write or read it: %v, %v", info.Mode(), err)
	}
}
