package auth

import (
	"context"
	"net/http"
	"strings"

	"portico/api/xrpc"
	"portico/impl/oauth/scope"
)

// An App is a client that an account let in by OAuth.
type App struct {
	ClientID    string
	Permissions scope.Set
}

// Apps says which apps may call a method. The zero value says that none may.
type Apps struct {
	open       bool
	permission scope.Permission // asked before the method is called; nil: none
	words      string           // what is asked of an app; of a closed method: why it is
}

// AnyApp opens a method to every app that an account let in.
var AnyApp = Apps{open: true, words: "any"}

// AppWith opens a method to apps that have a permission.
func AppWith(p scope.Permission) Apps { return Apps{open: true, permission: p} }

// AppAsked opens a method to apps whose permission it asks for itself, with [Permit], since
// that depends on what the request says. The words are for the list of who may call what.
func AppAsked(words string) Apps { return Apps{open: true, words: words} }

// AppPassedOn opens a method that is another service's to apps which may call it there. The
// proxy asks where it signs the token for that service.
var AppPassedOn = AppAsked("rpc:<method>?aud=<service>")

// NoApp closes a method to apps; they are told why.
func NoApp(why string) Apps { return Apps{words: why} }

// Unsupported is what apps are told of most methods that they may not call.
const Unsupported = "OAuth credentials are not supported for this endpoint"

func (a Apps) String() string {
	switch {
	case !a.open:
		return "none"
	case a.permission != nil:
		return a.permission.String()
	}
	return a.words
}

// verify returns the answer to an app that may not call the method.
func (a Apps) verify(app *App) error {
	if !a.open {
		why := a.words
		if why == "" {
			why = Unsupported
		}
		return &xrpc.Error{Status: http.StatusForbidden, Name: "Forbidden", Message: why}
	}
	if a.permission == nil {
		return nil
	}
	return app.permit(a.permission)
}

var errScopeMissing = xrpc.Undeclared("ScopeMissingError")

// permit returns the answer to an app that was not given p.
func (a *App) permit(p scope.Permission) error {
	if a.Permissions.Allows(p) {
		return nil
	}
	return errScopeMissing.New(http.StatusForbidden, `Missing required scope "`+p.String()+`"`)
}

// PermitCall is [Permit] for a method of a service, "did:web:example.com#service"; "*" is any
// method. Whose the method is counts in any case, as the names of hosts do.
func PermitCall(ctx context.Context, method, service string) error {
	if caller, ok := SignedIn(ctx); !ok || caller.App == nil {
		return nil
	}
	if last := strings.LastIndexByte(method, '.'); last >= 0 {
		method = strings.ToLower(method[:last]) + method[last:]
	}
	return Permit(ctx, scope.RPC{Method: method, Audience: service})
}

// Permit returns the answer to a caller that is an app and was not given p. Whoever is no
// app needs no permission.
func Permit(ctx context.Context, p scope.Permission) error {
	if caller, ok := SignedIn(ctx); ok && caller.App != nil {
		return caller.App.permit(p)
	}
	return nil
}
