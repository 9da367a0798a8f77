package bsky

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/bsky"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/proxy"
)

// skeleton is the method of generators that the token is for.
const skeleton = "app.bsky.feed.getFeedSkeleton"

// FeedGetFeed lets the app view fill a feed that a generator makes of bare URIs. The token is
// for the generator, which may show each account another feed: the app view passes it on.
func (s *Service) FeedGetFeed(ctx context.Context, in *api.FeedGetFeedParams) (*api.FeedGetFeedOutput, error) {
	c := xrpc.CallFrom(ctx)
	to, err := s.Proxy.Target(ctx, c, s.Proxy.AppView)
	if err != nil {
		return nil, err
	}
	if err := s.Proxy.Permit(ctx, to, c.NSID); err != nil {
		return nil, err
	}
	generator, err := s.feedGenerator(ctx, in.Feed)
	if err != nil {
		return nil, err
	}
	if err := s.Proxy.Permit(ctx, proxy.Service{DID: generator, ID: "bsky_fg"}, skeleton); err != nil {
		return nil, err
	}
	response, err := s.Proxy.PassOn(ctx, c, to, auth.Caller(ctx).DID, proxy.Token{Audience: generator, Method: skeleton})
	if err != nil {
		return nil, err
	}
	return nil, response
}

// feedGenerator is the DID of the service that makes a feed, as its record says. The app view has
// that.
func (s *Service) feedGenerator(ctx context.Context, feed syntax.ATURI) (syntax.DID, error) {
	unknown := api.ErrFeedGetFeedUnknownFeed.New(http.StatusBadRequest, "could not resolve feed did")
	if feed.Collection() == "" || feed.RecordKey() == "" {
		return "", unknown
	}
	body, err := s.Proxy.Call(ctx, s.Proxy.AppView, "", "com.atproto.repo.getRecord", url.Values{
		"repo": {feed.Authority().String()}, "collection": {feed.Collection().String()}, "rkey": {feed.RecordKey().String()},
	}, nil)
	if err != nil {
		return "", err
	}
	var record struct {
		Value struct {
			DID string `json:"did"`
		} `json:"value"`
	}
	if err := json.Unmarshal(body, &record); err != nil {
		return "", unknown.Because(fmt.Errorf("read record of feed %s: %w", feed, err))
	}
	did, err := syntax.ParseDID(record.Value.DID)
	if err != nil {
		return "", unknown.Because(fmt.Errorf("read record of feed %s: %w", feed, err))
	}
	return did, nil
}
