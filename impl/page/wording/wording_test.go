package wording

import (
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/oauth/scope"
)

func TestItems(t *testing.T) {
	set, err := scope.ParsePermissionSet([]byte(`{"id":"com.example.auth","defs":{"main":{"type":"permission-set","title":"Forum\u202e","detail":"Post.",
		"permissions":[{"type":"permission","resource":"repo","collection":["com.example.post"],"action":["create"]}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	items := scope.Describe(scope.Values("atproto transition:generic transition:chat.bsky transition:email identity:* identity:handle account:status account:repo?action=manage "+
		"repo:* repo:com.example.a?action=update&action=delete repo:app.bsky.feed.post?action=create blob:*/* rpc:*?aud=did:web:a.com%23x rpc:com.example.q?aud=* "+
		"include:com.example.auth include:com.example.gone what:is"), map[syntax.NSID]*scope.PermissionSet{"com.example.auth": set})
	var lines []string
	var write func(indent string, entries []Entry)
	write = func(indent string, entries []Entry) {
		for _, e := range entries {
			line := indent + e.Title + ": " + e.Text
			if e.Danger {
				line = "!" + line
			}
			if e.Names != nil {
				line += " [" + strings.Join(e.Names, " ") + "]"
			}
			lines = append(lines, line+e.Set)
			write(indent+"  ", e.Items)
		}
	}
	write("", Items("en", items))
	want := `Who you are: Know which account is yours.
!Your whole identity: Change everything by which the network knows you: your handle, your keys, and the server that you are on. Your account can be broken by that, or be taken from you for good.
Handle: Change your handle.
Account: See whether your account is active.
Email: Read your email address.
Bluesky: Manage your profile, posts, likes and follows, and read your private preferences.
Your data: Create, change and delete any of your public data.
In your name: Act in your name towards any service.
Chats: Read your private messages, and send some in your name.
Your data: Replace all of your public data at once.
Your data: It may create, change and delete any of your public data.
Bluesky: Kinds of your data on Bluesky that it may create: [app.bsky.feed.post]
Your data: Kinds of your public data that it may change and delete: [com.example.a]
Files: Upload files of any kind.
In your name: Do anything in your name with the service did:web:a.com#x.
In your name: Do this in your name, with any service: [com.example.q]
Forum: Post.com.example.auth
  Your data: Kinds of your public data that it may create: [com.example.post]
A set of permissions: What it permits could not be found out.com.example.gone
Not understood: This server does not know what these mean, and they permit nothing: [what:is]`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
