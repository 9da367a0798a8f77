package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Goals of memory, in MB of 1,000,000 bytes.
const (
	mostForLogins = 90
	mostIdle      = 30
)

// settles is how long a server is left alone before its memory is looked at.
const settles = 3 * time.Second

// memory prints what memory logins take and a server without work. Each figure is of a
// server that has just been started on a database with some accounts.
func (b *bench) memory(ctx context.Context) error {
	fmt.Printf("Resident memory in MB; each figure is the median of %d starts with %d accounts.\n\n", starts(), people)
	w := newWriter()
	fmt.Fprintf(w, "\t8 logins at once\t%d logins at once\tgoal\tidle for %v\tof it file-backed\tgoal\t\n", people, settles)
	for _, of := range []struct{ who, binary string }{{ofServer, b.binary}, {ofPeer, *peer}} {
		if of.binary == "" || isReference(of.binary) {
			continue
		}
		m, err := b.memoryOf(ctx, of.who, of.binary)
		if err != nil {
			return fmt.Errorf("%s: %w", of.who, err)
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%d\t%.1f\t%.1f\t%d\t\n", of.who, m.few.median, m.many.median, mostForLogins, m.idle.median, m.file.median, mostIdle)
	}
	return w.Flush()
}

type memory struct{ few, many, idle, file figure }

// starts is how often memory is looked at, which takes longer than a round.
func starts() int { return min(*rounds, 3) }

func (b *bench) memoryOf(ctx context.Context, who, binary string) (m memory, err error) {
	// With its own setting the server would refuse some of so many who come at once.
	env := append(slices.Clone(b.env), fmt.Sprintf("PORTICO_PASSWORD_HASH_QUEUE=%d", 4*people))
	s, err := startSubject(ctx, who, binary, b.dir+"/memory-"+who, env)
	if err != nil {
		return m, err
	}
	defer func() { s.Kill() }()
	again := func() error {
		if err := s.Stop(); err != nil {
			return err
		}
		server, err := s.Again(ctx)
		if err == nil {
			s.Server = server
		}
		return err
	}
	logins := func(n, workers int) (float64, error) {
		if err := again(); err != nil {
			return 0, err
		}
		if err := spread(n, workers, s.client.divided(workers).createSession); err != nil {
			return 0, err
		}
		peak, err := s.PeakMemory()
		return float64(peak), err
	}
	var few, many, idle, file []float64
	for range starts() {
		n, err := logins(people/2, 8)
		if err != nil {
			return m, err
		}
		few = append(few, n)
		if n, err = logins(people, people); err != nil {
			return m, err
		}
		many = append(many, n)
		if err := again(); err != nil {
			return m, err
		}
		time.Sleep(settles)
		for name, values := range map[string]*[]float64{"VmRSS": &idle, "RssFile": &file} {
			n, err := s.Memory(name)
			if err != nil {
				return m, err
			}
			*values = append(*values, float64(n))
		}
	}
	for name, values := range map[string][]float64{"Logins8": few, "Logins64": many, "Idle": idle, "IdleFileBacked": file} {
		for _, n := range values {
			b.lines = append(b.lines, fmt.Sprintf("BenchmarkMemory%s/program=%s 1 %.0f B", name, who, n))
		}
	}
	mb := func(values []float64) figure {
		f := figureOf(values)
		return figure{f.median / 1e6, f.least / 1e6, f.most / 1e6}
	}
	return memory{mb(few), mb(many), mb(idle), mb(file)}, nil
}
