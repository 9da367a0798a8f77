package authorize

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	tempapi "portico/api/atproto/temp"
	"portico/api/xrpc"
	"portico/impl/account/token"
	"portico/impl/answer"
)

// A signUpForm is what the page shows beside what all do.
type signUpForm struct {
	form
	Invite, Handle, Domain, Email, Phone string
	Remember                             bool
	Sealed                               string // the password, once a code is asked for
	NeedsInvite, NeedsPhone              bool
	Domains                              []string // each with a dot in front
	Captcha                              string   // the site's key there, "" for none
}

func (q *ask) showSignUp(status int, f signUpForm) error {
	anyone := api.Client{Client: q.methods.As("")}
	server, err := anyone.DescribeServer(q.Context())
	if err != nil {
		return err
	}
	f.form = q.form(f.Alert)
	f.Domains, f.NeedsInvite, f.NeedsPhone = server.AvailableUserDomains, is(server.InviteCodeRequired), is(server.PhoneVerificationRequired)
	if q.Captcha != nil {
		f.Captcha = q.Captcha.SiteKey
		q.LetRun("https://hcaptcha.com", "https://*.hcaptcha.com")
	}
	return q.Show(status, "sign_up.html", f)
}

func is(b *bool) bool { return b != nil && *b }

// signUp makes an account, by createAccount, and signs in to it.
func (q *ask) signUp() error {
	f := signUpForm{
		Invite: strings.TrimSpace(q.Form("invite")), Handle: strings.ToLower(strings.Trim(strings.TrimSpace(q.Form("handle")), "@")), Domain: q.Form("domain"),
		Email: strings.TrimSpace(q.Form("email")), Phone: strings.TrimSpace(q.Form("phone")), Remember: q.Form("remember") != "",
	}
	password, ok := q.methods.Given(q.Visit, "password", "sealed")
	refuse := func(status int, message string) error {
		f.Alert = message
		return q.showSignUp(status, f)
	}
	handle, err := syntax.ParseHandle(f.Handle + f.Domain)
	switch {
	case !ok:
		return refuse(http.StatusForbidden, saysTooLong)
	case err != nil:
		return refuse(http.StatusBadRequest, saysNoHandle)
	case password == "":
		return refuse(http.StatusBadRequest, saysNoPassword)
	}
	if f.Phone != "" && (q.Form("phone-code") == "" || q.Form("again") != "") {
		methods := tempapi.Client{Client: q.methods.As("")}
		err := methods.RequestPhoneVerification(q.Context(), &tempapi.RequestPhoneVerificationInput{PhoneNumber: f.Phone})
		if err != nil {
			return told(err, refuse)
		}
		if f.Sealed, err = q.methods.Seal(q.Visit, password); err != nil {
			return err
		}
		return q.showSignUp(http.StatusOK, f)
	}
	if ok, err := q.human(); !ok || err != nil {
		if err != nil {
			return err
		}
		return refuse(http.StatusForbidden, saysCaptcha)
	}
	did, proved, err := q.create(&api.CreateAccountInput{
		Handle: handle, Email: xrpc.NonZero(f.Email), Password: &password, InviteCode: xrpc.NonZero(f.Invite),
		VerificationPhone: xrpc.NonZero(f.Phone), VerificationCode: xrpc.NonZero(q.Form("phone-code")),
	})
	if err != nil {
		return told(err, func(status int, message string) error {
			if q.Form("sealed") != "" {
				if f.Sealed, err = q.methods.Seal(q.Visit, password); err != nil {
					return err
				}
			}
			return refuse(status, message)
		})
	}
	account, err := q.signedIn(did, proved, f.Remember)
	if err != nil {
		return told(err, func(status int, message string) error {
			return q.showSignIn(status, signInForm{form: form{Alert: message}, Identifier: handle.String()})
		})
	}
	return q.proved(account, proved)
}

// human says whether the form came with what the captcha wants, where there is one.
func (q *ask) human() (bool, error) {
	if q.Captcha == nil {
		return true, nil
	}
	given := q.Form("h-captcha-response")
	if given == "" {
		return false, nil
	}
	var caller netip.Addr
	if c := xrpc.CallFrom(q.Context()); c != nil {
		caller = c.IP
	}
	good, err := q.Captcha.Verify(q.Context(), given, caller)
	return good, answer.Spent(err)
}

// create makes an account, and ends the session that it comes with: nobody else has its
// tokens.
func (q *ask) create(in *api.CreateAccountInput) (syntax.DID, time.Time, error) {
	anyone := api.Client{Client: q.methods.As("")}
	out, err := anyone.CreateAccount(q.Context(), in)
	if err != nil {
		return "", time.Time{}, err
	}
	claims, err := q.Tokens.VerifyAccess(out.AccessJWT, token.Full)
	if err != nil {
		return "", time.Time{}, err
	}
	opened := api.Client{Client: q.methods.As("Bearer " + out.RefreshJWT)}
	return out.DID, claims.IssuedAt, opened.DeleteSession(context.WithoutCancel(q.Context()))
}
