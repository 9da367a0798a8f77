package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// A table is rows that are printed together.
type table struct {
	mode  string // what the names of its samples end with
	rows  []*row
	print func()
}

func (b *bench) goals(ctx context.Context, mode string) (*table, error) {
	all := matching(goals, workName, b.pattern)
	if len(all) == 0 {
		return nil, nil
	}
	subjects, err := b.running(ctx, mode)
	if err != nil {
		return nil, err
	}
	t := &table{mode: mode}
	t.print = func() {
		fmt.Printf("Processor time (user and system) per request, %d connections, SQLite with synchronous=%s.\n"+
			"Medians of %d rounds; behind a ratio the least and the most of a round.\n\n", *workers, mode, *rounds)
		w := newWriter()
		fmt.Fprintf(w, "method\trequests\tserver\tfloor\tserver ÷ floor\trounds\tgoal\t\t%s\n", head("peer", "peer ÷ floor", "server ÷ peer", "rounds"))
		for _, r := range t.rows {
			server, floor := r.of(ofServer), r.of(ofFloor)
			over := server.over(floor, sample.each)
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.2f\t%s\t%s\t", r.name, r.requests, server.time(), floor.time(), over.median, over.spread(), r.verdict(over.median))
			if p := r.of(ofPeer); p != nil {
				than := server.over(p, sample.each)
				fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%s\t", p.time(), p.over(floor, sample.each).median, than.median, than.spread())
			}
			fmt.Fprintln(w)
		}
		w.Flush()
	}
	t.rows, err = bind(all, subjects)
	return t, err
}

func (r *row) verdict(over float64) string {
	switch {
	case r.goal == 0:
		return "\t"
	case over <= r.goal:
		return fmt.Sprintf("%.2f\tmet", r.goal)
	}
	return fmt.Sprintf("%.2f\tNOT MET", r.goal)
}

// Goals with many connections.
const (
	leastRate   = 0.95 // getSession's requests a second ÷ the floor's
	mostP99     = 1.1  // getSession's p99 ÷ the floor's
	leastFaster = 3.0  // refreshSession's requests a second ÷ those of a release without group commit
)

func (b *bench) wide(ctx context.Context) (*table, error) {
	subjects, err := b.running(ctx, "FULL")
	if err != nil {
		return nil, err
	}
	t := &table{mode: fmt.Sprintf("FULL/connections=%d", manyConnections)}
	t.print = func() {
		fmt.Printf("%d connections, synchronous=FULL: requests a second, and until when 99 of 100 were answered.\n\n", manyConnections)
		w := newWriter()
		fmt.Fprintf(w, "method\trequests\tserver\tfloor\tserver ÷ floor\trounds\tp99\tfloor\tp99 ÷ floor\trounds\t%s\n",
			head("peer", "server ÷ peer", "rounds", "p99"))
		for _, r := range t.rows {
			server, floor := r.of(ofServer), r.of(ofFloor)
			over, longer := server.over(floor, sample.rate), server.over(floor, sample.p99)
			fmt.Fprintf(w, "%s\t%d\t%.0f/s\t%.0f/s\t%.2f\t%s\t%s\t%s\t%.2f\t%s\t", r.name, r.requests, server.figure(sample.rate).median,
				floor.figure(sample.rate).median, over.median, over.spread(), show(server.figure(sample.p99).median), show(floor.figure(sample.p99).median),
				longer.median, longer.spread())
			if p := r.of(ofPeer); p != nil {
				than := server.over(p, sample.rate)
				fmt.Fprintf(w, "%.0f/s\t%.2f\t%s\t%s\t", p.figure(sample.rate).median, than.median, than.spread(), show(p.figure(sample.p99).median))
			}
			fmt.Fprintln(w)
		}
		w.Flush()
		fmt.Printf("\ngoals: getSession at least %.2f of the floor's requests a second, its p99 at most %.1f of the floor's;\n"+
			"refreshSession at least %.0f times the requests a second of a release without group commit\n", leastRate, mostP99, leastFaster)
	}
	t.rows, err = bind(wide, subjects)
	return t, err
}

func (b *bench) repositories(ctx context.Context) (*table, error) {
	all := matching(repositories(ctx, b.passing), workName, b.pattern)
	if len(all) == 0 {
		return nil, nil
	}
	subjects, err := b.running(ctx, "FULL")
	if err != nil {
		return nil, err
	}
	t := &table{mode: "FULL"}
	t.print = func() {
		fmt.Print("What the floor has not, synchronous=FULL.\n\n")
		t.printBeside()
	}
	subjects = slices.DeleteFunc(slices.Clone(subjects), func(s *subject) bool { return s.who == ofFloor })
	if t.rows, err = bind(all, subjects); err != nil {
		return nil, err
	}
	for _, r := range t.rows {
		if r.name == passedOn {
			r.add(ofFloor, b.passing.proxy, b.passing.through)
			print := t.print
			t.print = func() {
				print()
				over := r.of(ofServer).over(r.of(ofFloor), sample.each)
				fmt.Printf("\npassed on: %.2f times (%s) the standard library's reverse proxy, which takes %s\n", over.median, over.spread(), r.of(ofFloor).time())
			}
		}
	}
	return t, nil
}

func (b *bench) lists(ctx context.Context) (*table, error) {
	t := &table{mode: "FULL", rows: matching(listRows(), func(r *row) string { return r.name }, b.pattern)}
	if len(t.rows) == 0 {
		return nil, nil
	}
	t.print = func() {
		fmt.Printf("Per page of a list, on a server with %d accounts, %d invite codes and %d uses of them.\n\n", seeded, 2*seeded, seeded-1)
		t.printBeside()
		dearest := slices.MaxFunc(t.rows, func(a, b *row) int {
			return int(a.of(ofServer).figure(sample.each).median - b.of(ofServer).figure(sample.each).median)
		})
		fmt.Printf("\ngoal: at most %v for each; the dearest is %s, %s\n", mostForLists, dearest.name, dearest.of(ofServer).time())
	}
	start := func(who, binary string) error {
		if isReference(binary) {
			return fmt.Errorf("it is not a portico")
		}
		l, err := startLists(ctx, binary, b.dir+"/lists-"+who, b.env)
		if err != nil {
			return err
		}
		b.subjects["lists"] = append(b.subjects["lists"], &subject{Server: l.Server, who: who})
		b.started = append(b.started, l.Process)
		return l.bind(who, t.rows)
	}
	if err := start(ofServer, b.binary); err != nil {
		if os.Getenv("PORTICO_BINARY") == "" {
			return nil, err
		}
		note(fmt.Errorf("lists are not asked for: %w", err)) // it may be a former one
		return nil, nil
	}
	if *peer != "" {
		if err := start(ofPeer, *peer); err != nil {
			note(fmt.Errorf("the peer is not asked for lists: %w", err))
		}
	}
	return t, nil
}

// printBeside prints the time of the server, and the peer's beside it.
func (t *table) printBeside() {
	w := newWriter()
	fmt.Fprintf(w, "method\trequests\tserver\t%s\n", head("peer", "server ÷ peer", "rounds"))
	for _, r := range t.rows {
		server := r.of(ofServer)
		fmt.Fprintf(w, "%s\t%d\t%s\t", r.name, r.requests, server.time())
		if p := r.of(ofPeer); p != nil {
			than := server.over(p, sample.each)
			fmt.Fprintf(w, "%s\t%.2f\t%s\t", p.time(), than.median, than.spread())
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func workName(w work) string { return w.name }

func newWriter() *tabwriter.Writer {
	return tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
}

// head are the headings of columns about a peer, if there is one.
func head(columns ...string) string {
	if *peer == "" {
		return ""
	}
	return strings.Join(columns, "\t") + "\t"
}

func (t *target) time() string { return show(t.figure(sample.each).median) }

func (f figure) spread() string { return fmt.Sprintf("%.2f–%.2f", f.least, f.most) }

// show is a time of so many nanoseconds in a unit that keeps it short.
func show(ns float64) string {
	if ns >= float64(time.Millisecond) {
		return fmt.Sprintf("%.1f ms", ns/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f µs", ns/float64(time.Microsecond))
}

// writeSamples writes what each round gave as Go's benchmarks do.
func writeSamples(path string, all []*table, lines []string) error {
	var b strings.Builder
	b.WriteString("Unit req/s better=higher\n")
	for _, t := range all {
		for _, r := range t.rows {
			for _, of := range r.targets {
				for _, s := range of.samples {
					fmt.Fprintf(&b, "Benchmark%s/program=%s/%s %d %.0f cpu-ns/op %.0f p99-ns %.1f req/s\n",
						camel(r.name), camel(of.who), t.mode, s.requests, s.each(), s.p99(), s.rate())
				}
			}
		}
	}
	for _, line := range lines {
		fmt.Fprintln(&b, line)
	}
	return os.WriteFile(path, []byte(b.String()), 0o666)
}

// camel makes a name of words one word.
func camel(name string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
