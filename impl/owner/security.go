package owner

import (
	"encoding/binary"
	"errors"
	"net/http"
	"time"

	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/account/factor/passkey"
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
	o.passkeys()
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

// passkeys lets owners add, rename and remove passkeys.
func (o *owner) passkeys() {
	const path = securityPath + "/passkey"
	o.change(path, func(v *page.Visit) error { return o.showPasskey(v, http.StatusOK, "", "") })
	o.change(path+"-add", func(v *page.Visit) error {
		name := v.Form("name")
		err := o.Factors.Add(o.acting(v), v.Account.DID, name, v.Binding(), v.Form("made-state"), v.Form("made-answer"))
		switch {
		case errors.Is(err, factor.ErrName):
			return o.showPasskey(v, http.StatusBadRequest, "Give it a name of at most 100 letters, by which you know it later.", name)
		case errors.Is(err, factor.ErrLate):
			return o.showPasskey(v, http.StatusForbidden, "That took too long. Try again.", name)
		case errors.Is(err, passkey.ErrAnswer):
			return o.showPasskey(v, http.StatusBadRequest, "What the browser sent is no passkey for this server.", name)
		case errors.Is(err, db.ErrPasskeyTaken):
			return o.showPasskey(v, http.StatusBadRequest, "This passkey is in use already.", name)
		case err != nil:
			return o.insecure(v, err)
		}
		return done(v, securityPath, "The passkey is added. You can sign in with it alone.")
	})
	o.change(path+"-rename", func(v *page.Visit) error {
		err := o.Factors.Rename(o.acting(v), v.Account.DID, decode(v.Form("passkey")), v.Form("name"))
		if errors.Is(err, factor.ErrName) {
			return o.showSecurity(v, http.StatusBadRequest, securityForm{Alert: "Give it a name of at most 100 letters, by which you know it later."})
		}
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		return done(v, securityPath, "The passkey has another name.")
	})
	o.change(path+"-remove", func(v *page.Visit) error {
		err := o.Factors.Remove(o.acting(v), v.Account.DID, decode(v.Form("passkey")))
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return o.insecure(v, err)
		}
		return done(v, securityPath, "The passkey is removed. It opens your account no more; you may remove it from your device, too.")
	})
}

// showPasskey asks the browser to make a passkey.
func (o *owner) showPasskey(v *page.Visit, status int, alert, name string) error {
	asked, err := o.Factors.AskToAdd(v.Context(), v.Account.DID, handleOf(v.Account), v.Binding())
	if err != nil {
		return o.insecure(v, err)
	}
	return v.Show(status, "passkey.html", struct {
		Alert, Name string
		Passkey     *factor.Challenge
	}{alert, name, asked})
}

// insecure tells why something of the page was refused.
func (o *owner) insecure(v *page.Visit, err error) error {
	switch {
	case errors.Is(err, factor.ErrOff):
		err = &page.Error{Status: http.StatusBadRequest, Message: "There is no authenticator app any more."}
	case errors.Is(err, factor.ErrNoPasskeys):
		err = &page.Error{Status: http.StatusBadRequest, Message: "This server has no name, only an address: there can be no passkeys for it."}
	case errors.Is(err, db.ErrTooManyPasskeys):
		err = &page.Error{Status: http.StatusBadRequest, Message: "You have twenty passkeys, and there can be no more. Remove one first."}
	default:
		err = answer.Spent(err)
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

	App      *db.TOTP // nil for none
	Left     int      // recovery codes
	Passkeys []shownPasskey
	Named    bool // the server has a name, for which there can be passkeys
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
	all, err := o.DB.Passkeys(ctx, did)
	if err != nil {
		return err
	}
	for _, p := range all {
		f.Passkeys = append(f.Passkeys, shownPasskey{encode(p.ID), page.Printable(p.Name, factor.MaxName), p.CreatedAt, p.UsedAt})
	}
	f.Named = o.Factors.Site != nil
	return v.Show(status, "security.html", f)
}

// A shownPasskey is one of the page.
type shownPasskey struct {
	ID, Name string
	Made     time.Time
	Used     *time.Time
}
