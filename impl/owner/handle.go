package owner

import (
	"net/http"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	identityapi "portico/api/atproto/identity"
	"portico/impl/page"
)

func (o *owner) handle() {
	const path = "/account/handle"
	o.show(path, func(v *page.Visit) error { return o.showHandle(v, http.StatusOK, handleForm{}) })
	o.change(path, func(v *page.Visit) error {
		f := handleForm{Handle: strings.TrimPrefix(strings.TrimSpace(v.Form("handle")), "@")}
		if _, err := syntax.ParseHandle(f.Handle); err != nil {
			f.Alert = "That cannot be a handle: it takes letters, digits, hyphens, and dots between its parts."
			return o.showHandle(v, http.StatusBadRequest, f)
		}
		err := o.names(v).UpdateHandle(v.Context(), &identityapi.UpdateHandleInput{Handle: syntax.Handle(f.Handle)})
		if err != nil {
			return told(err, func(status int, message string) error {
				f.Alert = message
				return o.showHandle(v, status, f)
			})
		}
		return done(v, path, "Your handle is changed. Apps may take a while to show it.")
	})
}

type handleForm struct {
	Alert   string
	Handle  string // the new one
	Current string
	DID     syntax.DID
	Domains []string // each with a dot in front
}

func (o *owner) showHandle(v *page.Visit, status int, f handleForm) error {
	a, err := o.account(v)
	if err != nil {
		return err
	}
	server, err := o.server(v).DescribeServer(v.Context())
	if err != nil {
		return err
	}
	f.Current, f.DID, f.Domains = handleOf(a), a.DID, server.AvailableUserDomains
	return v.Show(status, "handle.html", f)
}
