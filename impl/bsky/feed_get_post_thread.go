package bsky

import (
	"context"
	"errors"
	"net/url"
	"strconv"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/bsky"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/proxy/upstream"
)

// FeedGetPostThread shows what the caller replied since, and the thread of a post of its own
// that the app view does not know yet.
func (s *Service) FeedGetPostThread(ctx context.Context, p *api.FeedGetPostThreadParams) (*api.FeedGetPostThreadOutput, error) {
	answer := s.readAfterWrite(ctx, (*api.FeedGetPostThreadOutput)(nil).Schema(), patchPostThread)
	if refused, ok := errors.AsType[*upstream.Refused](answer); ok && refused.Name == api.ErrFeedGetPostThreadNotFound.Name() && refused.Rev != "" {
		made, err := s.unknownThread(ctx, p, refused.Rev)
		if err != nil {
			s.notPatched(ctx, err)
		}
		if made != nil {
			return nil, made
		}
	}
	return nil, answer
}

func patchPostThread(ctx context.Context, v *viewer, answer xrpc.Node, e *edits) error {
	if top := answer.Member("thread"); isThread(top) {
		return v.patchThread(ctx, top, e)
	}
	return nil
}

// unknownThread is the answer with the thread of a post that the caller wrote since rev, nil
// for another one's.
func (s *Service) unknownThread(ctx context.Context, p *api.FeedGetPostThreadParams, rev string) (answer error, err error) {
	caller := auth.Caller(ctx)
	uri, ok := ownURI(caller.Account, p.URI)
	if !ok {
		return nil, nil
	}
	since, err := s.writtenSince(ctx, caller.DID, rev)
	if err != nil {
		return nil, err
	}
	v := s.viewer(caller.Account, since)
	made, err := v.thread(ctx, uri, p.ParentHeight)
	if made == nil || err != nil {
		return nil, err
	}
	return s.patched(xrpc.CallFrom(ctx), made, since), nil
}

// ownURI is the URI of a record of the account by its DID, where uri is of one.
func ownURI(a *db.Account, uri syntax.ATURI) (string, bool) {
	owner := uri.Authority().String()
	own := owner == a.DID.String() || a.Handle != "" && syntax.Handle(owner).Normalize() == a.Handle
	return "at://" + a.DID.String() + "/" + uri.Path(), own
}

// thread is the answer with the thread of a post that is new, nil for another. What is above
// it is left out where the app view does not say.
func (v *viewer) thread(ctx context.Context, uri string, parentHeight int64) ([]byte, error) {
	var top *post
	var others []post
	for _, p := range v.since.posts {
		if p.uri.String() == uri {
			top = &p
		} else {
			others = append(others, p)
		}
	}
	if top == nil {
		return nil, nil
	}
	root := ""
	if top.Reply != nil {
		root = top.Reply.Root.URI.String()
	}
	t := newThread(inThread(others, uri, root), func(there string) bool { return there == uri })
	views, err := v.views(ctx, append(t.posts, *top))
	if err != nil {
		return nil, err
	}
	replies, view := t.replies(uri, views), views[len(t.posts)]
	var parent []byte
	if top.Reply != nil {
		parent = v.parents(ctx, top.Reply.Parent.URI, parentHeight)
	}
	answer := object(member{"thread", node(view, replies, member{"parent", parent})})
	if (*api.FeedGetPostThreadOutput)(nil).Schema().Check(answer) != nil { // too deep, say
		answer = object(member{"thread", node(view, replies)})
	}
	return answer, nil
}

// parents is the thread up from a post as the app view knows it; nil for one that it does
// not know, too.
func (v *viewer) parents(ctx context.Context, uri syntax.ATURI, height int64) []byte {
	text, err := v.ask(ctx, "app.bsky.feed.getPostThread", url.Values{
		"uri": {uri.String()}, "parentHeight": {strconv.FormatInt(height, 10)}, "depth": {"0"},
	})
	if err != nil || len(text) > maxAdded {
		return nil
	}
	answer, err := (*api.FeedGetPostThreadOutput)(nil).Schema().Parse(text)
	if err != nil {
		return nil
	}
	return answer.Member("thread").Raw()
}
