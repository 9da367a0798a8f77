package model

import (
	"fmt"
	"go/token"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Namer turns the names of a lexicon into Go identifiers. Each depends on the
// name alone, so a new neighbour never renames what is already used.
type Namer struct {
	// Initialisms are written in capitals wherever they are a word: DID, URL.
	Initialisms []string
}

// Exported is the exported identifier for s. What is no letter or digit is dropped
// and raises the letter after it; a name of which nothing is left is spelt by its
// code points.
func (n Namer) Exported(s string) string {
	var b strings.Builder
	for _, w := range words(s) {
		b.WriteString(n.word(w))
	}
	name := b.String()
	if name == "" {
		for _, r := range s {
			fmt.Fprintf(&b, "U%X", r)
		}
		if name = b.String(); name == "" {
			return "X"
		}
		return name
	}
	if first, _ := utf8.DecodeRuneInString(name); !unicode.IsUpper(first) {
		return "X" + name
	}
	return name
}

// Unexported is the exported name with its first word in small letters:
// DIDDoc → didDoc.
func (n Namer) Unexported(exported string) string {
	for _, i := range slices.SortedFunc(slices.Values(n.Initialisms), func(a, b string) int { return len(b) - len(a) }) {
		rest, ok := strings.CutPrefix(exported, i)
		if next, _ := utf8.DecodeRuneInString(strings.TrimPrefix(rest, "s")); ok && !unicode.IsLower(next) {
			return strings.ToLower(i) + rest
		}
	}
	first, size := utf8.DecodeRuneInString(exported)
	return string(unicode.ToLower(first)) + exported[size:]
}

func (n Namer) word(w string) string {
	upper := strings.ToUpper(w)
	if slices.Contains(n.Initialisms, upper) {
		return upper
	}
	if one, plural := strings.CutSuffix(upper, "S"); plural && slices.Contains(n.Initialisms, one) {
		return one + "s"
	}
	first, size := utf8.DecodeRuneInString(w)
	return string(unicode.ToUpper(first)) + w[size:]
}

// words splits at everything that is no letter or digit, before a capital that
// follows a small letter or digit, and before the last capital of a run of them.
func words(s string) []string {
	var all []string
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.Is(unicode.Nd, r) || r == utf8.RuneError
	}) {
		runes := []rune(part)
		start := 0
		for i := 1; i < len(runes); i++ {
			if !unicode.IsUpper(runes[i]) {
				continue
			}
			if !unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]) {
				all = append(all, string(runes[start:i]))
				start = i
			}
		}
		all = append(all, string(runes[start:]))
	}
	return all
}

// Snake is the file name form of a lexicon name: createSession → create_session.
func Snake(s string) string {
	w := words(s)
	for i := range w {
		w[i] = strings.ToLower(w[i])
	}
	return strings.Join(w, "_")
}

// taken are the identifiers that generated code uses for something else: its
// imports, what is predeclared, and the names of receivers and variables.
var taken = strings.Fields(`
	xrpc syntax atdata json context errors
	any append bool byte cap clear close comparable complex complex64 complex128 copy delete error
	false float32 float64 imag int int8 int16 int32 int64 iota len make max min new nil panic print
	println real recover rune string true uint uint8 uint16 uint32 uint64 uintptr
	init main ctx in params data typ err plain c e i j n o p q r s u v k svc
`)

// free is name, or name with suffix where name means something else already.
func free(name, suffix string) string {
	if token.IsKeyword(name) || slices.Contains(taken, name) {
		return name + suffix
	}
	return name
}

// fixed are the exported identifiers that a package with methods or records has of its own.
var fixed = []string{"Service", "Policy", "Register", "Client", "Records"}

// members are the names of generated methods, which no field may have.
var members = []string{"Schema", "Normalize", "MarshalJSON", "UnmarshalJSON", "DecodeParams", "EncodeParams"}
