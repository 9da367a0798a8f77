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
	"unicode"
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

// Normalize returns what somebody typed or pasted as New would have written it: its letters and digits in capitals, with the
// hyphen in its place. Whatever else came along (blanks, another dash or none, a full stop) is no part of a code.
func Normalize(typed string) string {
	t := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToUpper(r)
		}
		return -1
	}, typed)
	if len(t) == 10 {
		t = t[:5] + "-" + t[5:]
	}
	return t
}

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
