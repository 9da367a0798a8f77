package owner

import (
	"encoding/binary"
	"errors"
	"net/http"
	"time"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/account/factor/totp"
	"portico/impl/answer"
	"portico/impl/page"
)

const securityPath = "/account/security"

// security lets owners have an authenticator app, recovery codes and passkeys.
func (o *owner) security() {
	o.show(securityPath, func(v *page.Visit) error { return o.showSecurity(v, http.StatusOK, securityForm{}) })
	o.change(securityPath+"/app", func(v *page.Visit) error {
		secret, err := totp.New(o.Rand)
		if err != nil {
			return err
		}
		return o.showApp(v, http.StatusOK, "", secret)
	})
	o.change(securityPath+"/app-on", o.appOn)
	o.change(securityPath+"/app-off", func(v *page.Visit) error {
		if err := o.Factors.Disable(o.acting(v), v.Account.DID); err != nil {
			return o.insecure(v, err)
		}
		return done(v, securityPath, "Signing in no longer asks for a code of an authenticator app.")
	})
	o.change(securityPath+"/codes", func(v *page.Visit) error {
		codes, err := o.Factors.NewCodes(o.acting(v), v.Account.DID)
		if err != nil {
			return o.insecure(v, err)
		}
		return o.showSecurity(v, http.StatusOK, securityForm{Codes: codes})
	})
}

// insecure tells why something of the page was refused.
func (o *owner) insecure(v *page.Visit, err error) error {
	err = answer.Spent(err)
	if errors.Is(err, factor.ErrOff) {
		err = xrpc.InvalidRequest("There is no authenticator app any more.")
	}
	return told(err, func(status int, message string) error {
		return o.showSecurity(v, status, securityForm{Alert: message})
	})
}

// appOn lets signing in ask for codes of the app that the owner typed one of.
func (o *owner) appOn(v *page.Visit) error {
	secret, ok := o.openSecret(v)
	if !ok {
		return o.showSecurity(v, http.StatusForbidden, securityForm{Alert: "That took too long. Begin anew."})
	}
	codes, err := o.Factors.Enable(o.acting(v), v.Account.DID, secret, v.Form("code"))
	if errors.Is(err, factor.ErrInvalid) {
		return o.showApp(v, http.StatusBadRequest, "This is not the code that the app shows now. If it is, the clock of one of the two is wrong.", secret)
	}
	if err != nil {
		return o.insecure(v, err)
	}
	return o.showSecurity(v, http.StatusOK, securityForm{Codes: codes, On: true})
}

// secretFor is how long a secret may wait for the first code of its app.
const secretFor = 15 * time.Minute

const sealedSecret = "portico/page authenticator app"

// sealSecret wraps a secret that is not the account's yet for the next form: it opens for this
// browser and account, and not for long.
func (o *owner) sealSecret(v *page.Visit, s totp.Secret) (string, error) {
	text := append(binary.BigEndian.AppendUint64(nil, uint64(o.Now().Add(secretFor).Unix())), s[:]...)
	sealed, err := o.Keys.Seal(sealedSecret, v.Account.DID.String()+" "+v.Binding(), text)
	return encode(sealed), err
}

func (o *owner) openSecret(v *page.Visit) (s totp.Secret, ok bool) {
	text, err := o.Keys.Open(sealedSecret, v.Account.DID.String()+" "+v.Binding(), decode(v.Form("secret")))
	if err != nil || len(text) < 8 || !o.Now().Before(time.Unix(int64(binary.BigEndian.Uint64(text)), 0)) {
		return s, false
	}
	s, err = totp.Read(text[8:])
	return s, err == nil
}

// showApp shows the secret to be put into an app, and asks for its code.
func (o *owner) showApp(v *page.Visit, status int, alert string, secret totp.Secret) error {
	data := struct {
		Alert   string
		Picture totp.Picture
		Text    string
		Sealed  string
	}{Alert: alert, Text: secret.Text()}
	var err error
	if data.Picture, err = totp.Draw(secret.URI(o.ServiceName, handleOf(v.Account))); err != nil {
		return err
	}
	if data.Sealed, err = o.sealSecret(v, secret); err != nil {
		return err
	}
	return v.Show(status, "authenticator.html", data)
}

type securityForm struct {
	Alert string
	Codes []string // new recovery codes, shown this once
	On    bool     // they came with a new app

	App  *db.TOTP // nil for none
	Left int      // recovery codes
}

func (o *owner) showSecurity(v *page.Visit, status int, f securityForm) error {
	ctx, did := v.Context(), v.Account.DID
	var err error
	if f.App, err = o.DB.TOTP(ctx, did); err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	if f.Left, err = o.DB.RecoveryCodes(ctx, did); err != nil {
		return err
	}
	return v.Show(status, "security.html", f)
}
