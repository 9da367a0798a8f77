package main

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"portico/impl/authserver"
	"portico/impl/authserver/authorize"
	webconsole "portico/impl/console"
	"portico/impl/owner"
)

// sitePaths are where pages are that people sign in to, see package page: no other origin
// may read what is at and below them. Of OAuth others may read some things, see package
// authserver.
var sitePaths = []string{owner.Path, owner.InvitePath, webconsole.Home, authserver.Root, authserver.MetadataPath}

const consoleCallers = "Whoever signs in there with the admin password, where PORTICO_CONSOLE=public."

const appCallers = "Apps that prove with each request that they have their key (DPoP)."

// siteCallers are who the pages are for, in words.
var siteCallers = map[string]string{
	owner.Path:        "Whoever signs in there with the account's own password.",
	owner.Path + "/*": "Whoever signs in there with the account's own password.",

	authserver.PushPath:   appCallers,
	authserver.TokenPath:  appCallers,
	authserver.RevokePath: appCallers,
	authorize.Path:        "Whoever an app sends there, and signs in with the account's own password.",
	authorize.Path + "/*": "Whoever an app sends there, and signs in with the account's own password.",

	webconsole.Home:        consoleCallers,
	webconsole.Home + "/*": consoleCallers,
}

// mountOwner puts the pages of accounts on e, and those of invites.
func mountOwner(e *echo.Echo, pages http.Handler) {
	h := served(pages)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		e.Add(method, owner.Path, h)
		e.Add(method, owner.Path+"/*", h)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, owner.InvitePath+"/*", h)
	}
}

// mountOAuth puts on e what apps call, and the pages where people let them in.
func mountOAuth(e *echo.Echo, endpoints, pages http.Handler) {
	for path, methods := range authserver.Methods {
		for _, method := range methods {
			e.Add(method, path, served(endpoints))
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		e.Add(method, authorize.Path, served(pages))
		e.Add(method, authorize.Path+"/*", served(pages))
	}
}

func served(h http.Handler) echo.HandlerFunc {
	return func(c echo.Context) error {
		h.ServeHTTP(c.Response(), c.Request())
		return nil
	}
}
