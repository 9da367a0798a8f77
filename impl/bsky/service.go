// Package bsky is the part that a server has in app.bsky: the preferences of its accounts,
// answers of the app view with what an account wrote since, feeds, and push messages.
//
// All other methods of app.bsky are the app view's, and passed on to it; so are these where
// nothing is known here that the app view does not know.
package bsky

import (
	"log/slog"
	"time"

	api "portico/api/bsky"
	"portico/db"
	"portico/impl/proxy"
)

// Service is the behaviour of app.bsky, as far as it is served here. It is safe for
// concurrent use.
type Service struct {
	DB    *db.DB
	Proxy *proxy.Proxy
	// ImageURL is where images are shown of which the app view does not know yet: a pattern
	// with three %s, for the kind of image, the DID of its owner and its CID. "" is
	// getBlob of this server.
	ImageURL string
	// PublicURL is the server's own, without a slash at the end.
	PublicURL string
	Now       func() time.Time
	Log       *slog.Logger

	readings readings
}

var _ api.Service = (*Service)(nil)
