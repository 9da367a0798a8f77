package moderation_test

import (
	"testing"

	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

// Who may call what, and how often, shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newServer(t).Routes()))
}

// Every method is called with every credential. What comes of it is a table, to be
// reviewed line by line.
func TestAccess(t *testing.T) {
	credentials := append(servertest.Credentials("none", "malformed header", "unknown scheme", "DPoP", "Basic admin",
		"access", "access, app password", "access, privileged app password", "access, takendown", "access, signupQueued",
		"access, refresh scope", "access, expired", "access, foreign key", "refresh", "moderation service", "service of a stranger", "service of an account here"), servertest.AppCredentials()...)
	table := newServer(t).AccessTable(map[string]string{"createReport": report}, credentials)
	servertest.Golden(t, "access.golden", "# What each method answers to each credential.\n"+table)
}
