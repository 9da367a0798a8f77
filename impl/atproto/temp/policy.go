package temp

import (
	"time"

	api "portico/api/atproto/temp"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
)

// Policy says who may call each method of com.atproto.temp, and how often where the
// operator switched request limits on. Its other methods are in not_served.go.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

// Anyone.

func (p Policy) RequestPhoneVerification() xrpc.Policy[api.RequestPhoneVerificationInput] {
	return xrpc.Policy[api.RequestPhoneVerificationInput]{
		Auth: xrpc.Public,
		Limits: xrpc.Limits[api.RequestPhoneVerificationInput]{
			{Points: 50, Per: 5 * time.Minute},
			{Points: 100, Per: time.Hour},
		},
	}
}

func (p Policy) CheckHandleAvailability() xrpc.Policy[api.CheckHandleAvailabilityParams] {
	return xrpc.Policy[api.CheckHandleAvailabilityParams]{
		Auth: xrpc.Public, Limits: xrpc.GlobalLimitOnly[api.CheckHandleAvailabilityParams](),
	}
}

// Any session.

func (p Policy) CheckSignupQueue() xrpc.Policy[xrpc.None] {
	return xrpc.Policy[xrpc.None]{
		Auth: p.Gate.Session(token.Standard.With(token.SignupQueued), auth.NoApp(auth.Unsupported)), Limits: xrpc.GlobalLimitOnly[xrpc.None](),
	}
}
