package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"portico/impl/reference/adopt"
)

// print tells what was found and done.
func (a *adopter) print(r *adopt.Report, dry bool) error {
	if a.json {
		return (&console{out: a.out}).printJSON(r)
	}
	var b strings.Builder
	writeReport(&b, r, dry)
	if !dry && !r.Refused() {
		fmt.Fprintf(&b, "\nAll of it is in %s. Keep copies of %s and %s in there.\nThe user that the server runs as has to own it.\n", a.into, secretsName, adoptedEnv)
		if a.settings.BlobLeftFolder != "" {
			fmt.Fprintf(&b, "Blobs are read in %s: that user has to be able to.\n", a.settings.BlobLeftFolder)
		}
		fmt.Fprintf(&b, "Start the server:\n\n  portico serve --env-file %s/%s\n", a.into, adoptedEnv)
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

// listedFindings is how many findings of one name are told: where all accounts have one, the
// others would not be seen among them.
const listedFindings = 20

func writeReport(b *strings.Builder, r *adopt.Report, dry bool) {
	adopted := "ADOPTED"
	if dry {
		adopted = ""
	}
	fmt.Fprintf(b, "edition of the old server: %s\nnumber of its last event: %d\n\n", r.Edition, r.LastEvent)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\tTHERE\tLEFT OUT\t%s\n", adopted)
	for _, c := range r.Counts {
		here := ""
		if !dry {
			here = fmt.Sprint(c.Adopted)
		}
		if c.Why != "" {
			here += "\t" + c.Why
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\n", c.Of, c.Source, c.Dropped, here)
	}
	t.Flush()
	for _, grave := range []bool{true, false} {
		title := "worth knowing"
		if grave {
			title = "to be mended first"
		}
		listed := make(map[string]int)
		for _, f := range r.Findings {
			if f.Grave != grave {
				continue
			}
			if listed[f.Name]++; listed[f.Name] > listedFindings {
				continue
			}
			if title != "" {
				fmt.Fprintf(b, "\n%s:\n", title)
				title = ""
			}
			b.WriteString("  " + f.Name)
			if f.DID != "" {
				b.WriteString(" " + string(f.DID))
			}
			b.WriteString(": " + printable(f.Text) + "\n")
		}
		for _, name := range slices.Sorted(maps.Keys(listed)) {
			if more := listed[name] - listedFindings; more > 0 {
				fmt.Fprintf(b, "  %s: %d more, which --json lists\n", name, more)
			}
		}
	}
	if len(r.Unmanaged) > 0 {
		b.WriteString("\nDIDs that this server cannot change, or that lack the account's key:\n")
		for _, did := range r.Unmanaged {
			b.WriteString("  " + string(did) + "\n")
		}
	}
}

// How often progress is told: on a terminal in one line, else line by line.
const (
	progressOnTerminal = 200 * time.Millisecond
	progressInLog      = 15 * time.Second
)

// shower tells how far it is, and done ends the line.
func (a *adopter) shower() (show func(adopt.Progress), done func()) {
	f, ok := a.errs.(*os.File)
	p := &progressLine{out: a.errs, terminal: ok && isTerminal(f), now: time.Now}
	return p.show, p.end
}

// progressLine is where progress is told. Several goroutines may.
type progressLine struct {
	out      io.Writer
	terminal bool
	now      func() time.Time

	mu          sync.Mutex
	part        string
	began, told time.Time
	from        int64 // how far the part was when it was first heard of
	open        bool  // a line was begun
}

func (p *progressLine) show(at adopt.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if at.Part != p.part {
		p.part, p.began, p.from, p.told = at.Part, now, at.Done, time.Time{}
	}
	wait := progressInLog
	if p.terminal {
		wait = progressOnTerminal
	}
	if now.Sub(p.told) < wait && at.Done != at.Total {
		return
	}
	p.told = now
	text := p.text(at, now)
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
		p.open = true
		return
	}
	fmt.Fprintln(p.out, text)
}

// text is one line: how much is done, how fast, and how long the rest takes at that.
func (p *progressLine) text(at adopt.Progress, now time.Time) string {
	text := fmt.Sprintf("%s %d", at.Part, at.Done)
	if at.Total > 0 {
		text += fmt.Sprintf(" of %d", at.Total)
	}
	passed, done := now.Sub(p.began), at.Done-p.from
	if passed < time.Second || done <= 0 {
		return text
	}
	text += fmt.Sprintf(", %.0f a second", float64(done)/passed.Seconds())
	if rest := at.Total - at.Done; at.Total > 0 && rest > 0 {
		left := time.Duration(float64(passed) * float64(rest) / float64(done))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

func (p *progressLine) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.open = false
	}
}
