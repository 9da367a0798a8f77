package bsky

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/bsky"
	"portico/db"
)

// A viewer shows what an account wrote as the app view will.
type viewer struct {
	did    syntax.DID
	handle syntax.Handle
	since  *written
	// profile reads the profile that the account has, new or not; an empty one for none.
	profile func(ctx context.Context) (*profile, error)
	// image is where an image of the account is shown.
	image func(kind, cid string) syntax.URI
	// ask asks the app view, in the account's name.
	ask func(ctx context.Context, method string, params url.Values) ([]byte, error)
}

func (s *Service) viewer(a *db.Account, since *written) *viewer {
	return &viewer{
		did: a.DID, handle: shownHandle(a), since: since,
		profile: func(ctx context.Context) (*profile, error) { return s.profile(ctx, a.DID) },
		image:   func(kind, cid string) syntax.URI { return s.imageURL(a.DID, kind, cid) },
		ask: func(ctx context.Context, method string, params url.Values) ([]byte, error) {
			return s.Proxy.Complete(ctx, s.Proxy.AppView, a.DID, method, params)
		},
	}
}

func (s *Service) profile(ctx context.Context, did syntax.DID) (*profile, error) {
	r, err := s.DB.Record(ctx, did, profilePath)
	if errors.Is(err, db.ErrNotFound) || err == nil && r.TakedownRef != "" {
		return new(profile), nil
	}
	if err != nil {
		return nil, err
	}
	return readProfile(r)
}

func (s *Service) imageURL(did syntax.DID, kind, cid string) syntax.URI {
	if s.ImageURL != "" {
		return syntax.URI(fmt.Sprintf(s.ImageURL, kind, did, cid))
	}
	return syntax.URI(s.PublicURL + "/xrpc/com.atproto.sync.getBlob?did=" + did.String() + "&cid=" + cid)
}

// shownHandle is the account's handle, or the protocol's word for none.
func shownHandle(a *db.Account) syntax.Handle {
	if a.Handle == "" {
		return syntax.HandleInvalid
	}
	return a.Handle
}

// author is the account as the author of its posts.
func (v *viewer) author(ctx context.Context) (*api.ActorProfileViewBasic, error) {
	p, err := v.profile(ctx)
	if err != nil {
		return nil, err
	}
	return &api.ActorProfileViewBasic{DID: v.did, Handle: v.handle, DisplayName: p.displayName, Avatar: v.picture("avatar", p.avatar)}, nil
}

// picture is where a picture of the profile is shown, nil for none.
func (v *viewer) picture(kind, cid string) *syntax.URI {
	if cid == "" {
		return nil
	}
	return new(v.image(kind, cid))
}
