package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	adminapi "portico/api/atproto/admin"
	api "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/identity/handle"
)

// accountCommand is "portico account".
func accountCommand(o operators, envFile cli.Flag) *cli.Command {
	yes := &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}
	passwordStdin := &cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input; without this one is made and printed"}
	passwordFlag := &cli.StringFlag{Name: "password", Usage: "its `PASSWORD`; others on this machine may see it, so better --password-stdin"}
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
in any state are listed, with how many records and blobs they have and how many
bytes of these; "account show" tells more of one.

With --quarantined it is those in quarantine alone, the oldest first, with the range
of addresses that each signed up from and what it waits for.`,
				Flags: append([]cli.Flag{
					&cli.StringFlag{Name: "status", Usage: "only accounts in this `STATE`: active, deactivated, takendown, or creating while a sign-up is under way"},
					&cli.StringFlag{Name: "email", Usage: "only accounts whose email address begins with `TEXT`"},
					&cli.StringFlag{Name: "domain", Usage: "only accounts whose handle is one label under a `DOMAIN`"},
					&cli.BoolFlag{Name: "unconfirmed", Usage: "only accounts whose email address was never confirmed"},
					&cli.StringFlag{Name: "since", Usage: "only accounts made since `TIME`: 2026-01-31, 2026-01-31T12:00:00Z, or 36h or 7d ago"},
					limitFlag(100), allFlag(), cursorFlag(),
				}, heldFlags()...),
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
				Description: `Prints its DID and, unless it was given, its password. The server does not ask its
operator for an invite code or a phone number, and gives handles under closed
domains too.`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "handle", Usage: "its `HANDLE`, under a domain of the server"},
					&cli.StringFlag{Name: "email", Usage: "the `ADDRESS` of its owner"},
					passwordFlag, passwordStdin,
					&cli.BoolFlag{Name: "allow-reserved", Usage: "also a handle that nobody can sign up with: a reserved name, or the server's own"},
					&cli.StringFlag{Name: "invite-code", Usage: "use up this `CODE`, so that it is known who invited them"},
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
				Description: `Ends all sessions of the account, its app passwords and passkeys, as when its owner
resets the password by mail. Where its address was never confirmed, whoever signed up
with it keeps nothing: signing in no longer asks for an emailed code, or one of an
authenticator app, either. The owner is told by mail, also of rotation keys of the DID that are not the server's, which
"account log" shows too.`,
				Flags: []cli.Flag{
					passwordFlag, passwordStdin,
					&cli.BoolFlag{Name: "keep", Usage: "end the sessions alone: app passwords and passkeys go on working"},
				},
				Action: o.action(one, 1, 1, resetPassword),
			},
			{
				Name: "disable-2fa", ArgsUsage: "ACCOUNT",
				Usage:       "let an account sign in with its password alone",
				Description: `For an owner who can't read mail any more, or has lost the authenticator app and the recovery codes. Passkeys are removed, too. They are told by mail.`,
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
				Name: "approve", ArgsUsage: "[ACCOUNT...]",
				Usage: "let accounts out of quarantine",
				Description: `They are released whether or not their addresses are confirmed, so many an hour as
PORTICO_RELEASES_PER_HOUR says: then everybody sees them. With --quarantined it is
all that the other flags mean, after you have confirmed how many these are.`,
				Flags:  append(chosenFlags(), yes),
				Action: o.action("accounts, or --quarantined", 0, 500, approveAccounts),
			},
			{
				Name: "delete", Aliases: []string{"rm"}, ArgsUsage: "[ACCOUNT]",
				Usage: "delete accounts for good",
				Description: `Asks for its handle to be typed first. Its DID stays in the directory.

A file has an account a line; what is behind it on the line, and behind a #, is not
read, so that "account list" makes such files. All of them are looked up before the
first is deleted, and each is told of. One that can't be deleted does not keep the
others, but the command ends with 1 then.

With --quarantined it is all accounts in quarantine that the other flags mean, after
you have confirmed how many these are, but for those that you have approved. Nobody
else ever knew of them, and nothing is left, in the directory or elsewhere.`,
				Flags: append([]cli.Flag{
					&cli.StringFlag{Name: "from", TakesFile: true, Usage: "delete those that `FILE` names; - is standard input"},
					yes,
				}, chosenFlags()...),
				Action: o.action(one+", or --from, or --quarantined", 0, 1, deleteAccounts),
			},
			moveAccountCommand(o),
			{
				Name: "repair", ArgsUsage: "ACCOUNT",
				Usage: "say what an account lacks, and mend what can be mended",
				Description: `Looks at its rows, signing key and repository here and at its DID in the
directory. Ends with 1 when something is wrong still. With --all every account is
looked at, one after the other, and those are told that something is wrong with.`,
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "change nothing"},
					&cli.BoolFlag{Name: "all", Usage: "all accounts, in place of ACCOUNT"}, yes,
				},
				Action: func(ctx context.Context, c *cli.Command) error {
					if c.Bool("all") {
						return o.action("", 0, 0, repairAccounts)(ctx, c)
					}
					return o.action(one, 1, 1, repairAccount)(ctx, c)
				},
			},
			{
				Name: "log", ArgsUsage: "ACCOUNT",
				Usage:       "list what was done to an account and by whom, the newest first",
				Description: `Of a deleted account it is the deletion alone, under its DID, for some time.`,
				Flags:       []cli.Flag{limitFlag(100), allFlag(), cursorFlag()},
				Action:      o.action(one, 1, 1, showAccountLog),
			},
		},
	}
}

func limitFlag(n int) cli.Flag {
	return &cli.IntFlag{Name: "limit", Value: n, HideDefault: n == 0, Usage: "list up to `N`"}
}

func cursorFlag() cli.Flag {
	return &cli.StringFlag{Name: "cursor", Usage: "go on behind the `PLACE` at which a list was cut off"}
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
	if f, err := con.heldFilter(c); err != nil || f != nil {
		if err != nil {
			return err
		}
		return listHeld(ctx, con, c, f)
	}
	status := c.String("status")
	states := []string{
		operatorapi.ListAccountsParamsStatusActive, operatorapi.ListAccountsParamsStatusDeactivated,
		operatorapi.ListAccountsParamsStatusTakendown, operatorapi.ListAccountsParamsStatusCreating,
	}
	if c.IsSet("status") && !slices.Contains(states, status) {
		return usage("--status is active, deactivated, takendown or creating, not %q", status)
	}
	since, err := con.since(c.String("since"))
	if err != nil {
		return err
	}
	var unconfirmed *bool
	if c.Bool("unconfirmed") {
		unconfirmed = new(true)
	}
	accounts, next, err := collect(c.String("cursor"), most, 500, func(cursor *string, n int64) ([]operatorapi.Account, *string, error) {
		out, err := con.operator.ListAccounts(ctx, &operatorapi.ListAccountsParams{
			Status: xrpc.NonZero(status), Email: xrpc.NonZero(c.String("email")), Domain: xrpc.NonZero(c.String("domain")),
			Unconfirmed: unconfirmed, Since: since, Cursor: cursor, Limit: n,
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
		out := &operatorapi.ListAccountsOutput{Accounts: accounts, Cursor: next}
		out.Normalize()
		err = con.printJSON(out)
	} else {
		rows := make([][]string, len(accounts))
		for i, a := range accounts {
			rows[i] = []string{
				a.DID.String(), a.Handle.String(), optional(a.Email), listedState(&a), when(&a.CreatedAt),
				number(a.Records), number(a.Blobs), number(a.BlobBytes),
			}
		}
		err = con.table("There are no such accounts.", "DID HANDLE EMAIL STATE CREATED RECORDS BLOBS BYTES", rows)
	}
	if err != nil {
		return err
	}
	con.more(next)
	return nil
}

// since is the time that a text names: a day or a moment, in UTC where it does not say,
// or how long ago it is. It is nil for "".
func (con *console) since(text string) (*syntax.Datetime, error) {
	if text == "" {
		return nil, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339, time.DateTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return new(syntax.Datetime(t.UTC().Format(time.RFC3339))), nil
		}
	}
	ago, err := parseDuration(text)
	if err != nil || ago < 0 {
		return nil, usage("--since is a day such as 2026-01-31, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 36h or 7d, not %q", text)
	}
	return new(syntax.Datetime(con.now().Add(-ago).UTC().Format(time.RFC3339))), nil
}

// more says that a list was cut off, and where it goes on.
func (con *console) more(next *string) {
	if next != nil && !con.json {
		fmt.Fprintf(con.errs, "There are more: --limit or --all shows them, --cursor %s those behind these.\n", printable(*next))
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
		"quarantine", quarantineWords(a),
		"signed up from", signedUpFrom(a),
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
		"records", recordWords(a),
		"blobs", blobWords(a),
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

// listedState is the state of an account in a list.
func listedState(a *operatorapi.Account) string {
	if q := a.Quarantine; q != nil && q.State != "brought" && a.Status == operatorapi.AccountStatusActive {
		return "quarantined"
	}
	return stateWords(a.Status)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// recordWords says how many records an account has, and of one that was brought here and
// has not been activated yet, that none came along: its owner may have forgotten them.
func recordWords(a *operatorapi.Account) string {
	brought := a.DeactivatedAt != nil && !a.DeactivatedAt.Time().After(a.CreatedAt.Time())
	if brought && xrpc.ValueOf(a.Records) == 0 {
		return number(a.Records) + " (moved here without its repository)"
	}
	return number(a.Records)
}

// blobWords says how many blobs an account has, and how large they are.
func blobWords(a *operatorapi.Account) string {
	if xrpc.ValueOf(a.Blobs) == 0 {
		return number(a.Blobs)
	}
	return fmt.Sprintf("%d of %d bytes", *a.Blobs, xrpc.ValueOf(a.BlobBytes))
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
	secret, generated, err := con.password(ctx, c)
	if err != nil {
		return err
	}
	in := &operatorapi.CreateAccountInput{
		Handle: h, Email: address, Password: secret,
		RecoveryKey: xrpc.NonZero(c.String("recovery-key")), InviteCode: xrpc.NonZero(c.String("invite-code")),
	}
	if c.Bool("allow-reserved") {
		in.AllowReserved = new(true)
	}
	out, err := con.operator.CreateAccount(ctx, in)
	if refused, ok := errors.AsType[*xrpc.Error](err); ok && refused.Name == "HandleNotAvailable" && refused.Message == handle.ErrReserved.Message && in.AllowReserved == nil {
		return fail(statusRefused, "the server refused: %s (%s); --allow-reserved gives it away all the same", printable(refused.Message), refused.Name)
	}
	if err != nil {
		if generated && mayHaveHappened(err) {
			fmt.Fprintln(con.errs, "If the account was made even so, nobody knows its password: account reset-password makes another.")
		}
		return err
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
	secret, generated, err := con.password(ctx, c)
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
	con.progress("%s signs in with the password alone, and has no passkeys.", a.Handle)
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

func repairAccount(ctx context.Context, con *console, c *cli.Command) error {
	a, err := con.find(ctx, c.Args().First())
	if err != nil {
		return err
	}
	found, err := con.patient().InspectAccount(ctx, &operatorapi.InspectAccountParams{DID: a.DID})
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
		if q := a.Quarantine; q != nil && (q.State == "held" || q.State == "sent") {
			if err := con.say("It is in quarantine: its DID is not in the directory before its release."); err != nil {
				return err
			}
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
	out, err := con.patient().RepairAccount(ctx, &operatorapi.RepairAccountInput{DID: a.DID})
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

// repairedAccount is an account that something was wrong with.
type repairedAccount struct {
	DID       syntax.DID            `json:"did"`
	Handle    syntax.Handle         `json:"handle"`
	Repaired  []operatorapi.Finding `json:"repaired"`
	Remaining []operatorapi.Finding `json:"remaining"`
}

// repairAccounts is repairAccount for all.
func repairAccounts(ctx context.Context, con *console, c *cli.Command) error {
	dry := c.Bool("dry-run")
	if !dry {
		if err := con.confirm(ctx, c.Bool("yes"), "Mend what can be mended of all accounts? [y/N] ", ""); err != nil {
			return err
		}
	}
	wrong, remaining := []repairedAccount{}, 0
	for cursor := (*string)(nil); ; {
		page, err := con.operator.ListAccounts(ctx, &operatorapi.ListAccountsParams{Cursor: cursor, Limit: 500})
		if err != nil {
			return err
		}
		for i := range page.Accounts {
			r, err := con.repairOne(ctx, &page.Accounts[i], dry)
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			remaining += len(r.Remaining)
			if con.json {
				wrong = append(wrong, *r)
			} else if err := con.tellRepaired(r, dry); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == nil {
			break
		}
	}
	var err error
	if con.json {
		err = con.printJSON(struct {
			Accounts []repairedAccount `json:"accounts"`
		}{wrong})
	} else if remaining == 0 {
		err = con.say("Nothing is wrong with any account.")
	}
	return errors.Join(err, stillWrong(remaining))
}

// repairOne mends what can be mended of an account, unless dry, and returns nil for one with
// which nothing is wrong, or that is gone.
func (con *console) repairOne(ctx context.Context, a *operatorapi.Account, dry bool) (*repairedAccount, error) {
	found, err := con.patient().InspectAccount(ctx, &operatorapi.InspectAccountParams{DID: a.DID})
	if errors.Is(err, operatorapi.ErrInspectAccountAccountNotFound) || err == nil && len(found.Findings) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &repairedAccount{DID: a.DID, Handle: a.Handle, Repaired: []operatorapi.Finding{}, Remaining: found.Findings}
	if dry || !slices.ContainsFunc(found.Findings, func(f operatorapi.Finding) bool { return f.Repairable }) {
		return r, nil
	}
	out, err := con.patient().RepairAccount(ctx, &operatorapi.RepairAccountInput{DID: a.DID})
	if errors.Is(err, operatorapi.ErrRepairAccountAccountNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out.Normalize()
	r.Repaired, r.Remaining = out.Repaired, out.Remaining
	return r, nil
}

func (con *console) tellRepaired(r *repairedAccount, dry bool) error {
	if err := con.say("%s, %s:", r.DID, r.Handle); err != nil {
		return err
	}
	if dry {
		return con.findings("", r.Remaining)
	}
	return con.repaired(&operatorapi.RepairAccountOutput{Repaired: r.Repaired, Remaining: r.Remaining})
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
