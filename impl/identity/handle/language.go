package handle

import (
	"regexp"
	"strings"
)

// slurs are ethnic, homophobic and transphobic ones. As a rule only whole words count, since many are part of harmless words
// (raccoon); the last counts anywhere.
var slurs = compile(
	`\bchinks?\b`,
	`\bcoons?\b`,
	`\bfag(?:g?[oei]t)?(?:s|ry|gy)?\b`,
	`\bkikes?\b`,
	`\bnigg?(?:a|ah|az|uh)s?\b`,
	`\btrann(?:y|ie)s?\b`,
	`nigg(?:er|let)`,
)

var (
	lookAlikes = strings.NewReplacer("i", "[i1l]", "a", "[a4@]", "o", "[o0]", "e", "[e3]")
	separators = strings.NewReplacer(".", "", "-", "", "_", "")
)

// compile widens the letters of each pattern to what is written for them to slip past.
func compile(patterns ...string) []*regexp.Regexp {
	var out []*regexp.Regexp
	for _, p := range patterns {
		// Classes of their own are spelled out first, so that the look-alikes do not nest.
		p = strings.ReplaceAll(p, "[oei]", "(?:o|e|i)")
		out = append(out, regexp.MustCompile(lookAlikes.Replace(p)))
	}
	return out
}

// Inappropriate reports whether a handle in lower case has a slur in it, as it is or with its separators taken out.
func Inappropriate(handle string) bool {
	bare := separators.Replace(handle)
	for _, re := range slurs {
		if re.MatchString(handle) || re.MatchString(bare) {
			return true
		}
	}
	return false
}
