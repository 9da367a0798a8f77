package bsky

import (
	api "portico/api/bsky"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
)

// Policy says who may call each method of app.bsky that is served here, and how often
// where the operator switched request limits on.
type Policy struct {
	Gate *auth.Gate
	// AppView says that there is one. Without, what is of no use is not served.
	AppView bool
}

var _ api.Policy = Policy{}

// ActorGetPreferences shows a taken-down account what is its own.
func (p Policy) ActorGetPreferences() xrpc.Policy[xrpc.None] {
	return withAppView[xrpc.None](p, p.Gate.OwnerOrModerator(token.Standard.With(token.Takendown), auth.AppPassedOn))
}

func (p Policy) ActorGetProfile() xrpc.Policy[api.ActorGetProfileParams] {
	return session[api.ActorGetProfileParams](p)
}

func (p Policy) ActorGetProfiles() xrpc.Policy[api.ActorGetProfilesParams] {
	return loose(session[api.ActorGetProfilesParams](p))
}

func (p Policy) ActorPutPreferences() xrpc.Policy[api.ActorPutPreferencesInput] {
	return session[api.ActorPutPreferencesInput](p)
}

func (p Policy) FeedGetActorLikes() xrpc.Policy[api.FeedGetActorLikesParams] {
	return session[api.FeedGetActorLikesParams](p)
}

func (p Policy) FeedGetAuthorFeed() xrpc.Policy[api.FeedGetAuthorFeedParams] {
	return session[api.FeedGetAuthorFeedParams](p)
}

func (p Policy) FeedGetFeed() xrpc.Policy[api.FeedGetFeedParams] {
	return session[api.FeedGetFeedParams](p)
}

func (p Policy) FeedGetPostThread() xrpc.Policy[api.FeedGetPostThreadParams] {
	return loose(session[api.FeedGetPostThreadParams](p))
}

func (p Policy) FeedGetTimeline() xrpc.Policy[api.FeedGetTimelineParams] {
	return loose(session[api.FeedGetTimelineParams](p))
}

func (p Policy) NotificationRegisterPush() xrpc.Policy[api.NotificationRegisterPushInput] {
	return withAppView[api.NotificationRegisterPushInput](p, p.Gate.Session(token.Standard.With(token.SignupQueued), auth.AppPassedOn, auth.NotTakenDown, auth.NotHeld))
}

func (p Policy) NotificationUnregisterPush() xrpc.Policy[api.NotificationUnregisterPushInput] {
	return withAppView[api.NotificationUnregisterPushInput](p, p.Gate.Session(token.Standard, auth.AppPassedOn, auth.NotTakenDown, auth.NotHeld))
}

// withAppView has no limit of its own beside the global one. Without an app view the method
// is not served.
func withAppView[In any](p Policy, who xrpc.Authenticator) xrpc.Policy[In] {
	if !p.AppView {
		return xrpc.NotServed[In]()
	}
	return xrpc.Policy[In]{Auth: who, Limits: xrpc.GlobalLimitOnly[In]()}
}

// session is withAppView for any session of an account that is not taken down.
func session[In any](p Policy) xrpc.Policy[In] {
	return withAppView[In](p, p.Gate.Session(token.Standard, auth.AppPassedOn, auth.NotTakenDown))
}

// loose is a policy that takes parameters as clients of old wrote them.
func loose[In any](p xrpc.Policy[In]) xrpc.Policy[In] {
	p.LooseParams = true
	return p
}
