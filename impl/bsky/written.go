package bsky

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/bsky"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/record"
	"portico/impl/repo/store"
)

// maxWritten is how many records the app view may be behind for all of them to be looked
// at. Later ones it is to see for itself.
const maxWritten = 10

const profilePath = api.ActorProfileNSID + "/self"

// written is what an account wrote since a revision of its repository, of what the patches
// are about.
type written struct {
	profile   *profile // nil: not since then
	profileAt time.Time
	posts     []post // the oldest first
}

// A post is a record with what there is to know of it.
type post struct {
	api.FeedPost
	uri       syntax.ATURI
	cid       syntax.CID
	record    []byte // its JSON
	indexedAt time.Time
}

func (w *written) empty() bool { return w.profile == nil && len(w.posts) == 0 }

// oldest is when the first of what was written was indexed here.
func (w *written) oldest() time.Time {
	oldest := w.profileAt
	for _, p := range w.posts {
		if oldest.IsZero() || p.indexedAt.Before(oldest) {
			oldest = p.indexedAt
		}
	}
	return oldest
}

// writtenSince reads what an account wrote since rev. It is nothing for an account whose
// records are all younger: that has moved in, and the app view knows them from elsewhere.
func (s *Service) writtenSince(ctx context.Context, did syntax.DID, rev string) (*written, error) {
	records, err := s.DB.RecordsSince(ctx, did, rev, maxWritten)
	if err != nil {
		return nil, err
	}
	w := new(written)
	for i := range records {
		r := &records[i]
		if r.TakedownRef != "" {
			continue
		}
		switch {
		case r.Path == profilePath:
			if w.profile, err = readProfile(r); err != nil {
				return nil, err
			}
			w.profileAt = r.IndexedAt
		case strings.HasPrefix(r.Path, api.FeedPostNSID+"/"):
			p, err := readPost(did, r)
			if err != nil {
				return nil, err
			}
			if p != nil {
				w.posts = append(w.posts, *p)
			}
		}
	}
	return w, nil
}

// readPost returns nil for a record that no app view takes for a post.
func readPost(did syntax.DID, r *db.Record) (*post, error) {
	text, err := record.AppendJSON(nil, r.Value)
	if err != nil {
		return nil, fmt.Errorf("read record %s of %s: %w", r.Path, did, err)
	}
	p := &post{
		uri: syntax.ATURI("at://" + did.String() + "/" + r.Path), cid: syntax.CID(store.CID(r.CID).String()), record: text,
		// What clients see has no more, and is compared with what the app view says.
		indexedAt: r.IndexedAt.Truncate(time.Millisecond),
	}
	if err := xrpc.Unmarshal(p.FeedPost.Schema(), text, &p.FeedPost); err != nil {
		return nil, nil
	}
	return p, nil
}

// A profile is what others see of an account; nil is what is not there. Of records that do
// not fit the lexicon, as there are old ones, it has what does.
type profile struct {
	displayName, description *string
	avatar, banner           string // CIDs, "" for none
}

func readProfile(r *db.Record) (*profile, error) {
	text, err := record.AppendJSON(nil, r.Value)
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	n, err := xrpc.Any().Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	words := func(name string, most int) *string {
		m := n.Member(name)
		if text := m.Text(); m.IsString() && len(text) <= most {
			return new(strings.Clone(text))
		}
		return nil
	}
	picture := func(name string) string {
		link := n.Member(name, "ref", "$link").Text()
		if link == "" {
			link = n.Member(name, "cid").Text() // as blobs were named of old
		}
		if _, err := syntax.ParseCID(link); err != nil {
			return ""
		}
		return strings.Clone(link)
	}
	return &profile{words("displayName", 640), words("description", 2560), picture("avatar"), picture("banner")}, nil
}
