package logging_test

import (
	"fmt"
	"io"
	"log/slog"
	"testing"

	"portico/impl/logging"
)

// Of warnings and errors each is kept once, the last first; all of them are logged.
func TestNotices(t *testing.T) {
	var n logging.Notices
	lines := &counter{}
	log := n.Keep(slog.New(slog.NewTextHandler(lines, nil)))
	log.Debug("debug")
	log.Info("info")
	log.Warn("w")
	log.Error("e", "n", 1)
	log.With("a", "b").Warn("w", "n", 2)
	var got string
	for _, one := range n.Latest() {
		got += fmt.Sprintf("%s %s %q %d\n", one.Level, one.Message, one.Detail, one.Count)
	}
	if want := "WARN w \"a=b n=2\" 2\nERROR e \"n=1\" 1\n"; got != want {
		t.Errorf("kept\n%swant\n%s", got, want)
	}
	if warnings, errors := n.Counts(); warnings != 2 || errors != 1 {
		t.Errorf("%d warnings and %d errors were counted, want 2 and 1", warnings, errors)
	}
	if lines.n != 4 {
		t.Errorf("%d lines were logged, want 4", lines.n)
	}
}

type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n++
	return io.Discard.Write(p)
}
