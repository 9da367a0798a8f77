package bsky

import (
	"context"
	"errors"
	"fmt"
	"sync"

	api "portico/api/bsky"
	"portico/impl/answer"
)

// views shows posts, each as the JSON of a postView. Those who have to be asked for what
// the posts quote are asked at the same time.
func (v *viewer) views(ctx context.Context, posts []post) ([][]byte, error) {
	if len(posts) == 0 {
		return nil, nil
	}
	author, err := v.author(ctx)
	if err != nil {
		return nil, err
	}
	shown, errs := make([][]byte, len(posts)), make([]error, len(posts))
	var all sync.WaitGroup
	for i := range posts {
		all.Go(func() { shown[i], errs[i] = v.view(ctx, author, &posts[i]) })
	}
	all.Wait()
	return shown, errors.Join(errs...)
}

func (v *viewer) view(ctx context.Context, author *api.ActorProfileViewBasic, p *post) ([]byte, error) {
	embed, err := v.embed(ctx, p.Embed)
	if err != nil {
		return nil, fmt.Errorf("show %s: %w", p.uri, err)
	}
	none := new(int64(0)) // a post so new is nobody's yet
	return marshal(&api.FeedPostView{
		URI: p.uri, CID: p.cid, Author: *author, Record: p.record, Embed: embed,
		ReplyCount: none, RepostCount: none, LikeCount: none, QuoteCount: none,
		IndexedAt: answer.Datetime(p.indexedAt),
	})
}
