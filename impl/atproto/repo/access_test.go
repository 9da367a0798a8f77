package repo_test

import (
	"testing"

	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

// Who may call what, and how often, shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newServer(t).Routes()))
}

// requests are one for each method, all of them about nobody.
var requests = map[string]string{
	"applyWrites":      `{"repo":"` + unknown + `","writes":[]}`,
	"createRecord":     `{"repo":"` + unknown + `","collection":"com.example.x","record":{}}`,
	"deleteRecord":     `{"repo":"` + unknown + `","collection":"com.example.x","rkey":"a"}`,
	"describeRepo":     "?repo=" + unknown,
	"getRecord":        "?repo=" + unknown + "&collection=com.example.x&rkey=a",
	"importRepo":       "",
	"listRecords":      "?repo=" + unknown + "&collection=com.example.x",
	"putRecord":        `{"repo":"` + unknown + `","collection":"com.example.x","rkey":"a","record":{}}`,
	"listMissingBlobs": "",
	"uploadBlob":       "bytes",
}

// Every method is called with every credential. What comes of it is a table, to be
// reviewed line by line.
func TestAccess(t *testing.T) {
	credentials := append(servertest.Credentials("none", "malformed header", "unknown scheme", "DPoP", "Basic admin",
		"access", "access, app password", "access, privileged app password", "access, takendown", "access, signupQueued",
		"access, expired", "access, foreign key", "refresh", "moderation service", "service of a stranger", "service of an account here"), servertest.AppCredentials()...)
	table := newServer(t).AccessTable(requests, credentials)
	servertest.Golden(t, "access.golden", "# What each method answers to each credential. The request is about an account that is\n"+
		"# not here.\n"+table)
}
