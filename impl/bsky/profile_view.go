package bsky

import (
	"portico/api/xrpc"
)

// asAuthor is the view n of the account as it is now: where the profile has nothing, neither
// has the view.
func (v *viewer) asAuthor(n xrpc.Node) []byte { return with(n, v.authorMembers()...) }

// inDetail is asAuthor of a detailed view.
func (v *viewer) inDetail(n xrpc.Node) []byte {
	p := v.since.profile
	return with(n, append(v.authorMembers(), member{"description", optional(p.description)}, member{"banner", optional(v.picture("banner", p.banner))})...)
}

func (v *viewer) authorMembers() []member {
	p := v.since.profile
	return []member{{"displayName", optional(p.displayName)}, {"avatar", optional(v.picture("avatar", p.avatar))}}
}

// optional is the text of a string, nil for none.
func optional[S ~string](s *S) []byte {
	if s == nil {
		return nil
	}
	return quoted(*s)
}

// patchAuthors shows the account as it is now wherever it is the author of an item.
func (v *viewer) patchAuthors(feed xrpc.Node, e *edits) {
	if v.since.profile == nil {
		return
	}
	for item := range feed.Items() {
		if author := item.Member("post", "author"); v.isOwn(author) {
			e.replace(author, v.asAuthor(author))
		}
	}
}

// isOwn reports whether n is a view of the account.
func (v *viewer) isOwn(n xrpc.Node) bool { return n.Member("did").Text() == v.did.String() }
