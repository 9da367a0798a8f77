package password

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"io"
	"strings"
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

// HashApp returns the 32 bytes under which an app password is stored and looked up. App passwords are random enough that
// a fast hash suffices, as long as it is keyed with the server's secret.
func HashApp(secret []byte, did, text string) []byte {
	h := hmac.New(sha256.New, secret)
	// No DID contains a NUL, so no two accounts share an input; nor does any other use of the secret.
	io.WriteString(h, strings.Join([]string{"app password", did, text}, "\x00"))
	return h.Sum(nil)
}
