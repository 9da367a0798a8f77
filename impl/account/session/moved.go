package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// appPasswords is the purpose of the keyed hashes of app passwords.
const appPasswords = "app-password"

// movedPrefix is what the text of a [Sessions.MovedHash] begins with. No other hash does.
const movedPrefix = "$hmac-sha256$"

// MovedHash is the keyed hash of an app password in the form in which it goes to another host:
// with the key of this one, which is worth nothing without the hash, and with it no more than
// what eighty random bits can be guessed with.
func (s *Sessions) MovedHash(mac []byte) string {
	key := s.Keys.MACKey(appPasswords)
	enc := base64.RawStdEncoding.EncodeToString
	return movedPrefix + enc(key[:]) + "$" + enc(mac)
}

// IsMovedHash reports whether a stored hash of an app password came from another host.
func IsMovedHash(stored string) bool { return strings.HasPrefix(stored, movedPrefix) }

// ValidMovedHash reports whether a text is one that MovedHash made.
func ValidMovedHash(stored string) bool {
	_, _, ok := parseMoved(stored)
	return ok
}

func parseMoved(stored string) (key, mac []byte, ok bool) {
	rest, found := strings.CutPrefix(stored, movedPrefix)
	first, second, both := strings.Cut(rest, "$")
	if !found || !both {
		return nil, nil, false
	}
	key, err := base64.RawStdEncoding.DecodeString(first)
	if err != nil || len(key) != sha256.Size {
		return nil, nil, false
	}
	mac, err = base64.RawStdEncoding.DecodeString(second)
	return key, mac, err == nil && len(mac) == sha256.Size
}

// MatchesMoved reports whether a text is the app password of did whose hash came from another
// host.
func MatchesMoved(stored string, did syntax.DID, text string) bool {
	key, mac, ok := parseMoved(stored)
	if !ok {
		return false
	}
	h := hmac.New(sha256.New, key)
	h.Write(appPasswordText(did, text))
	return hmac.Equal(h.Sum(nil), mac)
}

func appPasswordText(did syntax.DID, text string) []byte { return []byte(did.String() + "\x00" + text) }
