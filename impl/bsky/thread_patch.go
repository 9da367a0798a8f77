package bsky

import (
	"bytes"
	"context"
	"slices"

	"portico/api/xrpc"
)

const threadViewPost = "app.bsky.feed.defs#threadViewPost"

func isThread(n xrpc.Node) bool { return n.Member("$type").Text() == threadViewPost }

// patchThread puts each new post of a thread first among the replies of its parent, which
// may be a new one.
func (v *viewer) patchThread(ctx context.Context, top xrpc.Node, e *edits) error {
	posts := inThread(v.since.posts, top.Member("post", "uri").Text(), top.Member("post", "record", "reply", "root", "uri").Text())
	there := findPosts(top, posts)
	t := newThread(posts, func(uri string) bool { _, ok := there[uri]; return ok })
	views, err := v.views(ctx, t.posts)
	if err != nil {
		return err
	}
	for uri, n := range there {
		texts := t.replies(uri, views)
		if len(texts) == 0 {
			continue
		}
		replies := n.Member("replies")
		if !replies.IsArray() {
			e.insert(n.End()-1, append([]byte(`,"replies":`), list(texts)...))
			continue
		}
		text := bytes.Join(texts, []byte{','})
		for range replies.Items() { // there are others behind
			text = append(text, ',')
			break
		}
		e.insert(replies.Start()+1, text)
	}
	return nil
}

// inThread are those of posts that are in the thread of a post with the given URI, and with
// the given root where it is a reply itself.
func inThread(posts []post, uri, root string) (in []post) {
	for _, p := range posts {
		if p.Reply != nil && (p.Reply.Root.URI.String() == uri || p.Reply.Root.URI.String() == root) {
			in = append(in, p)
		}
	}
	return in
}

// findPosts returns, by their URIs, the first node from top down of each post that is one of
// posts or has one as a reply.
func findPosts(top xrpc.Node, posts []post) map[string]xrpc.Node {
	matter := make(map[string]bool)
	for _, p := range posts {
		matter[p.uri.String()], matter[p.Reply.Parent.URI.String()] = true, true
	}
	found := make(map[string]xrpc.Node)
	var look func(n xrpc.Node)
	look = func(n xrpc.Node) { // no deeper than JSON may be
		uri := n.Member("post", "uri").Text()
		if _, ok := found[uri]; !ok && matter[uri] {
			found[uri] = n
		}
		for reply := range n.Member("replies").Items() {
			if isThread(reply) {
				look(reply)
			}
		}
	}
	if len(posts) > 0 {
		look(top)
	}
	return found
}

// A thread is new posts that reply to posts which are there, or to each other.
type thread struct {
	posts   []post   // each behind its parent
	parents []string // by the index of the post
}

// newThread is that of posts, the oldest first. What replies to a post that comes later, or
// to itself, replies to nothing.
func newThread(posts []post, there func(uri string) bool) (t thread) {
	for _, p := range posts {
		parent := p.Reply.Parent.URI.String()
		known := there(parent) || slices.ContainsFunc(t.posts, func(p post) bool { return p.uri.String() == parent })
		if known && !there(p.uri.String()) {
			t.posts, t.parents = append(t.posts, p), append(t.parents, parent)
		}
	}
	return t
}

// replies are the texts of those below a post, the newest first; views are those of all.
func (t thread) replies(parent string, views [][]byte) (texts [][]byte) {
	for i, p := range slices.Backward(t.posts) {
		if t.parents[i] == parent {
			texts = append(texts, node(views[i], t.replies(p.uri.String(), views)))
		}
	}
	return texts
}

// node is the text of a post in a thread, with those below it.
func node(view []byte, replies [][]byte, more ...member) []byte {
	members := []member{{"$type", quoted(threadViewPost)}, {"post", view}}
	if len(replies) > 0 {
		members = append(members, member{"replies", list(replies)})
	}
	return object(append(members, more...)...)
}
