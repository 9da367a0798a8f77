package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	adminapi "portico/api/atproto/admin"
	api "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
)

// accountCommand is "portico account".
func accountCommand(o operators, envFile cli.Flag) *cli.Command {
	yes := &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}
	passwordStdin := &cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input; without this one is made and printed"}
	const one = "one account: its DID, handle or email address"
	return &cli.Command{
		Name:  "account",
		Usage: "look after the accounts of a running server",
		Description: `ACCOUNT is a DID, a handle or an email address.

` + whereHelp + `

` + statusHelp,
		Flags: o.flags(envFile),
		Commands: []*cli.Command{
			{
				Name:    "list",
				Aliases: []string{"ls"},
				Usage:   "list accounts",
				Description: `In the order of their DIDs, or with --email in that of their addresses. Accounts
in any state are listed; "account show" tells more of one.`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "status", Usage: "only accounts in this `STATE`: active, deactivated, takendown, or creating while a sign-up is under way"},
					&cli.StringFlag{Name: "email", Usage: "only accounts whose email address begins with `TEXT`"},
					&cli.StringFlag{Name: "domain", Usage: "only accounts whose handle is one label under a `DOMAIN`"},
					limitFlag(100), allFlag(),
				},
				Action: o.action("", 0, 0, listAccounts),
			},
			{
				Name: "show", Aliases: []string{"info"}, ArgsUsage: "ACCOUNT",
				Usage:  "print what the server knows about an account",
				Action: o.action(one, 1, 1, showAccount),
			},
			{
				Name: "create", ArgsUsage: "[HANDLE EMAIL]",
				Usage: "sign somebody up",
				Description: `Makes an account, with an invite code of its own where the server asks for one,
and prints its DID and, unless it was given, its password.`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "handle", Usage: "its `HANDLE`, under a domain of the server"},
					&cli.StringFlag{Name: "email", Usage: "the `ADDRESS` of its owner"},
					passwordStdin,
					&cli.StringFlag{Name: "invite-code", Usage: "use up this `CODE`"},
					&cli.StringFlag{Name: "phone", Usage: "a `NUMBER` to prove, where the server asks for one"},
					&cli.StringFlag{Name: "phone-code", Usage: "the `CODE` that was sent there; the bypass number of the server needs none"},
					&cli.StringFlag{Name: "recovery-key", Usage: "a rotation `KEY` of the owner's (did:key:…), above the server's"},
				},
				Action: o.action("a handle and an email address", 0, 2, createAccount),
			},
			{
				Name: "update", ArgsUsage: "ACCOUNT",
				Usage: "change handle, email address, signing key or invites",
				Description: `Reserved names are yours to give away. A changed address has to be confirmed by
its owner. The private part of a signing key must be on the server: "new" makes
one there. Without invites the codes that an account earns are of no use; those
that it has stay, until "invite disable" ends them.`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "handle", Usage: "the new `HANDLE`"},
					&cli.StringFlag{Name: "email", Usage: "the new `ADDRESS`"},
					&cli.StringFlag{Name: "signing-key", Usage: "the new `KEY`: one reserved on the server (did:key:…), or new"},
					&cli.StringFlag{Name: "invites", Usage: "`on` or off: whether invite codes that it earns are of use"},
				},
				Action: o.action(one, 1, 1, updateAccount),
			},
			{
				Name: "reset-password", ArgsUsage: "ACCOUNT",
				Usage: "set a new password",
				Description: `Ends all sessions and app passwords of the account, as when its owner resets the
password by mail. Where its address was never confirmed, whoever signed up with it
keeps nothing: signing in no longer asks for an emailed code either. The owner is
told by mail, also of rotation keys of the DID that are not the server's, which
"account log" shows too.`,
				Flags: []cli.Flag{
					passwordStdin,
					&cli.BoolFlag{Name: "keep", Usage: "end the sessions alone: app passwords go on working"},
				},
				Action: o.action(one, 1, 1, resetPassword),
			},
			{
				Name: "disable-2fa", ArgsUsage: "ACCOUNT",
				Usage:       "let an account sign in without an emailed code",
				Description: `For an owner who can't read mail any more. They are told by mail.`,
				Action:      o.action(one, 1, 1, disableAuthFactor),
			},
			{
				Name: "takedown", ArgsUsage: "ACCOUNT",
				Usage:       "take an account down",
				Description: `Nobody sees it and its owner can't use it, until it is restored.`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "ref", Usage: "why: the `REFERENCE` of a case; the time where there is none"},
					&cli.BoolFlag{Name: "reverse", Usage: "the same as account restore"},
				},
				Action: o.action(one, 1, 1, func(ctx context.Context, con *console, c *cli.Command) error {
					return takeDown(ctx, con, c, !c.Bool("reverse"))
				}),
			},
			{
				Name: "restore", Aliases: []string{"untakedown"}, ArgsUsage: "ACCOUNT",
				Usage: "lift a takedown",
				Action: o.action(one, 1, 1, func(ctx context.Context, con *console, c *cli.Command) error {
					return takeDown(ctx, con, c, false)
				}),
			},
			{
				Name: "deactivate", ArgsUsage: "ACCOUNT",
				Usage:       "switch an account off",
				Description: `As its owner can, who may switch it on again.`,
				Action: o.action(one, 1, 1, func(ctx context.Context, con *console, c *cli.Command) error {
					return setDeactivated(ctx, con, c, true)
				}),
			},
			{
				Name: "activate", ArgsUsage: "ACCOUNT",
				Usage: "switch an account on",
				Action: o.action(one, 1, 1, func(ctx context.Context, con *console, c *cli.Command) error {
					return setDeactivated(ctx, con, c, false)
				}),
			},
			{
				Name: "delete", Aliases: []string{"rm"}, ArgsUsage: "ACCOUNT",
				Usage:       "delete an account for good",
				Description: `Asks for its handle to be typed first. Its DID stays in the directory.`,
				Flags:       []cli.Flag{yes},
				Action:      o.action(one, 1, 1, deleteAccount),
			},
			{
				Name: "repair", ArgsUsage: "ACCOUNT",
				Usage: "say what an account lacks, and mend what can be mended",
				Description: `Looks at its rows, signing key and repository here and at its DID in the
directory. Ends with 1 when something is wrong still.`,
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "change nothing"}, yes},
				Action: o.action(one, 1, 1, repairAccount),
			},
			{
				Name: "log", ArgsUsage: "ACCOUNT",
				Usage:       "list what was done to an account and by whom, the newest first",
				Description: `Of a deleted account it is the deletion alone, under its DID, for some time.`,
				Flags:       []cli.Flag{limitFlag(100), allFlag()},
				Action:      o.action(one, 1, 1, showAccountLog),
			},
		},
	}
}

func limitFlag(n int) cli.Flag {
	return &cli.IntFlag{Name: "limit", Value: n, HideDefault: n == 0, Usage: "list up to `N`"}
}

func allFlag() cli.Flag { return &cli.BoolFlag{Name: "all", Usage: "list all of them"} }

// limit is how much of a list is wanted; 0: all.
func limit(c *cli.Command) (int, error) {
	n := c.Int("limit")
	if c.IsSet("limit") && n < 1 {
		return 0, usage("--limit must be at least 1")
	}
	if c.Bool("all") {
		return 0, nil
	}
	return n, nil
}

func listAccounts(ctx context.Context, con *console, c *cli.Command) error {
	most, err := limit(c)
	if err != nil {
		return err
	}
	status := c.String("status")
	states := []string{
		operatorapi.ListAccountsParamsStatusActive, operatorapi.ListAccountsParamsStatusDeactivated,
		operatorapi.ListAccountsParamsStatusTakendown, operatorapi.ListAccountsParamsStatusCreating,
	}
	if c.IsSet("status") && !slices.Contains(states, status) {
		return usage("--status is active, deactivated, takendown or creating, not %q", status)
	}
	accounts, more, err := collect(most, 500, func(cursor *string, n int64) ([]operatorapi.Account, *string, error) {
		out, err := con.operator.ListAccounts(ctx, &operatorapi.ListAccountsParams{
			Status: xrpc.NonZero(status), Email: xrpc.NonZero(c.String("email")), Domain: xrpc.NonZero(c.String("domain")), Cursor: cursor, Limit: n,
		})
		if err != nil {
			return nil, nil, err
		}
		return out.Accounts, out.Cursor, nil
	})
	if err != nil {
		return err
	}
	if con.json {
		out := &operatorapi.ListAccountsOutput{Accounts: accounts}
		out.Normalize()
		err = con.printJSON(out)
	} else {
		rows := make([][]string, len(accounts))
		for i, a := range accounts {
			rows[i] = []string{a.DID.String(), a.Handle.String(), optional(a.Email), stateWords(a.Status), when(&a.CreatedAt)}
		}
		err = con.table("There are no such accounts.", "DID HANDLE EMAIL STATE CREATED", rows)
	}
	if err != nil {
		return err
	}
	con.more(more)
	return nil
}

// more says that a list was cut off.
func (con *console) more(more bool) {
	if more {
		fmt.Fprintln(con.errs, "There are more: a larger --limit shows them.")
	}
}

// shownAccount is an account with the invite codes it owns.
type shownAccount struct {
	operatorapi.Account
	Invites []api.InviteCode `json:"invites"`
}

func showAccount(ctx context.Context, con *console, c *cli.Command) error {
	a, err := con.find(ctx, c.Args().First())
	if err != nil {
		return err
	}
	info, err := con.admin.GetAccountInfo(ctx, &adminapi.GetAccountInfoParams{DID: a.DID})
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(shownAccount{*a, append([]api.InviteCode{}, info.Invites...)})
	}
	confirmed := "no"
	if a.EmailConfirmedAt != nil {
		confirmed = when(a.EmailConfirmedAt)
	}
	if a.Email == nil {
		confirmed = ""
	}
	invites := ""
	if a.InvitesDisabled {
		invites = "disabled"
	}
	err = con.facts(
		"did", a.DID.String(),
		"handle", a.Handle.String(),
		"state", stateWords(a.Status),
		"takedown ref", optional(a.TakedownRef),
		"deactivated", when(a.DeactivatedAt),
		"deleted after", when(a.DeleteAfter),
		"email", optional(a.Email),
		"confirmed", confirmed,
		"2fa", onOff(a.EmailAuthFactor),
		"created", when(&a.CreatedAt),
		"signed up with", optional(a.InviteCode),
		"sessions", number(a.Sessions),
		"app passwords", number(a.AppPasswords),
		"invites", invites,
	)
	if err != nil || len(info.Invites) == 0 {
		return err
	}
	if err := con.say(""); err != nil {
		return err
	}
	return con.inviteTable(info.Invites)
}

// stateWords is a status of an account as people say it.
func stateWords(status string) string {
	if status == operatorapi.AccountStatusTakendown {
		return "taken down"
	}
	return status
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// optional is a text, empty where there is none.
func optional[T ~string](s *T) string {
	if s == nil {
		return ""
	}
	return string(*s)
}

func number(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// when is a time for people, empty where there is none.
func when(t *syntax.Datetime) string {
	if t == nil {
		return ""
	}
	return moment(t.Time())
}

// createdAccount is what account create prints: no session, which is the owner's.
type createdAccount struct {
	DID      syntax.DID    `json:"did"`
	Handle   syntax.Handle `json:"handle"`
	Email    string        `json:"email"`
	Password string        `json:"password,omitempty"`
}

func createAccount(ctx context.Context, con *console, c *cli.Command) error {
	name, address := c.String("handle"), c.String("email")
	for _, arg := range c.Args().Slice() {
		field := &name
		if strings.Contains(arg, "@") {
			field = &address
		}
		if *field != "" {
			return usage("there are two of %q and %q: account create takes a handle and an email address", *field, arg)
		}
		*field = arg
	}
	if name == "" || address == "" {
		return usage("account create takes a handle and an email address")
	}
	h, err := syntax.ParseHandle(name)
	if err != nil {
		return usage("%q is not a handle such as alice.example.com", name)
	}
	secret, generated, err := con.password(ctx, c.Bool("password-stdin"))
	if err != nil {
		return err
	}
	in := &api.CreateAccountInput{
		Handle: h, Email: &address, Password: &secret,
		RecoveryKey: xrpc.NonZero(c.String("recovery-key")), InviteCode: xrpc.NonZero(c.String("invite-code")),
	}
	if number := c.String("phone"); number != "" {
		// A number that needs no code has to come with one even so.
		in.VerificationPhone, in.VerificationCode = &number, new(cmp.Or(c.String("phone-code"), "none"))
	}
	out, err := con.server.CreateAccount(ctx, in)
	if in.InviteCode == nil && errors.Is(err, api.ErrCreateAccountInvalidInviteCode) {
		out, err = con.createInvited(ctx, in)
	}
	if refused, ok := errors.AsType[*xrpc.Error](err); ok && refused.Name == "InvalidPhoneVerification" && in.VerificationPhone == nil {
		return fail(statusRefused, "the server asks for a phone number: --phone names one, best the one of PORTICO_PHONE_BYPASS_NUMBER")
	}
	if err != nil {
		if generated && mayHaveHappened(err) {
			fmt.Fprintln(con.errs, "If the account was made even so, nobody knows its password: account reset-password makes another.")
		}
		return err
	}
	// The session of a sign-up is for the owner, who gets the password instead.
	session := &api.Client{Client: con.server.Client}
	session.Authorization = xrpc.Bearer(out.RefreshJWT)
	if err := session.DeleteSession(ctx); err != nil {
		fmt.Fprintln(con.errs, "warning: the session of the sign-up could not be ended:", legible(err.Error()))
	}
	created := createdAccount{DID: out.DID, Handle: out.Handle, Email: address}
	if generated {
		created.Password = secret
	}
	if con.json {
		return con.printJSON(created)
	}
	if err := con.facts("did", created.DID.String(), "handle", created.Handle.String(), "email", created.Email, "password", created.Password); err != nil {
		return err
	}
	if generated {
		fmt.Fprintln(con.errs, "The password is shown this once.")
	}
	return nil
}

// mayHaveHappened says whether what a call asked for may be done although it failed.
func mayHaveHappened(err error) bool {
	if answered, ok := errors.AsType[*xrpc.Error](err); ok {
		return answered.Status >= 500
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	failed, ok := errors.AsType[*net.OpError](err)
	return !ok || failed.Op != "dial"
}

// createInvited is a sign-up with a code of its own, which is of no use to anybody
// when the sign-up fails.
func (con *console) createInvited(ctx context.Context, in *api.CreateAccountInput) (*api.CreateAccountOutput, error) {
	made, err := con.asAdmin().CreateInviteCode(ctx, &api.CreateInviteCodeInput{UseCount: 1})
	if err != nil {
		return nil, err
	}
	in.InviteCode = &made.Code
	out, err := con.server.CreateAccount(ctx, in)
	if err != nil {
		disabled := con.admin.DisableInviteCodes(context.WithoutCancel(ctx), &adminapi.DisableInviteCodesInput{Codes: []string{made.Code}})
		if disabled != nil {
			fmt.Fprintf(con.errs, "warning: the invite code %s that was made for this is still there: %s\n", printable(made.Code), legible(disabled.Error()))
		}
	}
	return out, err
}

func updateAccount(ctx context.Context, con *console, c *cli.Command) error {
	handle, address, key, invites := c.String("handle"), c.String("email"), c.String("signing-key"), c.String("invites")
	if handle == "" && address == "" && key == "" && invites == "" {
		return usage("account update takes at least one of --handle, --email, --signing-key and --invites")
	}
	if invites != "" && invites != "on" && invites != "off" {
		return usage("--invites is on or off, not %q", invites)
	}
	h, err := syntax.ParseHandle(handle)
	if handle != "" && err != nil {
		return usage("%q is not a handle such as alice.example.com", handle)
	}
	if key != "" && key != "new" && !strings.HasPrefix(key, "did:key:") {
		return usage("%q is neither a did:key nor new", key)
	}
	a, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	if handle != "" && a.Status == operatorapi.AccountStatusTakendown {
		return fail(statusRefused, "%s is taken down: restore it first", a.Handle)
	}
	if address != "" {
		if err := con.admin.UpdateAccountEmail(ctx, &adminapi.UpdateAccountEmailInput{Account: a.DID.AtIdentifier(), Email: address}); err != nil {
			return err
		}
		con.progress("The email address of %s is %s.", a.Handle, printable(address))
	}
	if handle != "" {
		if err := con.admin.UpdateAccountHandle(ctx, &adminapi.UpdateAccountHandleInput{DID: a.DID, Handle: h}); err != nil {
			return err
		}
		con.progress("The handle of %s is %s.", a.DID, h)
	}
	if key == "new" {
		reserved, err := con.server.ReserveSigningKey(ctx, &api.ReserveSigningKeyInput{DID: &a.DID})
		if err != nil {
			return err
		}
		key = reserved.SigningKey
	}
	if key != "" {
		if err := con.admin.UpdateAccountSigningKey(ctx, &adminapi.UpdateAccountSigningKeyInput{DID: a.DID, SigningKey: syntax.DID(key)}); err != nil {
			return err
		}
		con.progress("The signing key of %s is %s.", a.DID, printable(key))
	}
	switch invites {
	case "on":
		err = con.admin.EnableAccountInvites(ctx, &adminapi.EnableAccountInvitesInput{Account: a.DID})
	case "off":
		err = con.admin.DisableAccountInvites(ctx, &adminapi.DisableAccountInvitesInput{Account: a.DID})
	}
	if err != nil {
		return err
	}
	if invites != "" {
		con.progress("The invites of %s are %s.", a.DID, invites)
	}
	return con.finish(ctx, a.DID, "")
}

// progress says to a person what is done.
func (con *console) progress(format string, args ...any) {
	if !con.json {
		_ = con.say(format, args...)
	}
}

// changedAccount is an account as it is after a command.
type changedAccount struct {
	operatorapi.Account
	Password string `json:"password,omitempty"`
}

// finish prints the account as it is now, with a password that was made, for a
// script. A person was told what happened.
func (con *console) finish(ctx context.Context, did syntax.DID, password string) error {
	if !con.json {
		return nil
	}
	a, err := con.find(ctx, did.String())
	if err != nil {
		return err
	}
	return con.printJSON(changedAccount{*a, password})
}

// finishState is finish, and tells a person the state of the account.
func (con *console) finishState(ctx context.Context, did syntax.DID) error {
	a, err := con.find(ctx, did.String())
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(a)
	}
	return con.say("%s is %s.", a.Handle, stateWords(a.Status))
}

func resetPassword(ctx context.Context, con *console, c *cli.Command) error {
	a, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	secret, generated, err := con.password(ctx, c.Bool("password-stdin"))
	if err != nil {
		return err
	}
	if c.Bool("keep") {
		err = con.admin.UpdateAccountPassword(ctx, &adminapi.UpdateAccountPasswordInput{DID: a.DID, Password: secret})
	} else {
		err = con.operator.ResetPassword(ctx, &operatorapi.ResetPasswordInput{DID: a.DID, Password: secret})
	}
	if err != nil {
		return err
	}
	shown := ""
	if generated {
		shown = secret
	}
	if con.json {
		return con.finish(ctx, a.DID, shown)
	}
	if !generated {
		return con.say("%s has the new password.", a.Handle)
	}
	if err := con.facts("did", a.DID.String(), "handle", a.Handle.String(), "password", shown); err != nil {
		return err
	}
	fmt.Fprintln(con.errs, "The password is shown this once.")
	return nil
}

func disableAuthFactor(ctx context.Context, con *console, c *cli.Command) error {
	a, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	if err := con.operator.DisableAuthFactor(ctx, &operatorapi.DisableAuthFactorInput{DID: a.DID}); err != nil {
		return err
	}
	con.progress("%s signs in without an emailed code.", a.Handle)
	return con.finish(ctx, a.DID, "")
}

func takeDown(ctx context.Context, con *console, c *cli.Command, applied bool) error {
	if !applied && c.String("ref") != "" {
		return usage("--ref and --reverse do not go together")
	}
	a, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	_, err = con.admin.UpdateSubjectStatus(ctx, &adminapi.UpdateSubjectStatusInput{
		Subject:  adminapi.NewUpdateSubjectStatusInputSubject(&adminapi.RepoRef{DID: a.DID}),
		Takedown: &adminapi.StatusAttr{Applied: applied, Ref: xrpc.NonZero(c.String("ref"))},
	})
	if err != nil {
		return err
	}
	return con.finishState(ctx, a.DID)
}

func setDeactivated(ctx context.Context, con *console, c *cli.Command, applied bool) error {
	a, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	if !applied && a.Status == operatorapi.AccountStatusTakendown {
		return fail(statusRefused, "%s is taken down: restore it first", a.Handle)
	}
	_, err = con.admin.UpdateSubjectStatus(ctx, &adminapi.UpdateSubjectStatusInput{
		Subject:     adminapi.NewUpdateSubjectStatusInputSubject(&adminapi.RepoRef{DID: a.DID}),
		Deactivated: &adminapi.StatusAttr{Applied: applied},
	})
	if err != nil {
		return err
	}
	return con.finishState(ctx, a.DID)
}

func deleteAccount(ctx context.Context, con *console, c *cli.Command) error {
	a, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	name := a.Handle.String()
	if a.Handle == syntax.HandleInvalid {
		name = a.DID.String()
	}
	question := fmt.Sprintf("This deletes %s (%s, %s) for good, with all of its data here.\nType %s to go on: ",
		a.Handle, a.DID, printable(optional(a.Email)), name)
	if err := con.confirm(ctx, c.Bool("yes"), question, name); err != nil {
		return err
	}
	if err := con.admin.DeleteAccount(ctx, &adminapi.DeleteAccountInput{DID: a.DID}); err != nil {
		return err
	}
	if con.json {
		return con.printJSON(a)
	}
	return con.say("%s (%s) is deleted.", a.Handle, a.DID)
}

func repairAccount(ctx context.Context, con *console, c *cli.Command) error {
	a, err := con.find(ctx, c.Args().First())
	if err != nil {
		return err
	}
	found, err := con.operator.InspectAccount(ctx, &operatorapi.InspectAccountParams{DID: a.DID})
	if err != nil {
		return err
	}
	repairable := 0
	for _, f := range found.Findings {
		if f.Repairable {
			repairable++
		}
	}
	if !con.json {
		if err := con.findings("Nothing is wrong with "+a.Handle.String()+".", found.Findings); err != nil {
			return err
		}
	}
	if c.Bool("dry-run") || repairable == 0 {
		if con.json && c.Bool("dry-run") {
			err = con.printJSON(found)
		} else if con.json {
			out := &operatorapi.RepairAccountOutput{Remaining: found.Findings}
			out.Normalize()
			err = con.printJSON(out)
		}
		return errors.Join(err, stillWrong(len(found.Findings)))
	}
	question := fmt.Sprintf("Mend %d of these? [y/N] ", repairable)
	if con.json {
		question = fmt.Sprintf("Mend %d of %d findings? [y/N] ", repairable, len(found.Findings))
	}
	if err := con.confirm(ctx, c.Bool("yes"), question, ""); err != nil {
		return err
	}
	out, err := con.operator.RepairAccount(ctx, &operatorapi.RepairAccountInput{DID: a.DID})
	if err != nil {
		return err
	}
	if con.json {
		err = con.printJSON(out)
	} else {
		err = con.repaired(out)
	}
	return errors.Join(err, stillWrong(len(out.Remaining)))
}

func (con *console) findings(none string, findings []operatorapi.Finding) error {
	rows := make([][]string, len(findings))
	for i, f := range findings {
		mendable := "no"
		if f.Repairable {
			mendable = "yes"
		}
		rows[i] = []string{f.Name, mendable, f.Message}
	}
	return con.table(none, "FINDING REPAIRABLE WHAT", rows)
}

func (con *console) repaired(out *operatorapi.RepairAccountOutput) error {
	for _, f := range out.Repaired {
		if err := con.say("mended: %s", printable(f.Name)); err != nil {
			return err
		}
	}
	for _, f := range out.Remaining {
		if err := con.say("remains: %s: %s", printable(f.Name), printable(f.Message)); err != nil {
			return err
		}
	}
	return nil
}

// stillWrong lets scripts know that something is left to be mended.
func stillWrong(n int) error {
	switch n {
	case 0:
		return nil
	case 1:
		return errors.New("1 thing is still wrong")
	}
	return fmt.Errorf("%d things are still wrong", n)
}
