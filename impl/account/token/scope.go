package token

import "slices"

// Scope is the value of a session token's scope claim. The values are part of the wire format.
type Scope string

// The scopes of session tokens.
const (
	Access            Scope = "com.atproto.access"            // signed in with the account password
	AppPassPrivileged Scope = "com.atproto.appPassPrivileged" // signed in with a privileged app password
	AppPass           Scope = "com.atproto.appPass"           // signed in with an ordinary app password
	Takendown         Scope = "com.atproto.takendown"         // signed in to a taken-down account
	SignupQueued      Scope = "com.atproto.signupQueued"      // waiting for sign-up; an entryway issues it, this server never does
	Refresh           Scope = "com.atproto.refresh"           // refresh tokens
)

// Scopes is a set of scopes. It is never changed after it was made.
type Scopes []Scope

// The sets that methods ask for, each a superset of the one before.
var (
	Full       = Scopes{Access}
	Privileged = Full.With(AppPassPrivileged)
	Standard   = Privileged.With(AppPass)
)

// Has reports whether scope is in the set.
func (s Scopes) Has(scope Scope) bool { return slices.Contains(s, scope) }

// With returns a new set that has more in addition.
func (s Scopes) With(more ...Scope) Scopes { return slices.Concat(s, more) }

// ForAppPassword returns the scope of a session opened with an app password.
func ForAppPassword(privileged bool) Scope {
	if privileged {
		return AppPassPrivileged
	}
	return AppPass
}
