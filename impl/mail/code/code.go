// Package code makes the codes that are sent by email, and reads them as people type them.
//
// A code has 50 random bits, too many to guess within its few minutes and the few tries that an account gets, and rests as a
// keyed hash.
package code

import (
	"encoding/base32"
	"fmt"
	"io"
	"strings"
)

// New returns the text of a new code, XXXXX-XXXXX of A-Z and 2-7. It fails only if random does.
func New(random io.Reader) (string, error) {
	var b [7]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make code: %w", err)
	}
	t := base32.StdEncoding.EncodeToString(b[:])
	return t[:5] + "-" + t[5:10], nil
}

// Normalize returns what somebody typed or pasted as New would have written it: without blanks around it, in capitals. The
// hyphen stays required.
func Normalize(typed string) string { return strings.ToUpper(strings.TrimSpace(typed)) }

// Valid reports whether a normalized text has the form of a code. What has not, was never sent to anybody.
func Valid(text string) bool {
	if len(text) != 11 {
		return false
	}
	for i, c := range []byte(text) {
		if i == 5 {
			if c != '-' {
				return false
			}
		} else if !('A' <= c && c <= 'Z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}
