package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// envFile is a file of settings, read. Nothing of it is expanded.
type envFile struct {
	path  string
	pairs []envPair // a name each; an empty value, which unsets, is in none
	// warnings are what its writer may have meant otherwise. They name lines and
	// variables, and repeat no value.
	warnings []string
}

// envPair is a setting in an environment file.
type envPair struct{ name, value string }

// readEnvFile reads a file as [parseEnvFile] does. Errors and warnings begin with path.
func readEnvFile(path string) (*envFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	f, err := parseEnvFile(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	f.path = path
	for i := range f.warnings {
		f.warnings[i] = path + ":" + f.warnings[i]
	}
	return f, nil
}

// parseEnvFile reads lines of NAME=value: blank lines and those that begin with # say
// nothing, "export" may stand in front, a value may be quoted, and in an unquoted one
// a # after a blank begins a comment. Within '…' everything is as it is, within "…" a
// backslash before $, `, " and \ goes away, as in a shell. Nothing is expanded: a $ is
// a $. Of lines with one name the last holds, and an empty one unsets it. Errors begin
// with the number of the line and do not repeat its value. Ours because joho/godotenv
// expands $, turns \n into a line break, and tells nobody of either.
func parseEnvFile(data []byte) (*envFile, error) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, errors.New("1: is UTF-16: save the file as UTF-8")
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // Windows' editors begin files so
	f := &envFile{}
	at := map[string]int{} // the line of each name
	values := map[string]string{}
	var names []string
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
			return nil, fmt.Errorf("%d: is not text in UTF-8", number)
		}
		if rest, ok := strings.CutPrefix(line, "export"); ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t")) {
			line = strings.TrimSpace(rest)
		}
		name, text, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || !namePattern.MatchString(name) {
			return nil, fmt.Errorf("%d: is not of the form NAME=value", number)
		}
		value, unexpanded, ok := envValue(strings.TrimSpace(text))
		if !ok {
			return nil, fmt.Errorf("%d: the quoted value of %s does not end with its line", number, name)
		}
		if unexpanded != "" {
			f.warnings = append(f.warnings, fmt.Sprintf("%d: %s has %s, which stays as it is: nothing is expanded in this file (in '…' no shell does either)", number, name, unexpanded))
		}
		if first := at[name]; first > 0 {
			what := "the later holds"
			if value == "" {
				what = "the later is empty, which unsets it"
			}
			f.warnings = append(f.warnings, fmt.Sprintf("%d: %s stands in line %d already: %s", number, name, first, what))
		} else {
			names = append(names, name)
		}
		at[name], values[name] = number, value
	}
	for _, name := range names {
		if values[name] != "" {
			f.pairs = append(f.pairs, envPair{name, values[name]})
		}
	}
	return f, nil
}

// envValue reads what stands behind the = of a line. unexpanded is what a shell would
// put something else in the place of: "~", "$" or "`".
func envValue(text string) (value, unexpanded string, ok bool) {
	switch {
	case strings.HasPrefix(text, "'"):
		value, rest, closed := strings.Cut(text[1:], "'")
		return value, "", closed && onlyComment(rest)
	case strings.HasPrefix(text, `"`):
		var b strings.Builder
		for i := 1; i < len(text); i++ {
			c := text[i]
			switch {
			case c == '"':
				return b.String(), unexpanded, onlyComment(text[i+1:])
			case c == '\\' && i+1 < len(text) && strings.IndexByte("$`\"\\", text[i+1]) >= 0:
				i++
				c = text[i]
			case c == '`', c == '$' && expansion(text[i:]) == "$":
				unexpanded = string(c)
			}
			b.WriteByte(c)
		}
		return "", "", false
	}
	for i := range len(text) {
		if text[i] == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\t') {
			text = strings.TrimSpace(text[:i])
			break
		}
	}
	return text, expansion(text), true
}

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

var expansionPattern = regexp.MustCompile("^~(/|$)|\\$[a-zA-Z0-9_{(]|`")

// expansion is the sign in an unquoted text that makes a shell put something else in
// its place, or empty.
func expansion(text string) string {
	found := expansionPattern.FindString(text)
	return found[:min(len(found), 1)]
}

func onlyComment(rest string) bool {
	rest = strings.TrimSpace(rest)
	return rest == "" || rest[0] == '#'
}

// checkMode is a warning when everybody on the machine may read the secrets in f. That
// a group may is how a service's user is let in.
func (f *envFile) checkMode() string {
	info, err := os.Stat(f.path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	if !f.hasSecrets() {
		return ""
	}
	return fmt.Sprintf("%s has secrets and can be read by everybody on this machine (mode %04o): chmod o-r it", f.path, info.Mode().Perm())
}

// hasSecrets says whether f sets something that nobody else is to know.
func (f *envFile) hasSecrets() bool {
	return slices.ContainsFunc(f.pairs, func(p envPair) bool { return secretName(p.name) })
}
