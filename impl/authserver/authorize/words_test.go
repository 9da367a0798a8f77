package authorize

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"portico/impl/page/words"
)

var sayPattern = regexp.MustCompile(`\bsay ("(?:[^"\\]|\\.)*")`)

// Whatever these pages say is in the table of languages.
func TestEveryTextIsInTheTable(t *testing.T) {
	n := 0
	known := func(where, quoted string) {
		n++
		text, err := strconv.Unquote(quoted)
		if err != nil || !words.Known(text) {
			t.Errorf("%s: %s is not in the table of package words", where, quoted)
		}
	}
	for _, pattern := range []string{"files/*.html", "../../page/files/*.html"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range sayPattern.FindAllStringSubmatch(string(b), -1) {
				known(name, m[1])
			}
		}
	}
	// The constants of messages.go, and what package wording gives to say and one.
	for name, wanted := range map[string]map[string]bool{"messages.go": nil, "../../page/wording/wording.go": {"say": true, "one": true}} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.ValueSpec:
				for _, v := range node.Values {
					if l, ok := v.(*ast.BasicLit); ok && l.Kind == token.STRING && wanted == nil {
						known(name, l.Value)
					}
				}
			case *ast.CallExpr:
				called := ""
				switch f := node.Fun.(type) {
				case *ast.Ident:
					called = f.Name
				case *ast.SelectorExpr:
					called = f.Sel.Name
				}
				for _, arg := range node.Args {
					if l, ok := arg.(*ast.BasicLit); ok && wanted[called] {
						known(name, l.Value)
					}
				}
			}
			return true
		})
	}
	if n < 120 {
		t.Errorf("only %d texts were found", n)
	}
}
