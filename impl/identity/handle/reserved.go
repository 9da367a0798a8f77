package handle

import (
	_ "embed"
	"strings"
)

//go:embed reserved.txt
var reservedText string

// Names is a set of labels in lower case. The zero value is empty.
type Names map[string]struct{}

// Reserved returns the built-in reserved names, with those that an operator adds and without those that it excepts. An
// exception wins over an addition.
func Reserved(add, except []string) Names {
	names := ParseNames(reservedText)
	for _, name := range add {
		names[strings.ToLower(name)] = struct{}{}
	}
	for _, name := range except {
		delete(names, strings.ToLower(name))
	}
	return names
}

// ParseNames reads a list: one name a line, empty lines and lines that begin with "#" aside.
func ParseNames(text string) Names {
	names := make(Names)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names[strings.ToLower(line)] = struct{}{}
		}
	}
	return names
}

// Has reports whether name, in lower case, is in the set.
func (n Names) Has(name string) bool {
	_, ok := n[name]
	return ok
}
