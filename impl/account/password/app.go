package password

import (
	"encoding/base32"
	"fmt"
	"io"
)

var appAlphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewApp returns the text of a new app password, xxxx-xxxx-xxxx-xxxx, with 80 random bits. It fails only if random does.
func NewApp(random io.Reader) (string, error) {
	var b [10]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make app password: %w", err)
	}
	t := appAlphabet.EncodeToString(b[:])
	return t[:4] + "-" + t[4:8] + "-" + t[8:12] + "-" + t[12:], nil
}

// IsApp reports whether text has the form of an app password. What has not, is none: a login need not look for it.
func IsApp(text string) bool {
	if len(text) != 19 {
		return false
	}
	for i, c := range []byte(text) {
		if i%5 == 4 {
			if c != '-' {
				return false
			}
		} else if !('a' <= c && c <= 'z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}
