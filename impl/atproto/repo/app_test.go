package repo_test

import (
	"fmt"
	"testing"
)

// What an app may not write keeps the rest of its writes from being made, too.
func TestAppWritesAllOrNothing(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	app := s.LetIn(alice, "atproto repo:com.example.a repo:com.example.b?action=create&action=update")
	one := func(action, collection, key string) string {
		value := `,"value":{"$type":"` + collection + `"}`
		if action == "delete" {
			value = ""
		}
		return fmt.Sprintf(`{"$type":"com.atproto.repo.applyWrites#%s","collection":%q,"rkey":%q%s}`, action, collection, key, value)
	}
	apply := func(writes string) string {
		return fmt.Sprintf(`{"repo":%q,"writes":[%s]}`, alice.DID, writes)
	}
	for _, tt := range []struct{ last, missing string }{
		{one("create", "com.example.c", "1"), "repo:com.example.c?action=create"},
		{one("delete", "com.example.b", "1"), "repo:com.example.b?action=delete"},
		{one("update", "com.example.c", "1"), "repo:com.example.c?action=update"},
	} {
		s.Refused(app.Procedure("applyWrites", apply(one("create", "com.example.a", "1")+","+tt.last)), 403, "ScopeMissingError",
			fmt.Sprintf("Missing required scope %q", tt.missing))
		s.Refused(s.Get("getRecord?repo="+alice.DID.String()+"&collection=com.example.a&rkey=1"), 400, "RecordNotFound",
			"Could not locate record: at://"+alice.DID.String()+"/com.example.a/1")
	}
	s.Accepted(app.Procedure("applyWrites", apply(one("create", "com.example.a", "1")+","+one("create", "com.example.b", "1")+","+
		one("update", "com.example.b", "1")+","+one("delete", "com.example.a", "1"))))
	// Of others' repositories no permission opens any.
	bob := s.SignUp("bob")
	s.Refused(app.Procedure("createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.a","record":{"$type":"com.example.a"}}`, bob.DID)),
		401, "AuthenticationRequired", "Authentication Required")
}
