package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	adminapi "portico/api/atproto/admin"
	syncapi "portico/api/atproto/sync"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
)

// moveToPassword is the variable with the admin password of the host that an account moves to.
const moveToPassword = "PORTICO_MOVE_ADMIN_PASSWORD"

// moveAccountCommand is "portico account move".
func moveAccountCommand(o operators) *cli.Command {
	return &cli.Command{
		Name: "move", ArgsUsage: "ACCOUNT HOST",
		Usage: "move an account to another Portico",
		Description: `Run beside the server that has the account, or with --pds-host. HOST is the URL of
the other one; its admin password is in ` + moveToPassword + `, or comes on
standard input with --to-password-stdin. Try it with --dry-run first.

What goes: the repository with all of its history, blobs, preferences, email address,
password, app passwords, authenticator app, takedowns of the account and of what is
in it, and the rotation keys of its owner. What does not: sessions and apps, which have
to sign in again; passkeys, recovery codes, invite codes and the phone number.

A handle under a domain of its owner stays. One under a domain of this server needs
--handle: a new one under a domain of HOST, or the same where both serve that domain
and its web server leads to HOST.

The account is copied while it is in use, then switched off for the seconds in which
the rest goes and its DID is changed, and is active at HOST after that. Broken off at
any moment, the same command goes on. Until the DID names HOST, --abandon turns all
back, as the server does by itself ten minutes after the last step; later, HOST goes on
by itself. Accounts in quarantine don't move, nor do those with a did:web.

What was moved stays here, deactivated, until "account delete", or --delete.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "handle", Usage: "the `HANDLE` that it gets at HOST"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "say whether it can move, what goes and what does not"},
			&cli.BoolFlag{Name: "abandon", Usage: "turn all back, as long as its DID does not name HOST"},
			&cli.BoolFlag{Name: "delete", Usage: "delete it here once it has moved"},
			&cli.BoolFlag{Name: "to-password-stdin", Usage: "read the admin password of HOST from standard input"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
		},
		Action: o.action("an account and the host that it moves to", 2, 2, func(ctx context.Context, con *console, c *cli.Command) error {
			return moveAccount(ctx, o, con, c)
		}),
	}
}

// accountMove is an account that moves from one server to another.
type accountMove struct {
	*console          // of the server that has it
	there    *console // of the other
	did      syntax.DID
	handle   *syntax.Handle // nil: the one that it has

	packed   *operatorapi.ExportAccountOutput
	received *operatorapi.ReceiveAccountOutput
	lacking  int // blobs that are mentioned, and are nowhere
}

func moveAccount(ctx context.Context, o operators, con *console, c *cli.Command) error {
	if c.Bool("abandon") && (c.Bool("delete") || c.Bool("dry-run") || c.IsSet("handle")) {
		return usage("--abandon goes with no other flag but --yes")
	}
	account, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	m := &accountMove{console: con, did: account.DID}
	if m.there, err = con.elsewhere(ctx, o, c); err != nil {
		return err
	}
	if text := c.String("handle"); c.IsSet("handle") {
		h, err := syntax.ParseHandle(text)
		if err != nil {
			return usage("--handle %q is no handle", text)
		}
		m.handle = new(h.Normalize())
	}
	if c.Bool("abandon") {
		return m.abandon(ctx)
	}
	if err := m.check(ctx); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return m.report(account)
	}
	if m.state() == "gone" && m.received.State == operatorapi.ReceiveAccountOutputStateHere {
		return m.finished(ctx, c.Bool("delete"))
	}
	question := fmt.Sprintf("Move %s (%s) to %s? [y/N] ", account.Handle, m.did, m.received.Host)
	if err := con.confirm(ctx, c.Bool("yes"), question, ""); err != nil {
		return err
	}
	if m.received.State != operatorapi.ReceiveAccountOutputStateHere {
		if err := m.move(ctx); err != nil {
			return err
		}
	}
	if _, err := m.step(ctx, operatorapi.UpdateDepartureInputActionLeave, nil); err != nil {
		return err
	}
	return m.finished(ctx, c.Bool("delete"))
}

// elsewhere is a console of the server that the second argument names.
func (con *console) elsewhere(ctx context.Context, o operators, c *cli.Command) (*console, error) {
	host, err := parseHost(c.Args().Get(1))
	if err != nil {
		return nil, err
	}
	there := *con
	there.target = &target{host: host, from: moveToPassword, given: true}
	password, _ := given(o.config(c).Environ, nil, moveToPassword)
	if c.Bool("to-password-stdin") {
		there.target.from = "standard input"
		if con.person {
			fmt.Fprintf(con.errs, "Admin password of %s (it can be seen): ", host)
		}
		if password, err = con.line(ctx); err != nil {
			return nil, err
		}
	}
	if password == "" {
		return nil, usage("the admin password of %s is not known: set %s, or give it with --to-password-stdin", host, moveToPassword)
	}
	there.target.password = secret(password)
	there.connect(there.target)
	return &there, nil
}

// told is an error of the other server.
func (m *accountMove) told(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", m.there.target.host, m.there.target.explain(ctx, err))
}

// state is how far the account is on its way, "" where it is not.
func (m *accountMove) state() string {
	if m.packed.Departure == nil {
		return ""
	}
	return m.packed.Departure.State
}

// check finds out whether the account can move, and changes nothing.
func (m *accountMove) check(ctx context.Context) error {
	var err error
	if m.packed, err = m.operator.ExportAccount(ctx, &operatorapi.ExportAccountInput{DID: m.did}); err != nil {
		return err
	}
	if m.packed.OwnDomain && m.handle == nil {
		return usage("%s is under a domain of %s: say with --handle which one it gets at %s (the same, where that serves the domain from now on)",
			m.packed.Account.Handle, m.packed.Host, m.there.target.host)
	}
	if m.received, err = m.receive(ctx, false, true); err != nil {
		return err
	}
	if m.received.Host == m.packed.Host {
		return usage("%s and %s are the same server", m.target.host, m.there.target.host)
	}
	if d := m.packed.Departure; d != nil && d.State != "gone" && d.Host != m.received.Host {
		return fail(statusRefused, "the account is on its way to %s: abandon that first", d.Host)
	}
	if m.received.State == operatorapi.ReceiveAccountOutputStateHere && m.state() == "" {
		return fail(statusRefused, "%s has the account already, and its DID names that", m.received.Host)
	}
	return nil
}

// receive gives the other server what this one gave out.
func (m *accountMove) receive(ctx context.Context, final, dry bool) (*operatorapi.ReceiveAccountOutput, error) {
	account := m.packed.Account
	if !final {
		account.Proofs = nil
	}
	out, err := m.there.operator.ReceiveAccount(ctx, &operatorapi.ReceiveAccountInput{
		Account: account, From: m.packed.Host, Handle: m.handle, Final: xrpc.NonZero(final), DryRun: xrpc.NonZero(dry),
	})
	return out, m.told(ctx, err)
}

func (m *accountMove) step(ctx context.Context, action string, point *operatorapi.UpdateDeparturePoint) (*operatorapi.UpdateDepartureOutput, error) {
	in := &operatorapi.UpdateDepartureInput{DID: m.did, Action: action, Point: point}
	if action == operatorapi.UpdateDepartureInputActionStop {
		in.Host = &m.received.Host
	}
	return m.operator.UpdateDeparture(ctx, in)
}

// move brings the account to the other server, from wherever it is on its way.
func (m *accountMove) move(ctx context.Context) error {
	if moved, err := m.resume(ctx); moved || err != nil {
		return err
	}
	var err error
	if m.received, err = m.receive(ctx, false, false); err != nil {
		return err
	}
	before, err := m.operator.GetRepo(ctx, &operatorapi.GetRepoParams{DID: m.did})
	if err != nil {
		return err
	}
	m.progress("Copying the repository, %d records.", before.Records)
	if err := m.copyRepo(ctx, ""); err != nil {
		return err
	}
	if err := m.copyBlobs(ctx); err != nil {
		return err
	}
	if err := m.switchOver(ctx, before.Rev); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, failed := m.step(undo, operatorapi.UpdateDepartureInputActionAbandon, nil); failed != nil {
			return errors.Join(err, fmt.Errorf("it could not be turned back, run the same again: %w", m.target.explain(undo, failed)))
		}
		return fmt.Errorf("%w; the account is active here again", err)
	}
	if err := m.finish(ctx); err != nil {
		return fmt.Errorf("the DID names %s, which is to go on by itself; or run the same again: %w", m.received.Host, m.told(ctx, err))
	}
	return nil
}

// resume ends a move that was broken off when the directory may have been told: the account has
// moved then, or is here as before.
func (m *accountMove) resume(ctx context.Context) (moved bool, err error) {
	state := m.state()
	if state != "pointing" && state != "undoing" && state != "gone" {
		return false, nil
	}
	if err = m.finish(ctx); err == nil {
		return true, nil
	}
	if state == "gone" {
		return false, m.told(ctx, err)
	}
	_, failed := m.step(ctx, operatorapi.UpdateDepartureInputActionAbandon, nil)
	if errors.Is(failed, operatorapi.ErrUpdateDepartureMoveRefused) { // what was under way came to the directory meanwhile
		err = m.finish(ctx)
		return err == nil, m.told(ctx, err)
	}
	return false, failed
}

// finish has the account live at the other server, which its DID names.
func (m *accountMove) finish(ctx context.Context) error {
	return m.there.operator.UpdateArrival(ctx, &operatorapi.UpdateArrivalInput{DID: m.did, Action: operatorapi.UpdateArrivalInputActionFinish})
}

// switchOver switches the account off, copies what has changed since a rev, and has the DID name
// the other server.
func (m *accountMove) switchOver(ctx context.Context, since syntax.TID) error {
	if _, err := m.step(ctx, operatorapi.UpdateDepartureInputActionStop, nil); err != nil {
		return err
	}
	m.progress("The account is switched off; copying what has changed.")
	for try := 1; ; try++ {
		err := m.handOver(ctx, since)
		if !errors.Is(err, operatorapi.ErrUpdateDepartureOutdated) || try == 5 {
			return err
		}
		since = "" // something changed nevertheless
	}
}

func (m *accountMove) handOver(ctx context.Context, since syntax.TID) error {
	for _, copy := range []func() error{func() error { return m.copyRepo(ctx, since) }, func() error { return m.copyBlobs(ctx) }} {
		if err := copy(); err != nil {
			return err
		}
		// However long that took, the server leaves the account alone for as long again.
		if _, err := m.step(ctx, operatorapi.UpdateDepartureInputActionStop, nil); err != nil {
			return err
		}
	}
	var err error
	if m.packed, err = m.operator.ExportAccount(ctx, &operatorapi.ExportAccountInput{DID: m.did}); err != nil {
		return err
	}
	if m.packed.Version == nil {
		return fail(statusFailed, "the account was switched on again meanwhile")
	}
	out, err := m.receive(ctx, true, false)
	if err != nil {
		return err
	}
	stored, err := m.there.operator.GetRepo(ctx, &operatorapi.GetRepoParams{DID: m.did})
	if err != nil {
		return m.told(ctx, err)
	}
	_, err = m.step(ctx, operatorapi.UpdateDepartureInputActionPoint, &operatorapi.UpdateDeparturePoint{
		SigningKey: xrpc.ValueOf(out.SigningKey), RotationKeys: out.RotationKeys, Handle: out.Handle, Version: *m.packed.Version, Commit: stored.Commit,
	})
	return err
}

// copyRepo copies the repository, or what is new in it since a rev.
func (m *accountMove) copyRepo(ctx context.Context, since syntax.TID) error {
	here := syncapi.Client{Client: m.patient().Client}
	archive, err := here.GetRepo(ctx, &syncapi.GetRepoParams{DID: m.did, Since: xrpc.NonZero(since)})
	if err != nil {
		return err
	}
	defer archive.Close()
	return m.told(ctx, m.there.patient().ImportRepo(ctx, &operatorapi.ImportRepoParams{DID: m.did, Arriving: new(true)}, archive))
}

// copyBlobs copies the blobs that records mention and the other server lacks.
func (m *accountMove) copyBlobs(ctx context.Context) error {
	here, there := m.patient(), m.there.patient()
	m.lacking = 0
	copied := 0
	var cursor *string
	for {
		page, err := there.ListBlobs(ctx, &operatorapi.ListBlobsParams{DID: m.did, Missing: new(true), Limit: 500, Cursor: cursor})
		if err != nil {
			return m.told(ctx, err)
		}
		for _, b := range page.Blobs {
			err := m.copyBlob(ctx, here, there, b.CID)
			if errors.Is(err, operatorapi.ErrGetBlobBlobNotFound) {
				m.lacking++
				continue
			}
			if err != nil {
				return err
			}
			if copied++; copied%100 == 0 {
				m.progress("Copied %d blobs.", copied)
			}
		}
		if cursor = page.Cursor; cursor == nil {
			return nil
		}
	}
}

func (m *accountMove) copyBlob(ctx context.Context, here, there *operatorapi.Client, cid syntax.CID) error {
	body, err := here.GetBlob(ctx, &operatorapi.GetBlobParams{DID: m.did, CID: cid})
	if err != nil {
		return err
	}
	defer body.Close()
	up, err := there.UploadBlob(ctx, &operatorapi.UploadBlobParams{DID: m.did}, body)
	if err != nil {
		return m.told(ctx, err)
	}
	if up.CID != cid {
		return fmt.Errorf("blob %s: its bytes are not those that were uploaded", cid)
	}
	return nil
}

func (m *accountMove) abandon(ctx context.Context) error {
	if _, err := m.step(ctx, operatorapi.UpdateDepartureInputActionAbandon, nil); err != nil {
		return err
	}
	err := m.there.operator.UpdateArrival(ctx, &operatorapi.UpdateArrivalInput{DID: m.did, Action: operatorapi.UpdateArrivalInputActionAbandon})
	if err != nil && !errors.Is(err, operatorapi.ErrUpdateArrivalAccountNotFound) {
		return m.told(ctx, err)
	}
	if m.json {
		return m.printJSON(movedAccount{DID: m.did, State: "abandoned"})
	}
	return m.say("The account is here as before, and nothing of it at %s.", m.there.target.host)
}

// movedAccount is what account move prints.
type movedAccount struct {
	DID     syntax.DID    `json:"did"`
	State   string        `json:"state"` // moved, abandoned, or ready for a move
	From    string        `json:"from,omitempty"`
	To      string        `json:"to,omitempty"`
	Handle  syntax.Handle `json:"handle,omitempty"`
	Lacking int           `json:"blobsLacking,omitempty"`
	Deleted bool          `json:"deleted,omitempty"`
}

func (m *accountMove) finished(ctx context.Context, remove bool) error {
	if remove {
		if err := m.admin.DeleteAccount(ctx, &adminapi.DeleteAccountInput{DID: m.did}); err != nil {
			return err
		}
	}
	if m.json {
		return m.printJSON(movedAccount{m.did, "moved", m.packed.Host, m.received.Host, m.received.Handle, m.lacking, remove})
	}
	if m.lacking > 0 {
		m.warn(fmt.Sprintf("%d blobs that its records mention were not here, and are not there", m.lacking))
	}
	what := "It stays here, deactivated, until it is deleted."
	if remove {
		what = "It is deleted here."
	}
	return m.say("%s (%s) has moved to %s. %s", m.received.Handle, m.did, m.received.Host, what)
}

// report says what goes and what does not.
func (m *accountMove) report(a *operatorapi.Account) error {
	if m.json {
		return m.printJSON(struct {
			movedAccount
			Stays operatorapi.ExportAccountStays `json:"stays"`
		}{movedAccount{DID: m.did, State: "ready", From: m.packed.Host, To: m.received.Host, Handle: m.received.Handle}, m.packed.Stays})
	}
	size := fmt.Sprintf("%s records, %s blobs of %s bytes", number(a.Records), number(a.Blobs), number(a.BlobBytes))
	stays := m.packed.Stays
	return m.facts(
		"did", m.did.String(), "from", m.packed.Host, "to", m.received.Host,
		"handle", strings.Join([]string{m.packed.Account.Handle.String(), m.received.Handle.String()}, " to "),
		"goes", size, "", fmt.Sprintf("password, %s app passwords, authenticator app, email address, preferences", number(a.AppPasswords)),
		" ", fmt.Sprintf("%d takedowns in it", len(m.packed.Account.Takedowns)),
		"stays", fmt.Sprintf("%d sessions, and those of apps; %d passkeys, %d recovery codes, %d invite codes, the phone number", stays.Sessions, stays.Passkeys, stays.RecoveryCodes, stays.InviteCodes),
		"state", m.state(),
	)
}
