package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

// FeedGetAuthorFeed shows the caller, in its own feed, as it is now, and what it posted
// since.
func (s *Service) FeedGetAuthorFeed(ctx context.Context, _ *api.FeedGetAuthorFeedParams) (*api.FeedGetAuthorFeedOutput, error) {
	return nil, s.readAfterWrite(ctx, (*api.FeedGetAuthorFeedOutput)(nil).Schema(), patchAuthorFeed)
}

func patchAuthorFeed(ctx context.Context, v *viewer, answer xrpc.Node, e *edits) error {
	feed := answer.Member("feed")
	if !v.isOwnFeed(feed) {
		return nil
	}
	v.patchAuthors(feed, e)
	return v.patchFeed(ctx, feed, e)
}

// isOwnFeed reports whether a feed begins with a post of the account, or with one that it
// reposted.
func (v *viewer) isOwnFeed(feed xrpc.Node) bool {
	for first := range feed.Items() {
		reason := first.Member("reason")
		if !reason.IsObject() {
			return v.isOwn(first.Member("post", "author"))
		}
		return reason.Member("$type").Text() == "app.bsky.feed.defs#reasonRepost" && v.isOwn(reason.Member("by"))
	}
	return false
}
