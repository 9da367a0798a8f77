package xrpc

import "strings"

// What is here takes the strings of a format that are written as nearly all are, and nothing
// that is not of the format. It refuses others that are.

// consists reports whether s has some characters, at most most, and all are in set.
func consists(s string, set *[256]bool, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if !set[s[i]] {
			return false
		}
	}
	return true
}

func setOf(characters string) *[256]bool {
	var set [256]bool
	for i := range len(characters) {
		set[characters[i]] = true
	}
	return &set
}

const (
	lower = "abcdefghijklmnopqrstuvwxyz"
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

var (
	lowerSet  = setOf(lower)
	letters   = setOf(lower + upper)
	wordSet   = setOf(lower + upper + "0123456789")
	labelSet  = setOf(lower + upper + "0123456789-")
	idSet     = setOf(lower + upper + "0123456789._-")
	keySet    = setOf(lower + upper + "0123456789_-")
	tidSet    = setOf("234567" + lower)
	base32Set = setOf(lower + "234567")
)

func plainDID(s string) bool {
	rest, ok := strings.CutPrefix(s, "did:")
	method, id, _ := strings.Cut(rest, ":")
	return ok && len(s) <= 2048 && consists(method, lowerSet, 100) && consists(id, idSet, 2048) && id[len(id)-1] != '.'
}

func plainHandle(s string) bool {
	if len(s) > 253 {
		return false
	}
	for labels := 1; ; labels++ {
		label, rest, more := strings.Cut(s, ".")
		if !consists(label, labelSet, 63) || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if s = rest; !more {
			return labels > 1 && letters[label[0]]
		}
	}
}

func plainAtIdentifier(s string) bool { return plainDID(s) || plainHandle(s) }

func plainNSID(s string) bool {
	if len(s) > 253 {
		return false
	}
	for segments := 1; ; segments++ {
		segment, rest, more := strings.Cut(s, ".")
		if !consists(segment, wordSet, 63) || !letters[segment[0]] {
			return false
		}
		if s = rest; !more {
			return segments > 2
		}
	}
}

func plainRecordKey(s string) bool { return consists(s, keySet, 512) }

func plainATURI(s string) bool {
	rest, ok := strings.CutPrefix(s, "at://")
	authority, rest, more := strings.Cut(rest, "/")
	if !ok || !plainAtIdentifier(authority) {
		return false
	}
	if !more {
		return true
	}
	collection, key, more := strings.Cut(rest, "/")
	return plainNSID(collection) && (!more || plainRecordKey(key))
}

func plainTID(s string) bool {
	return len(s) == 13 && consists(s, tidSet, 13) && s[0] <= 'j'
}

// plainCID takes the CIDs of records and blobs: of version 1, DAG-CBOR or raw, by SHA-256. What
// the codec and the hash do not fill of their last character is 0, and so is what the end does
// not fill, which is how one and no other text is that of a CID.
func plainCID(s string) bool {
	return len(s) == 59 && (s[:7] == "bafyrei" || s[:7] == "bafkrei") && consists(s[7:], base32Set, 52) &&
		s[7] <= 'h' && s[7] >= 'a' && strings.IndexByte("aeimquy4", s[58]) >= 0
}

// plainDatetime takes 2006-01-02T15:04:05Z and 2006-01-02T15:04:05.000Z, of days that every
// month has.
func plainDatetime(s string) bool {
	switch len(s) {
	case len("2006-01-02T15:04:05Z"):
	case len("2006-01-02T15:04:05.000Z"):
		if s[19] != '.' {
			return false
		}
	default:
		return false
	}
	number := func(at, digits int) int {
		n := 0
		for _, d := range []byte(s[at : at+digits]) {
			if d < '0' || d > '9' {
				return -1
			}
			n = n*10 + int(d-'0')
		}
		return n
	}
	month, day := number(5, 2), number(8, 2)
	hour, minute, second := number(11, 2), number(14, 2), number(17, 2)
	return s[4] == '-' && s[7] == '-' && s[10] == 'T' && s[13] == ':' && s[16] == ':' && s[len(s)-1] == 'Z' &&
		number(0, 4) > 0 && 1 <= month && month <= 12 && 1 <= day && day <= 28 &&
		0 <= hour && hour < 24 && 0 <= minute && minute < 60 && 0 <= second && second < 60 &&
		(len(s) == 20 || number(20, 3) >= 0)
}
