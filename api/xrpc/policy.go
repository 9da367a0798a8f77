package xrpc

import (
	"context"
	"time"

	"github.com/labstack/echo/v4"
)

// Policy decides who may call a method, how often, and how large a body may be.
// The zero value decides nothing and is refused by [Handle].
type Policy[In any] struct {
	Auth   Authenticator
	Limits Limits[In]
	// MaxBody is the largest decoded body in bytes. 0 means 150 KiB for JSON and
	// 5 MiB for any other body.
	MaxBody int64
	// LooseParams lets the names of parameters have brackets behind them, as "actors[]".
	LooseParams bool
	// Middleware surrounds the method, the first outermost, before anything of the request
	// is looked at.
	Middleware []echo.MiddlewareFunc

	notServed bool
}

// NotServed decides that nobody may call a method, not even to learn that it is in
// the lexicons: [Handle] makes no route of it, and it is answered like a method that
// nobody has heard of.
func NotServed[In any]() Policy[In] { return Policy[In]{notServed: true} }

// Authenticator finds out who calls. It returns the context the handler gets,
// with the principal in it, or the *[Error] that refuses the call. String names
// it in the list of who may call what.
type Authenticator interface {
	Authenticate(ctx context.Context, c *Call) (context.Context, error)
	String() string
}

// Public lets anyone call and does not look at the Authorization header.
var Public Authenticator = public{}

type public struct{}

func (public) Authenticate(ctx context.Context, _ *Call) (context.Context, error) { return ctx, nil }
func (public) String() string                                                     { return "public" }

// Limit allows Points calls in a window of Per, which begins with the first
// call. Calls over the limit go on being counted.
type Limit[In any] struct {
	// Name tells the limits of one method apart where they are stored and listed; two
	// limits of the same name share a counter when Points and Per agree, too.
	Name   string
	Points int
	Per    time.Duration
	// Key tells whose calls are counted together; nil counts by client address. Its
	// context is the handler's, with the principal in it.
	Key func(ctx context.Context, in *In) string
	// More is how many points a call takes beside the first; nil stands for none.
	More func(in *In) int
	// Shared says that the calls of other methods with such a limit, which has the same
	// Name, Points and Per, are counted with those of this one.
	Shared bool
}

// Limits are the limits of one method, taken together with the global one.
type Limits[In any] []Limit[In]

// GlobalLimitOnly says explicitly that a method has no limits of its own.
func GlobalLimitOnly[In any]() Limits[In] { return Limits[In]{} }
