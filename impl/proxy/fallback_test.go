package proxy_test

import (
	"testing"

	"portico/impl/servertest"
)

func withAppView(o *servertest.Options) { o.AppView = true }

// Without a service to go to, nobody is asked who they are.
func TestNoService(t *testing.T) {
	s := servertest.New(t)
	s.Refused(s.Get("app.bsky.feed.getLikes"), 400, "InvalidRequest", "No service configured for app.bsky.feed.getLikes")
}

// What the app view does is for whoever is signed in.
func TestStranger(t *testing.T) {
	s := servertest.New(t, withAppView)
	s.Refused(s.Get("app.bsky.feed.getLikes"), 401, "AuthMissing", "Authentication Required")
}
