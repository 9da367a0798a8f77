package gen_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"portico/gen"
	"portico/gen/model"
)

// ring is a document of n definitions, each of which refers to eight others and all to all
// of them in the end.
func ring(n int) fstest.MapFS {
	var defs []string
	for i := range n {
		props := []string{`"list": {"type": "array", "items": {"type": "string"}}`}
		for k := range 8 {
			props = append(props, fmt.Sprintf(`"p%d": {"type": "ref", "ref": "#d%d"}`, k, (i+1+7*k*k)%n))
		}
		defs = append(defs, fmt.Sprintf(`"d%d": {"type": "object", "required": ["list"], "properties": {%s}}`, i, strings.Join(props, ", ")))
	}
	return fstest.MapFS{"lexicons/ring.json": {Data: fmt.Appendf(nil, `{"lexicon": 1, "id": "com.example.ring.defs", "defs": {%s}}`, strings.Join(defs, ",\n"))}}
}

// TestRing holds what a definition costs to be no more where there are many: ten times as
// many take about ten times the processor's time.
func TestRing(t *testing.T) {
	c := gen.Config{Lexicons: "lexicons", Model: model.Config{Emit: []string{"*"}, Import: "x"}}
	took := func(n int) time.Duration {
		fsys, start := ring(n), processor(t)
		files := generate(t, c, fsys)
		text := string(files["example/ring/defs_gen.go"])
		if tables, lists := strings.Count(text, "is filled by init"), strings.Count(text, ") Normalize() {"); tables != n || lists != n {
			t.Fatalf("%d definitions have %d tables and %d lists", n, tables, lists)
		}
		return processor(t) - start
	}
	took(10)
	few, many := took(100), took(1000)
	if t.Logf("100 definitions in %s, 1000 in %s", few, many); many > 30*few {
		t.Errorf("1000 definitions take %s, 100 take %s", many, few)
	}
}

// processor is the time for which this process has kept the processor busy.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
