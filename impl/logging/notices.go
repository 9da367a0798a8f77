package logging

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// How many notices are kept, and how long their texts are, in bytes.
const (
	maxNotices = 100
	maxMessage = 500
	maxDetail  = 1000
)

// A Notice is a warning or an error of the log.
type Notice struct {
	At      time.Time // when it came last
	Level   slog.Level
	Message string
	Detail  string // attributes of the last one, as slog's text has them
	Count   int    // how often it came
}

// Notices are the latest warnings and errors of a log, each message once. They are kept in
// memory, a hundred of them. All methods may be called at the same time.
type Notices struct {
	mu               sync.Mutex
	all              []*Notice // the last one last
	warnings, errors int64
}

// Counts returns how many warnings and errors came.
func (n *Notices) Counts() (warnings, errors int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.warnings, n.errors
}

// Latest returns the notices, the last one first.
func (n *Notices) Latest() []Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	latest := make([]Notice, 0, len(n.all))
	for _, one := range slices.Backward(n.all) {
		latest = append(latest, *one)
	}
	return latest
}

// Keep is log whose warnings and errors are kept too.
func (n *Notices) Keep(log *slog.Logger) *slog.Logger { return slog.New(keeper{log.Handler(), n, ""}) }

func (n *Notices) add(r slog.Record, detail string) {
	message, detail := cut(r.Message, maxMessage), cut(detail, maxDetail)
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Level >= slog.LevelError {
		n.errors++
	} else {
		n.warnings++
	}
	one := &Notice{Message: message}
	if i := slices.IndexFunc(n.all, func(o *Notice) bool { return o.Message == message && o.Level == r.Level }); i >= 0 {
		one = n.all[i]
		n.all = slices.Delete(n.all, i, i+1)
	} else if len(n.all) == maxNotices {
		n.all = slices.Delete(n.all, 0, 1)
	}
	one.At, one.Level, one.Detail = r.Time, r.Level, detail
	one.Count++
	n.all = append(n.all, one)
}

// keeper hands records on, and keeps those that are worth it. Attributes that a logger has
// of its own are its before.
type keeper struct {
	slog.Handler
	n      *Notices
	before string
}

func (k keeper) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var attrs []slog.Attr
		r.Attrs(func(a slog.Attr) bool {
			attrs = append(attrs, a)
			return true
		})
		k.n.add(r, join(k.before, attrs))
	}
	return k.Handler.Handle(ctx, r)
}

func (k keeper) WithAttrs(attrs []slog.Attr) slog.Handler {
	return keeper{k.Handler.WithAttrs(attrs), k.n, join(k.before, attrs)}
}

func (k keeper) WithGroup(name string) slog.Handler {
	return keeper{k.Handler.WithGroup(name), k.n, k.before}
}

// join adds attributes to a text as a line of slog's text has them.
func join(text string, attrs []slog.Attr) string {
	var b strings.Builder
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.MessageKey {
			return slog.Attr{}
		}
		return a
	}})
	r := slog.NewRecord(time.Time{}, slog.LevelInfo, "", 0)
	r.AddAttrs(attrs...)
	_ = h.Handle(context.Background(), r) // a Builder takes everything
	line := strings.TrimPrefix(strings.TrimSpace(b.String()), "level=INFO")
	return strings.TrimSpace(text + line)
}

func cut(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
