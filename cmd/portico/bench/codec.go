package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// codecBodies are those that the program in testdata/codec knows.
var codecBodies = []string{
	"createSession input", "createSession output", "createAccount input", "createAccount output", "listRecords output, 100 records",
}

// codecPrograms are what it measures, the server's runtime first.
var codecPrograms = []string{ofServer, "encoding/json", "ogen"}

const codecTime = "100ms" // for each measurement

// codec measures what bodies cost, in a program of its own.
func (b *bench) codec(ctx context.Context) error {
	var rows []string
	for _, name := range codecBodies {
		rows = append(rows, "codec: decode "+name, "codec: encode "+name)
	}
	if rows = matching(rows, func(name string) string { return name }, b.pattern); len(rows) == 0 {
		return nil
	}
	program, err := buildCodec(ctx, filepath.Join(b.dir, "codec"))
	if err != nil {
		return err
	}
	fmt.Printf("What bodies cost, without a server: ns and allocations each. The server checks what the lexicon says, what ogen generates\n"+
		"of openapi.json a part of it, encoding/json nothing. Medians of %d rounds of %s; behind a ratio the least and the most of a round.\n\n",
		*rounds, codecTime)
	w := newWriter()
	fmt.Fprintln(w, "row\tbytes\tserver ns/op\tallocs\tencoding/json ns/op\tallocs\tserver ÷ encoding/json\trounds\togen ns/op\tallocs\tserver ÷ ogen\trounds\t")
	for _, row := range rows {
		m, err := measureCodec(ctx, program, strings.TrimPrefix(row, "codec: "))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%d\t", row, m.bytes)
		for _, who := range codecPrograms {
			fmt.Fprintf(w, "%.0f\t%d\t", figureOf(m.ns[who]).median, m.allocations[who])
			if who != ofServer {
				over := m.over(who)
				fmt.Fprintf(w, "%.2f\t%s\t", over.median, over.spread())
			}
			for _, ns := range m.ns[who] {
				b.lines = append(b.lines, fmt.Sprintf("Benchmark%s/program=%s 1 %.1f ns/op %d allocs/op", camel(row), camel(who), ns, m.allocations[who]))
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Println()
	return nil
}

// buildCodec builds the program in dir, with what ogen generates for it.
func buildCodec(ctx context.Context, dir string) (program string, err error) {
	run := func(dir string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off")
		var failed strings.Builder
		cmd.Stderr = &failed
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, failed.String())
		}
		return strings.TrimSpace(string(out)), nil
	}
	root, err := run(".", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	name, err := run(".", "list", "-m")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "cmd/portico/bench/testdata/codec"))); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"mod", "edit", "-replace", name + "=" + root},
		{"tool", "ogen", "-config", "ogen.yml", "-loglevel", "error", "-target", "ogen", "-package", "ogen", filepath.Join(root, "api/openapi.json")},
		{"build", "-o", "codec", "."},
	} {
		if _, err := run(dir, args...); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "codec"), nil
}

// codecRow is what a row gave: of each program the time in each round.
type codecRow struct {
	bytes       int // of the body
	ns          map[string][]float64
	allocations map[string]int
}

// over compares the server with another program round by round.
func (m *codecRow) over(who string) figure {
	var values []float64
	for i, ns := range m.ns[ofServer] {
		values = append(values, ns/m.ns[who][i])
	}
	return figureOf(values)
}

func measureCodec(ctx context.Context, program, row string) (*codecRow, error) {
	cmd := exec.CommandContext(ctx, program, "-test.benchtime", codecTime, "-rounds", fmt.Sprint(*rounds), row)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", row, err)
	}
	m := &codecRow{ns: map[string][]float64{}, allocations: map[string]int{}}
	for line := range strings.Lines(string(out)) {
		var ns float64
		var allocations int
		_, rest, _ := strings.Cut(line, "\t")
		who, rest, _ := strings.Cut(rest, "\t")
		if _, err := fmt.Sscanf(rest, "%d\t%f\t%d", &m.bytes, &ns, &allocations); err != nil {
			return nil, fmt.Errorf("%s: what the program wrote, %q: %w", row, line, err)
		}
		m.ns[who], m.allocations[who] = append(m.ns[who], ns), allocations
	}
	for _, who := range codecPrograms {
		if len(m.ns[who]) != *rounds {
			return nil, fmt.Errorf("%s: %d rounds of %s, want %d", row, len(m.ns[who]), who, *rounds)
		}
	}
	return m, nil
}
