// Package doctor finds out whether a server is set up as its operator means it to be: what
// the world sees of it, what it needs of others, and what it has on its machine.
//
// Each check says what was found and, where that is not as it should be, what to do, in
// terms of the setting, record or line to change. A check changes nothing; that of the
// blob store writes a few bytes, and removes them. What others answer is bounded before it
// is read, and what is told of it can do nothing to a terminal.
package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// State is what a check came to.
type State string

// The states, the best first. Scripts read them.
const (
	OK       State = "ok"
	NotTried State = "not tried" // Found says why
	Warning  State = "warning"   // it works, but not for all, or not for long
	Failed   State = "failed"
)

// Result is what a check found.
type Result struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Found string `json:"found"`
	Do    string `json:"do,omitzero"` // "" where nothing is to be done
}

// A Check looks at one thing.
type Check struct {
	Name string
	// Run need not fill in the name. It returns soon after the context is done, unless the
	// system keeps it, which Run of this package does not wait for.
	Run func(context.Context) Result
}

// Run runs the checks side by side, for as long as patience each, and returns their results
// in the order of the checks.
func Run(ctx context.Context, checks []Check, patience time.Duration) []Result {
	results := make([]Result, len(checks))
	var running sync.WaitGroup
	for i, c := range checks {
		running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			done := make(chan Result, 1)
			go func() { done <- c.Run(ctx) }()
			var r Result
			select {
			case r = <-done:
			case <-ctx.Done():
				// What waits on the network returns by itself, and says more than that it is
				// late. A file system that does not answer keeps its caller for good.
				select {
				case r = <-done:
				case <-time.After(time.Second):
					r = failed(fmt.Sprintf("no result after %v", patience), "Look at whether the disk, or a file system of the network, still answers")
				}
			}
			r.Name, r.Found, r.Do = c.Name, clean(r.Found), clean(r.Do)
			results[i] = r
		})
	}
	running.Wait()
	return results
}

func ok(found string, args ...any) Result {
	return Result{State: OK, Found: fmt.Sprintf(found, args...)}
}
func notTried(why string) Result      { return Result{State: NotTried, Found: why} }
func warning(found, do string) Result { return Result{State: Warning, Found: found, Do: do} }
func failed(found, do string) Result  { return Result{State: Failed, Found: found, Do: do} }

// worst is the result of several looks at one thing: the worst state, and all that speaks
// for it.
func worst(all ...Result) Result {
	rank := []State{OK, NotTried, Warning, Failed}
	var out Result
	for _, r := range all {
		if slices.Index(rank, r.State) > slices.Index(rank, out.State) {
			out.State = r.State
		}
	}
	var found, do []string
	for _, r := range all {
		if r.State == out.State || r.State == Warning {
			found = append(found, r.Found)
			if r.Do != "" && !slices.Contains(do, r.Do) {
				do = append(do, r.Do)
			}
		}
	}
	out.Found, out.Do = strings.Join(found, "; "), strings.Join(do, "\n")
	return out
}

// memo is something that several checks want to know, and that is found out once.
type memo[T any] struct {
	once  sync.Once
	value T
}

func (m *memo[T]) get(find func() T) T {
	m.once.Do(func() { m.value = find() })
	return m.value
}

const maxText = 10_000 // bytes of what is found, or to be done

var userPattern = regexp.MustCompile(`://[^/?#\s]*@`)

// clean is text that can do nothing to a terminal, without users and passwords of URLs, and
// not too long. Lines stay.
func clean(text string) string {
	text = userPattern.ReplaceAllString(text, "://")
	text = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return '?'
	}, text)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// brief is what is told of a text that somebody else chose: a line of at most 100 bytes.
func brief(text string) string {
	text = strings.Join(strings.Fields(clean(text)), " ")
	if len(text) > 100 {
		text = strings.ToValidUTF8(text[:100], "") + "…"
	}
	return text
}
