// Package moderation is com.atproto.moderation: reports, which a moderation service takes.
package moderation

import (
	api "portico/api/atproto/moderation"
	"portico/impl/proxy"
)

// Service is the behaviour of com.atproto.moderation. It is safe for concurrent use.
type Service struct {
	Proxy *proxy.Proxy
	// CheckOutput holds what a moderation service answers against the lexicon; for
	// development.
	CheckOutput bool
}

var _ api.Service = (*Service)(nil)
