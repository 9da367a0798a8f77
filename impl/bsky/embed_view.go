package bsky

import (
	"context"
	"fmt"
	"net/url"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

// embed shows what a post embeds. Kinds that only the app view can show are left out.
func (v *viewer) embed(ctx context.Context, e api.FeedPostEmbed) (api.FeedPostViewEmbed, error) {
	switch e := e.Value().(type) {
	case *api.EmbedImages:
		return api.NewFeedPostViewEmbed(v.images(e)), nil
	case *api.EmbedExternal:
		return api.NewFeedPostViewEmbed(v.external(e)), nil
	case *api.EmbedRecord:
		view, err := v.quote(ctx, e)
		return api.NewFeedPostViewEmbed(view), err
	case *api.EmbedRecordWithMedia:
		var media api.EmbedRecordWithMediaViewMedia
		switch m := e.Media.Value().(type) {
		case *api.EmbedImages:
			media = api.NewEmbedRecordWithMediaViewMedia(v.images(m))
		case *api.EmbedExternal:
			media = api.NewEmbedRecordWithMediaViewMedia(v.external(m))
		default:
			return api.FeedPostViewEmbed{}, nil
		}
		view, err := v.quote(ctx, &e.Record)
		if err != nil {
			return api.FeedPostViewEmbed{}, err
		}
		return api.NewFeedPostViewEmbed(&api.EmbedRecordWithMediaView{Record: *view, Media: media}), nil
	}
	return api.FeedPostViewEmbed{}, nil
}

func (v *viewer) images(e *api.EmbedImages) *api.EmbedImagesView {
	view := &api.EmbedImagesView{Images: make([]api.EmbedImagesViewImage, len(e.Images))}
	for i, m := range e.Images {
		cid := m.Image.Ref.String()
		view.Images[i] = api.EmbedImagesViewImage{
			Thumb: v.image("feed_thumbnail", cid), Fullsize: v.image("feed_fullsize", cid), Alt: m.Alt, AspectRatio: m.AspectRatio,
		}
	}
	return view
}

func (v *viewer) external(e *api.EmbedExternal) *api.EmbedExternalView {
	x := e.External
	view := &api.EmbedExternalView{External: api.EmbedExternalViewExternal{URI: x.URI, Title: x.Title, Description: x.Description}}
	if x.Thumb != nil {
		view.External.Thumb = new(v.image("feed_thumbnail", x.Thumb.Ref.String()))
	}
	return view
}

func (v *viewer) quote(ctx context.Context, e *api.EmbedRecord) (*api.EmbedRecordView, error) {
	found, err := v.quotedRecord(ctx, e.Record.URI)
	if err != nil {
		return nil, fmt.Errorf("show %s, which a post quotes: %w", e.Record.URI, err)
	}
	if found == nil {
		return &api.EmbedRecordView{EmbedRecordViewContent: api.NewEmbedRecordViewContent(&api.EmbedRecordViewNotFound{URI: e.Record.URI, NotFound: true})}, nil
	}
	return &api.EmbedRecordView{EmbedRecordViewContent: api.NewEmbedRecordViewContent(found)}, nil
}

// maxQuoted is how large the view of something quoted may be, in bytes.
const maxQuoted = 1 << 20

// quotable are the records that can be quoted, by collection: how the app view is asked for
// one, what it answers, and how that is embedded.
var quotable = map[syntax.NSID]struct {
	method, param, limit string
	answer               *xrpc.Schema
	embed                func(answer xrpc.Node) *xrpc.UnknownVariant // nil: there is none
}{
	api.FeedPostNSID: {
		"app.bsky.feed.getPosts", "uris", "",
		xrpc.Object(xrpc.Required("posts", xrpc.Array((*api.FeedPostView)(nil).Schema()))),
		func(answer xrpc.Node) *xrpc.UnknownVariant {
			for p := range answer.Member("posts").Items() {
				return quotedPost(p)
			}
			return nil
		},
	},
	api.FeedGeneratorNSID: {
		"app.bsky.feed.getFeedGenerator", "feed", "",
		xrpc.Object(xrpc.Required("view", (*api.FeedGeneratorView)(nil).Schema())),
		func(answer xrpc.Node) *xrpc.UnknownVariant {
			return variant("app.bsky.feed.defs#generatorView", answer.Member("view"))
		},
	},
	api.GraphListNSID: {
		"app.bsky.graph.getList", "list", "50",
		xrpc.Object(xrpc.Required("list", (*api.GraphListView)(nil).Schema())),
		func(answer xrpc.Node) *xrpc.UnknownVariant {
			return variant("app.bsky.graph.defs#listView", answer.Member("list"))
		},
	},
}

// quotedRecord asks the app view for a record that a post quotes, and returns nil where that
// can be no quote, or there is no such post.
func (v *viewer) quotedRecord(ctx context.Context, uri syntax.ATURI) (*xrpc.UnknownVariant, error) {
	q, ok := quotable[uri.Collection()]
	if !ok {
		return nil, nil
	}
	params := url.Values{q.param: {uri.String()}}
	if q.limit != "" {
		params.Set("limit", q.limit)
	}
	text, err := v.ask(ctx, q.method, params)
	if err != nil {
		return nil, err
	}
	if len(text) > maxQuoted {
		return nil, errTooMuch
	}
	answer, err := q.answer.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", q.method, err)
	}
	return q.embed(answer), nil
}

// quotedPost is the view of a post in another one.
func quotedPost(p xrpc.Node) *xrpc.UnknownVariant {
	const typ = "app.bsky.embed.record#viewRecord"
	var embeds []byte
	if embed := p.Member("embed"); embed.IsObject() {
		embeds = list([][]byte{embed.Raw()})
	}
	return &xrpc.UnknownVariant{Type: typ, JSON: object(
		member{"$type", quoted(typ)}, member{"uri", p.Member("uri").Raw()}, member{"cid", p.Member("cid").Raw()},
		member{"author", p.Member("author").Raw()}, member{"value", p.Member("record").Raw()}, member{"labels", p.Member("labels").Raw()},
		member{"embeds", embeds}, member{"indexedAt", p.Member("indexedAt").Raw()},
	)}
}

// variant is an object as one of a union.
func variant(typ string, n xrpc.Node) *xrpc.UnknownVariant {
	return &xrpc.UnknownVariant{Type: typ, JSON: with(n, member{"$type", quoted(typ)})}
}
