package main

import (
	"net/http"

	"github.com/labstack/echo/v4"

	webconsole "portico/impl/console"
	"portico/impl/owner"
)

// sitePaths are where pages are that people sign in to, see package page: no other origin
// may read what is at and below them.
var sitePaths = []string{owner.Path, owner.InvitePath, webconsole.Home}

const consoleCallers = "Whoever signs in there with the admin password, where PORTICO_CONSOLE=public."

// siteCallers are who the pages are for, in words.
var siteCallers = map[string]string{
	owner.Path:        "Whoever signs in there with the account's own password.",
	owner.Path + "/*": "Whoever signs in there with the account's own password.",

	webconsole.Home:        consoleCallers,
	webconsole.Home + "/*": consoleCallers,
}

// mountOwner puts the pages of accounts on e, and those of invites.
func mountOwner(e *echo.Echo, pages http.Handler) {
	h := func(c echo.Context) error {
		pages.ServeHTTP(c.Response(), c.Request())
		return nil
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		e.Add(method, owner.Path, h)
		e.Add(method, owner.Path+"/*", h)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, owner.InvitePath+"/*", h)
	}
}
