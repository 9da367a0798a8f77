package main

import (
	"regexp"
	"strings"
)

// distinct counts the different bytes of v: a random text of 32 hex digits
// has at least eight in all but one of a million.
func distinct(v string) int {
	seen := map[byte]bool{}
	for i := range len(v) {
		seen[v[i]] = true
	}
	return len(seen)
}

// wellKnown says whether v is a password that is tried first, also when it was
// written a few times in a row or ends in digits.
func wellKnown(v string) bool {
	v = strings.TrimRight(strings.ToLower(v), "0123456789!.")
	for _, known := range []string{"", "admin", "administrator", "adminpassword", "bluesky", "changeme", "change-me", "change_me", "default", "example", "letmein", "pass", "passw0rd", "password", "pds", "portico", "qwerty", "qwertyuiop", "root", "secret", "supersecret", "test", "your-admin-password", "your_admin_password"} {
		if strings.ReplaceAll(v, known, "") == "" {
			return true
		}
	}
	return false
}

var placeholderPattern = regexp.MustCompile("^[$][({]|:[$][({]|^`|^<.*>$|:<.*>@|^{{.*}}$|" +
	`(?i)change[ _-]?(me|this|it)|replace[ _-]?(me|this|with)|(secret|password|key|token)[ _-]?(goes[ _-]?)?here|` +
	`\byour[ _-][a-z]|placeholder|^(xxx+|todo|tbd|none|null|undefined)$`)

// placeholder says whether v, which is to be a secret, is what an example has in its place.
func placeholder(v string) bool { return placeholderPattern.MatchString(v) }

// ofHost says whether v is little more than the host name or parts of it.
func ofHost(v, host string) bool {
	left := strings.ToLower(v)
	for _, part := range append([]string{host}, strings.Split(host, ".")...) {
		if len(part) >= 3 {
			left = strings.ReplaceAll(left, part, "")
		}
	}
	if left == strings.ToLower(v) {
		return false
	}
	return len(left) < 8 || wellKnown(strings.Trim(left, "-_.!@#0123456789"))
}
