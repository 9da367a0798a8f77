// Package logging makes the log of a server: slog's lines, gathered before they are
// written, so that a request hardly pays for its line.
package logging

import (
	"context"
	"io"
	"log/slog"
	"time"
)

// New logs to w what is of level or above: lines of JSON, or of slog's text. A line of
// level warn or above is written before the call that logs it returns, and with it all
// before; others are at most a tenth of a second later, if w takes them. What becomes of
// those that w does not take says [buffer]. flush returns when what was logged before is
// written, or can't be. close does that, and makes the log write line by line from then on.
// Neither takes longer than a second.
func New(w io.Writer, level slog.Leveler, json bool) (log *slog.Logger, flush, close func()) {
	lines := func(w io.Writer) slog.Handler {
		options := &slog.HandlerOptions{Level: level}
		if json {
			return slog.NewJSONHandler(w, options)
		}
		return slog.NewTextHandler(w, options)
	}
	direct := lines(w)
	b := newBuffer(w, func(n int) error {
		r := slog.NewRecord(time.Now(), slog.LevelError, "lines of the log were lost: nobody took them, or too slowly", 0)
		r.AddAttrs(slog.Int("lines", n))
		return direct.Handle(context.Background(), r)
	})
	return slog.New(handler{lines(b), b}), b.Flush, b.Close
}

// A handler flushes the buffer that slog's handler writes to behind whatever is worth a
// look at once.
type handler struct {
	slog.Handler
	b *buffer
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.b.Flush()
	}
	return err
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.b}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.b}
}
