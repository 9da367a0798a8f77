// Package mail writes the letters of an account server and hands them to a mail
// server.
//
// A [Brand] composes: each kind of letter is a method of it. [SMTP] sends. What
// is between the two (the queue, trying again) is package outbox.
package mail

import (
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Kinds of letters, as they stand in the outbox and in logs. Those that carry a
// code are named like the purpose of the code.
const (
	KindConfirm         = "confirm_email"
	KindUpdate          = "update_email"
	KindReset           = "reset_password"
	KindDelete          = "delete_account"
	KindPLC             = "plc_operation"
	KindSignIn          = "sign_in"
	KindPasswordChanged = "password_changed"
	KindEmailChanged    = "email_changed"
	KindSignInCodeOn    = "sign_in_code_on"
	KindSignInCodeOff   = "sign_in_code_off"
	KindFactorsChanged  = "factors_changed"
	KindNewPlace        = "new_place"
	KindGuessed         = "guessed"
	KindDeletionDue     = "deletion_due"
	KindHostMoved       = "host_moved"
	KindAccountDeleted  = "account_deleted"
)

// Urgent reports whether somebody waits for letters of a kind: they carry codes.
func Urgent(kind string) bool {
	switch kind {
	case KindConfirm, KindUpdate, KindReset, KindDelete, KindPLC, KindSignIn:
		return true
	}
	return false
}

// Letter is one mail to one recipient. It may hold a code that acts for the
// account, so printing or logging it shows its subject alone.
type Letter struct {
	// ID is the same each time one letter is tried again, so that a recipient who
	// got it twice is shown it once. Empty: the sender makes one up.
	ID      string
	To      string // address, without a name
	Subject string
	Text    string // plain text, lines end in \n
	HTML    string // empty: there is no such part
	// Moderation says that moderators wrote it, so that it comes from their address.
	Moderation bool
}

// String is the subject.
func (l Letter) String() string { return "letter " + fmt.Sprintf("%q", l.Subject) }

// GoString is the subject.
func (l Letter) GoString() string { return l.String() }

// LogValue is the subject.
func (l Letter) LogValue() slog.Value { return slog.StringValue(l.Subject) }

// Redacted is l with every code in it hidden.
func (l Letter) Redacted() Letter {
	l.Subject, l.Text, l.HTML = Redact(l.Subject), Redact(l.Text), Redact(l.HTML)
	return l
}

// code is a code as it is written, in any text; or as a word in any case.
var code = regexp.MustCompile(`[A-Z2-7]{5}-[A-Z2-7]{5}|(?i:\b[a-z2-7]{5}-[a-z2-7]{5}\b)`)

// Redact replaces whatever looks like an emailed code in s, and now and then a
// word that is none.
func Redact(s string) string { return code.ReplaceAllLiteralString(s, "*****-*****") }

// Brand is how an operator's letters look. The zero values of HomeURL and
// LogoURL leave link and picture out.
type Brand struct {
	ServiceName string
	HomeURL     *url.URL
	LogoURL     *url.URL
	// PrimaryColor is a CSS colour; what is none counts as #067df7.
	PrimaryColor string
	// DisableConfirmationLink leaves the link of the confirmation letter out, for
	// servers whose accounts that page can't help.
	DisableConfirmationLink bool
}

// confirmationPage is where clients of the network confirm an address.
const confirmationPage = "https://bsky.app/intent/verify-email?code="

// Confirm carries the code that proves that to is the account's address.
func (b Brand) Confirm(to, code string) Letter {
	c := content{
		Title:   "Confirm your email",
		Preview: code + " is your verification code.",
		Lead:    []string{"Use this code to confirm that this email address is yours:"},
		Code:    code,
		After:   []string{"Enter it in the app where you asked for it. It works for 15 minutes."},
		Small:   []string{"You didn't ask for this? Then ignore this email: nothing happens."},
	}
	if !b.DisableConfirmationLink {
		c.Button = &button{"Confirm email", confirmationPage + url.QueryEscape(code)}
		c.After = []string{"Enter it in the app where you asked for it, or follow the link. It works for 15 minutes."}
	}
	return b.compose(to, "Email Confirmation", c)
}

// Update carries the code with which the account's address can be changed; it
// goes to the present address.
func (b Brand) Update(to, code string) Letter {
	return b.compose(to, "Email Update Requested", content{
		Title:   "Update your email",
		Preview: "A code to change the email address of your account.",
		Lead:    []string{"Somebody, probably you, asked to change the email address of your account. This is the code for it:"},
		Code:    code,
		After:   []string{"Enter it in the app, together with your new email address. It works for 15 minutes."},
		Small:   []string{"You didn't ask for this? Then ignore this email, and your address stays as it is."},
	})
}

// Reset carries the code with which a new password can be set. handle names the
// account, or its address when it has no handle.
func (b Brand) Reset(to, handle, code string) Letter {
	return b.compose(to, "Password Reset Requested", content{
		Title:   "Reset password",
		Preview: "A code to set a new password.",
		Lead:    []string{"Somebody, probably you, asked to reset the password of " + named(handle) + ". This is the code for it:"},
		Code:    code,
		After:   []string{"Enter it in the app, together with a new password. It works for 15 minutes."},
		Small:   []string{"You didn't ask for this? Then ignore this email, and your password stays as it is. Give the code to nobody: who has it can take your account."},
	})
}

// Delete carries the code with which the account can be deleted.
func (b Brand) Delete(to, code string) Letter {
	return b.compose(to, "Account Deletion Requested", content{
		Title:   "Delete your account",
		Preview: "A code to delete your account.",
		Lead:    []string{"To permanently delete your account, enter this code in the app, together with your password:"},
		Code:    code,
		After:   []string{"It works for 15 minutes. A deleted account can't be brought back, nor anything that was posted with it."},
		Small:   []string{"You didn't ask for this? Then somebody else is signed in to your account: change your password now."},
	})
}

// PLCOperation carries the code with which an operation on the account's DID is
// signed.
func (b Brand) PLCOperation(to, code string) Letter {
	return b.compose(to, "PLC Update Operation Requested", content{
		Title:   "PLC update requested",
		Preview: "A code to change the identity of your account.",
		Lead:    []string{"Somebody, probably you, asked for a change of your account's identity (its DID), which is how an account moves to another server. This is the code for it:"},
		Code:    code,
		After: []string{
			"Enter it in the app where you asked for it. It works for 15 minutes.",
			"This is a sensitive operation: who controls the identity controls the account, and a wrong change can cost you both.",
		},
		Small: []string{"You didn't ask for this? Then enter the code nowhere, give it to nobody, and change your password now."},
	})
}

// SignIn carries the code that signing in asks for beside the password.
func (b Brand) SignIn(to, handle, code string) Letter {
	return b.compose(to, "Sign-in Code", content{
		Title:   "Your sign-in code",
		Preview: code + " is your sign-in code.",
		Lead:    []string{"This is the code to sign in as " + named(handle) + ":"},
		Code:    code,
		After:   []string{"Enter it in the app where you are signing in. It works for 15 minutes."},
		Small:   []string{"You are not signing in? Then somebody else knows your password. They can't get in without this code: give it to nobody, and change your password now."},
	})
}

// PasswordChanged tells the owner that the account has a new password.
func (b Brand) PasswordChanged(to, handle string, at time.Time) Letter {
	return b.compose(to, "Your Password Was Changed", content{
		Title:   "Your password was changed",
		Preview: "Your account has a new password.",
		Lead:    []string{"The password of " + named(handle) + " was changed on " + moment(at) + ". Every app that was signed in has been signed out; app passwords and passkeys go on working."},
		Small:   []string{"It wasn't you? Then reset your password now, check that the account still has your email address, and revoke the app passwords and remove the passkeys that you don't know."},
	})
}

// Recovery is what getting back into an account by a reset went along with.
type Recovery struct {
	SignInCodeOff    bool     // signing in asked for a mailed code before
	AuthenticatorOff bool     // and for one of an authenticator app
	Passkeys         int64    // that opened the account, and are removed
	ForeignKeys      []string // rotation keys of the account's DID that are not the server's
	KeysUnknown      bool     // which those are could not be found out
}

// Recovered tells the owner that the password was reset and what else ended with it.
func (b Brand) Recovered(to, handle string, at time.Time, r Recovery) Letter {
	c := content{
		Title:   "Your password was reset",
		Preview: "Your account has a new password.",
		Lead:    []string{"The password of " + named(handle) + " was reset on " + moment(at) + ". Every app that was signed in has been signed out, app passwords no longer work, and neither do codes that were mailed before."},
		Small:   []string{"It wasn't you, nor the operator at your wish? Then somebody else reads your mail: change the password of your mailbox, and then reset this one again."},
	}
	if r.SignInCodeOff {
		c.After = append(c.After, "Signing in asked for a code from this address, which nobody had confirmed. That is now off; it can be turned on again once the address is confirmed.")
	}
	if r.AuthenticatorOff {
		c.After = append(c.After, "Since nobody had confirmed this address, whoever had the account before was perhaps somebody else: the authenticator app and the recovery codes that it had are removed.")
	}
	switch {
	case r.Passkeys == 1:
		c.After = append(c.After, "The passkey of the account is removed: it no longer opens it. You can add it again on the security page of your account.")
	case r.Passkeys > 1:
		c.After = append(c.After, fmt.Sprintf("The %d passkeys of the account are removed: they no longer open it. You can add those that are yours again on the security page of your account.", r.Passkeys))
	}
	if len(r.ForeignKeys) > 0 {
		c.After = append(c.After, "These keys can change your account's identity (its DID), and "+clean(b.ServiceName)+" does not have them:")
		for _, key := range r.ForeignKeys {
			c.After = append(c.After, clean(key))
		}
		c.After = append(c.After, "Is one of them not yours? Then somebody put it there who had your account before, and can take its identity away. Ask the operator for help.")
	}
	if r.KeysUnknown {
		c.After = append(c.After, "Which keys can change your account's identity (its DID) could not be found out just now. If you think that somebody else had your account before, ask the operator of "+clean(b.ServiceName)+" to look.")
	}
	return b.compose(to, "Your Password Was Changed", c)
}

// EmailChanged tells the owner, at the old address, that the account has another
// one. signInCodeOff says that signing in no longer asks for a code because of it.
func (b Brand) EmailChanged(to, handle string, at time.Time, signInCodeOff bool) Letter {
	c := content{
		Title:   "Your email address was changed",
		Preview: "Your account has a new email address.",
		Lead:    []string{"The email address of " + named(handle) + " was changed on " + moment(at) + ". This old address gets no more mail about the account."},
		Small:   []string{"It wasn't you? Then change your password now. If you can't, ask the operator of " + clean(b.ServiceName) + " for help: the new address is not a way back in for you."},
	}
	if signInCodeOff {
		c.After = []string{"Signing in asked for a code from this address. That is now off; it can be turned on again with the new address."}
	}
	return b.compose(to, "Your Email Address Was Changed", c)
}

// SignInCodeOn tells the owner that signing in now asks for an emailed code.
func (b Brand) SignInCodeOn(to, handle string, at time.Time) Letter {
	return b.compose(to, "Sign-in Codes Turned On", content{
		Title:   "Sign-in codes are on",
		Preview: "Signing in now asks for a code from this address.",
		Lead:    []string{"Since " + moment(at) + ", signing in as " + named(handle) + " with the password also asks for a code, which is sent to this address. App passwords work without."},
		Small:   []string{"It wasn't you? Then somebody else is signed in to your account: change your password now."},
	})
}

// SignInCodeOff tells the owner that signing in no longer asks for a code.
func (b Brand) SignInCodeOff(to, handle string, at time.Time) Letter {
	return b.compose(to, "Sign-in Codes Turned Off", content{
		Title:   "Sign-in codes are off",
		Preview: "Signing in no longer asks for a code.",
		Lead:    []string{"Since " + moment(at) + ", the password alone is enough to sign in as " + named(handle) + "."},
		Small:   []string{"It wasn't you? Then somebody else is signed in to your account: change your password now, and turn sign-in codes on again."},
	})
}

// A FactorChange is what became of the ways to sign in to an account beside its password.
type FactorChange string

// The changes that owners are told of.
const (
	AuthenticatorOn   FactorChange = "Signing in with the password now also asks for a code of your authenticator app. App passwords work without."
	AuthenticatorOff  FactorChange = "Signing in with the password no longer asks for a code of your authenticator app, and the recovery codes no longer work."
	RecoveryCodesMade FactorChange = "New recovery codes were made. Those of before no longer work."
	RecoveryCodeUsed  FactorChange = "Somebody signed in with the password and a recovery code. That code does not work again."
	PasskeyAdded      FactorChange = "A passkey was added. Who has it can sign in to your account without the password."
	PasskeyRemoved    FactorChange = "A passkey was removed. It no longer opens your account."
	FactorsReset      FactorChange = "The operator removed your authenticator app, recovery codes and passkeys from the account. The password alone, or with a code that is mailed where you turned that on, is enough to sign in."
)

// FactorsChanged tells the owner of a change; detail is a sentence more, or "".
func (b Brand) FactorsChanged(to, handle string, at time.Time, change FactorChange, detail string) Letter {
	c := content{
		Title:   "How to sign in was changed",
		Preview: string(change),
		Lead:    []string{"This happened to " + named(handle) + " on " + moment(at) + ":", string(change)},
		Small:   []string{"It wasn't you? Then somebody else has your password or is signed in to your account: change your password now, and look at the security page of your account."},
	}
	if detail != "" {
		c.After = []string{clean(detail)}
	}
	return b.compose(to, "How to Sign In Was Changed", c)
}

// NewPlace tells the owner that somebody signed in with the account's password at an address
// of the network where it was not used before.
func (b Brand) NewPlace(to, handle, address string, at time.Time) Letter {
	return b.compose(to, "New Sign-in to Your Account", content{
		Title:   "A sign-in from a new place",
		Preview: "Somebody signed in to your account at an address that is new.",
		Lead:    []string{"On " + moment(at) + " somebody signed in as " + named(handle) + ". It was from the address " + clean(address) + ", at which your account was not used before."},
		After:   []string{"It was you, at home with a new address or on the way? Then nothing needs to be done."},
		Small:   []string{"It wasn't you? Then somebody else knows your password: reset it now. That signs out everything. This email comes once a day at most."},
	})
}

// Guessed tells the owner that strangers have sent so many wrong passwords that signing in
// from places where the owner has not been is shut until a time.
func (b Brand) Guessed(to, handle string, until time.Time) Letter {
	return b.compose(to, "Somebody Is Guessing Your Password", content{
		Title:   "Somebody is guessing your password",
		Preview: "Signing in from new places is shut for a while.",
		Lead:    []string{"Somebody tries to sign in as " + named(handle) + " and sends wrong passwords. Until " + moment(until) + " nobody can sign in with the password from a place where you have not signed in before, not even with the right one; if the guessing goes on, it stays so for longer."},
		After: []string{
			"Apps that are signed in go on working, and so do app passwords and the places where you have been. A password reset opens the account to you at once.",
		},
		Small: []string{"Nothing needs to be done if your password is long and used nowhere else. This email comes once a day at most."},
	})
}

// HostMoved tells the owner of an account whose identity only they can change that the
// server has another address.
func (b Brand) HostMoved(to, handle, did, before, now string) Letter {
	return b.compose(to, "Your Server Has a New Address", content{
		Title:   "Your server has a new address",
		Preview: "Only you can write the new address into your identity.",
		Lead: []string{"The server of " + named(handle) + " was " + before + " and is " + now + " now. Your identity, " + did +
			", names the old address, and only you can change it. Your account works as before, as long as the old address is kept for it."},
		After: []string{"In the DID document, make " + now + " the serviceEndpoint of #atproto_pds when you can. If you do not know how, ask whoever made your identity, or the operator of this server."},
	})
}

// DeletionDue tells the owner of a deactivated account when it is going to be
// deleted.
func (b Brand) DeletionDue(to, handle string, on time.Time) Letter {
	return b.compose(to, "Your Account Will Be Deleted", content{
		Title:   "Your account will be deleted",
		Preview: "Your deactivated account is deleted on " + day(on) + ".",
		Lead:    []string{"When " + named(handle) + " was deactivated, its deletion was asked for too. It is deleted for good on " + moment(on) + "."},
		After:   []string{"Nothing needs to be done for that. To keep the account, sign in before and activate it again."},
	})
}

// AccountDeleted tells the former owner that the account is gone.
func (b Brand) AccountDeleted(to, handle string, at time.Time) Letter {
	return b.compose(to, "Your Account Was Deleted", content{
		Title:   "Your account was deleted",
		Preview: "Your account is gone for good.",
		Lead:    []string{"The account " + named(handle) + " was deleted on " + moment(at) + ", with everything that this server kept of it. It can't be brought back."},
		After:   []string{"This is the last email about it."},
	})
}

func named(handle string) string { return "@" + clean(handle) }

func moment(t time.Time) string { return t.UTC().Format("2 January 2006 at 15:04 UTC") }

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }

// clean drops what a reader can't see or is misled by: control characters, line
// breaks among them, and marks that turn the direction of the text around.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
}
