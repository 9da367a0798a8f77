package bsky

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
)

// patchFeed puts the new posts into a feed: those that are newer than its last item, each
// before the first one that is older. What the app view has shown already stays alone.
func (v *viewer) patchFeed(ctx context.Context, feed xrpc.Node, e *edits) error {
	type place struct {
		start   int
		indexed time.Time
	}
	var items []place
	shown := make(map[string]bool)
	for item := range feed.Items() {
		post := item.Member("post")
		items = append(items, place{item.Start(), syntax.Datetime(post.Member("indexedAt").Text()).Time()})
		if uri := post.Member("uri").Text(); v.wrote(uri) {
			shown[uri] = true
		}
	}
	var last time.Time
	if len(items) > 0 {
		last = items[len(items)-1].indexed
	}
	var posts []post
	for _, p := range slices.Backward(v.since.posts) {
		if p.indexedAt.After(last) && !shown[p.uri.String()] {
			posts = append(posts, p)
		}
	}
	slices.SortStableFunc(posts, func(a, b post) int { return cmp.Compare(b.indexedAt.UnixMilli(), a.indexedAt.UnixMilli()) })
	views, err := v.views(ctx, posts)
	if err != nil {
		return err
	}
	var behind [][]byte
	for i, view := range views {
		item := object(member{"post", view})
		at := slices.IndexFunc(items, func(p place) bool { return p.indexed.Before(posts[i].indexedAt) })
		if at < 0 {
			behind = append(behind, item)
		} else {
			e.insert(items[at].start, append(item, ','))
		}
	}
	if len(behind) > 0 {
		text := bytes.Join(behind, []byte{','})
		if len(items) > 0 {
			text = append([]byte{','}, text...)
		}
		e.insert(feed.End()-1, text)
	}
	return nil
}

// wrote reports whether a post is among the new ones.
func (v *viewer) wrote(uri string) bool {
	return slices.ContainsFunc(v.since.posts, func(p post) bool { return p.uri.String() == uri })
}
