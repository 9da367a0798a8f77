package console

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	adminapi "portico/api/atproto/admin"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/page"
)

// An action is something to be done to an account. Each is asked about first.
type action struct {
	Name, Label string
	// offered says whether it makes sense for an account as it is.
	offered func(*operatorapi.Account) bool
	ask     func(*console, context.Context, *operatorapi.Account) (ask, error)
	// do does it and says what was done. What it says of itself by showing a page, says "".
	do func(*console, *page.Visit, *operatorapi.Account) (said string, err error)
}

func ready(a *operatorapi.Account) bool { return a.Status != operatorapi.AccountStatusCreating }
func down(a *operatorapi.Account) bool  { return a.Status == operatorapi.AccountStatusTakendown }

// plainly makes the page of an action that asks nothing of the server first.
func plainly(f func(a *operatorapi.Account) ask) func(*console, context.Context, *operatorapi.Account) (ask, error) {
	return func(_ *console, _ context.Context, a *operatorapi.Account) (ask, error) { return f(a), nil }
}

var actions = []action{
	{
		Name: "takedown", Label: "Take down",
		offered: func(a *operatorapi.Account) bool { return ready(a) && !down(a) },
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{
				Title: "Take " + name(a) + " down?", Button: "Take down", Danger: true,
				Text:   []string{"Nobody sees the account and its owner can't use it, until it is restored."},
				Fields: []field{{Name: "ref", Label: "Reference", Hint: "Why: that of a case, for example. It may be empty.", Type: "text"}},
			}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			return name(a) + " is taken down.", c.takeDown(v.Context(), a.DID, adminapi.StatusAttr{Applied: true, Ref: xrpc.NonZero(strings.TrimSpace(v.Form("ref")))})
		},
	},
	{
		Name: "restore", Label: "Restore", offered: down,
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{Title: "Restore " + name(a) + "?", Button: "Restore", Text: []string{"The takedown is lifted: the account is as it was before."}}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			return name(a) + " is restored.", c.takeDown(v.Context(), a.DID, adminapi.StatusAttr{})
		},
	},
	{
		Name: "deactivate", Label: "Deactivate",
		offered: func(a *operatorapi.Account) bool { return a.Status == operatorapi.AccountStatusActive },
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{Title: "Deactivate " + name(a) + "?", Button: "Deactivate", Danger: true, Text: []string{"The account is switched off. Its owner may switch it on again."}}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			return name(a) + " is deactivated.", c.setDeactivated(v.Context(), a.DID, true)
		},
	},
	{
		Name: "activate", Label: "Activate",
		offered: func(a *operatorapi.Account) bool { return a.Status == operatorapi.AccountStatusDeactivated },
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{Title: "Activate " + name(a) + "?", Button: "Activate", Text: []string{"The account is switched on, as its owner could do."}}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			return name(a) + " is active.", c.setDeactivated(v.Context(), a.DID, false)
		},
	},
	{
		Name: "handle", Label: "Change handle", offered: func(a *operatorapi.Account) bool { return ready(a) && !down(a) },
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{
				Title: "Change the handle of " + name(a), Button: "Change",
				Text:   []string{"Reserved names are yours to give away. Others may take the old handle afterwards."},
				Fields: []field{{Name: "handle", Label: "New handle", Hint: "Such as alice.example.com", Type: "text", Required: true}},
			}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			h, err := syntax.ParseHandle(strings.TrimPrefix(strings.TrimSpace(v.Form("handle")), "@"))
			if err != nil {
				return "", unreadable("That is not a handle such as alice.example.com.")
			}
			return "The handle of " + a.DID.String() + " is " + h.String() + ".",
				c.admin.UpdateAccountHandle(v.Context(), &adminapi.UpdateAccountHandleInput{DID: a.DID, Handle: h})
		},
	},
	{
		Name: "email", Label: "Change email address", offered: ready,
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{
				Title: "Change the email address of " + name(a), Button: "Change",
				Text:   []string{"The new address has to be confirmed by its owner. The old one is told of the change."},
				Fields: []field{{Name: "email", Label: "New address", Type: "email", Required: true}},
			}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			address := strings.TrimSpace(v.Form("email"))
			return "The email address of " + name(a) + " is " + address + ".",
				c.admin.UpdateAccountEmail(v.Context(), &adminapi.UpdateAccountEmailInput{Account: a.DID.AtIdentifier(), Email: address})
		},
	},
	{
		Name: "reset-password", Label: "Reset password", offered: ready,
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{
				Title: "Reset the password of " + name(a) + "?", Button: "Reset", Danger: true,
				Text: []string{
					"A new password is made and shown once. All sessions and app passwords end, as when the owner resets the password by mail, and the owner is told by mail.",
				},
				Fields: []field{{Name: "keep", Label: "End the sessions alone: app passwords and passkeys go on working", Type: "checkbox"}},
			}
		}),
		do: (*console).resetPassword,
	},
	{
		Name: "disable-2fa", Label: "Disable 2FA", offered: ready,
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{
				Title: "Let " + name(a) + " sign in without a code?", Button: "Disable 2FA", Danger: true,
				Text: []string{"For an owner who can't read mail any more, or has lost the authenticator app and the recovery codes. Passkeys are removed, too. They are told by mail."},
			}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			return name(a) + " signs in with the password alone, and has no passkeys.",
				c.operator.DisableAuthFactor(v.Context(), &operatorapi.DisableAuthFactorInput{DID: a.DID})
		},
	},
	{
		Name: "disable-invites", Label: "Disable invites", offered: func(a *operatorapi.Account) bool { return ready(a) && !a.InvitesDisabled },
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{Title: "Disable the invites of " + name(a) + "?", Button: "Disable", Danger: true, Text: []string{"Codes that the account earns are of no use."}}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			return "The invites of " + name(a) + " are off.", c.admin.DisableAccountInvites(v.Context(), &adminapi.DisableAccountInvitesInput{Account: a.DID})
		},
	},
	{
		Name: "enable-invites", Label: "Enable invites", offered: func(a *operatorapi.Account) bool { return ready(a) && a.InvitesDisabled },
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{Title: "Enable the invites of " + name(a) + "?", Button: "Enable", Text: []string{"Codes that the account earns are of use again."}}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			return "The invites of " + name(a) + " are on.", c.admin.EnableAccountInvites(v.Context(), &adminapi.EnableAccountInvitesInput{Account: a.DID})
		},
	},
	{
		Name: "repair", Label: "Inspect and repair", offered: func(*operatorapi.Account) bool { return true },
		ask: (*console).inspect,
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			out, err := c.operator.RepairAccount(v.Context(), &operatorapi.RepairAccountInput{DID: a.DID})
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d mended, %d left.", len(out.Repaired), len(out.Remaining)), nil
		},
	},
	{
		Name: "delete", Label: "Delete", offered: ready,
		ask: plainly(func(a *operatorapi.Account) ask {
			return ask{
				Title: "Delete " + name(a) + " for good?", Button: "Delete for good", Danger: true,
				Text:  []string{"Its repository, its blobs and all else that is here of it are deleted. Its DID stays in the directory. This can't be undone."},
				Facts: []fact{{"Account", a.DID.String()}, {"Records", number(a.Records)}, {"Blobs", number(a.Blobs)}},
				Fields: []field{{
					Name: "typed", Label: "Type " + typed(a) + " to delete it", Type: "text", Required: true,
				}},
			}
		}),
		do: func(c *console, v *page.Visit, a *operatorapi.Account) (string, error) {
			if !strings.EqualFold(strings.TrimPrefix(strings.TrimSpace(v.Form("typed")), "@"), typed(a)) {
				return "", unreadable("That is not " + typed(a) + ": nothing was deleted.")
			}
			return name(a) + " is deleted.", c.admin.DeleteAccount(v.Context(), &adminapi.DeleteAccountInput{DID: a.DID})
		},
	},
}

// offered are the actions that make sense for an account as it is.
func offered(a *operatorapi.Account) []action {
	return slices.DeleteFunc(slices.Clone(actions), func(one action) bool { return !one.offered(a) })
}

// name is how an account is called.
func name(a *operatorapi.Account) string {
	if a.Handle == syntax.HandleInvalid {
		return a.DID.String()
	}
	return a.Handle.String()
}

// typed is what is to be typed to delete an account.
func typed(a *operatorapi.Account) string { return name(a) }

func number(n *int64) string {
	if n == nil {
		return "unknown"
	}
	return fmt.Sprint(*n)
}

// chosen is the action that the path names, and what it is done to.
func (c *console) chosen(v *page.Visit) (*action, *operatorapi.Account, error) {
	i := slices.IndexFunc(actions, func(one action) bool { return one.Name == v.Request.PathValue("action") })
	if i < 0 {
		return nil, nil, &page.Error{Status: http.StatusNotFound, Message: "There is no page at this address."}
	}
	a, err := c.find(v)
	if err != nil {
		return nil, nil, err
	}
	if !actions[i].offered(a) {
		return nil, nil, &page.Error{Status: http.StatusConflict, Message: "This can't be done: " + name(a) + " is " + statusWords(a.Status) + " by now."}
	}
	return &actions[i], a, nil
}

func (c *console) askOf(v *page.Visit, do *action, a *operatorapi.Account) (ask, error) {
	asked, err := do.ask(c, v.Context(), a)
	asked.Back = accountPath(a.DID)
	asked.Action = asked.Back + "/" + do.Name
	return asked, err
}

func (c *console) askAction(v *page.Visit) error {
	do, a, err := c.chosen(v)
	if err != nil {
		return err
	}
	asked, err := c.askOf(v, do, a)
	if err != nil {
		return err
	}
	return c.ask(v, asked)
}

func (c *console) act(v *page.Visit) error {
	do, a, err := c.chosen(v)
	if err != nil {
		return err
	}
	said, err := do.do(c, v, a)
	if err != nil {
		if page.Refused(err) == nil {
			return err
		}
		asked, unknown := c.askOf(v, do, a)
		if unknown != nil {
			return unknown
		}
		return c.askAgain(v, asked, err)
	}
	switch {
	case said == "":
		return nil
	case do.Name == "delete":
		return c.done(v, Home+"/accounts", "%s", said)
	}
	return c.done(v, accountPath(a.DID), "%s", said)
}

func (c *console) takeDown(ctx context.Context, did syntax.DID, status adminapi.StatusAttr) error {
	_, err := c.admin.UpdateSubjectStatus(ctx, &adminapi.UpdateSubjectStatusInput{
		Subject: adminapi.NewUpdateSubjectStatusInputSubject(&adminapi.RepoRef{DID: did}), Takedown: &status,
	})
	return err
}

func (c *console) setDeactivated(ctx context.Context, did syntax.DID, applied bool) error {
	_, err := c.admin.UpdateSubjectStatus(ctx, &adminapi.UpdateSubjectStatusInput{
		Subject: adminapi.NewUpdateSubjectStatusInputSubject(&adminapi.RepoRef{DID: did}), Deactivated: &adminapi.StatusAttr{Applied: applied},
	})
	return err
}

type passwordPage struct {
	Name, Password, Back string
}

// resetPassword shows the new password, which nobody can be shown again.
func (c *console) resetPassword(v *page.Visit, a *operatorapi.Account) (string, error) {
	password, err := newPassword(c.Rand)
	if err != nil {
		return "", err
	}
	if v.Form("keep") != "" {
		err = c.admin.UpdateAccountPassword(v.Context(), &adminapi.UpdateAccountPasswordInput{DID: a.DID, Password: password})
	} else {
		err = c.operator.ResetPassword(v.Context(), &operatorapi.ResetPasswordInput{DID: a.DID, Password: password})
	}
	if err != nil {
		return "", err
	}
	return "", v.Show(http.StatusOK, "password.html", passwordPage{name(a), password, accountPath(a.DID)})
}

// newPassword makes one of 100 random bits that can be read out.
func newPassword(random io.Reader) (string, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [13]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make password: %w", err)
	}
	text := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))[:20]
	return text[:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:], nil
}

// inspect says what is wrong with an account, and asks whether to mend it.
func (c *console) inspect(ctx context.Context, a *operatorapi.Account) (ask, error) {
	out, err := c.operator.InspectAccount(ctx, &operatorapi.InspectAccountParams{DID: a.DID})
	if err != nil {
		return ask{}, err
	}
	asked := ask{Title: "Nothing is wrong with " + name(a), Impossible: true, Button: "Repair"}
	asked.Text = []string{"Its rows, signing key and repository here and its DID in the directory were looked at."}
	repairable := 0
	for _, f := range out.Findings {
		mended := "can't be mended here"
		if f.Repairable {
			repairable++
			mended = "can be mended"
		}
		asked.Facts = append(asked.Facts, fact{words(f.Name) + ", " + mended, f.Message})
	}
	if len(out.Findings) > 0 {
		asked.Title = "What is wrong with " + name(a)
	}
	if repairable > 0 {
		asked.Title, asked.Impossible = "Repair "+name(a)+"?", false
	}
	return asked, nil
}
