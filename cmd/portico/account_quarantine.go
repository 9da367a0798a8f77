package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
)

// heldFlags say which accounts in quarantine a command is about, beside --since and
// --unconfirmed, which others have too.
func heldFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "quarantined", Usage: "accounts in quarantine"},
		&cli.StringFlag{Name: "range", Usage: "in quarantine: those that signed up from this `RANGE` of addresses, or that of an address"},
		&cli.StringFlag{Name: "mail-domain", Usage: "in quarantine: those whose email address is at `DOMAIN`"},
		&cli.StringFlag{Name: "rule", Usage: "in quarantine: those that are released when they are `RULE`: confirmed or approved"},
		&cli.BoolFlag{Name: "waiting", Usage: "in quarantine: those that only you can release"},
	}
}

// chosenFlags are heldFlags for a command that does something with all of them.
func chosenFlags() []cli.Flag {
	return append(heldFlags(),
		&cli.StringFlag{Name: "since", Usage: "in quarantine: those made since `TIME`: 2026-01-31, 2026-01-31T12:00:00Z, or 36h or 7d ago"},
		&cli.BoolFlag{Name: "unconfirmed", Usage: "in quarantine: those whose email address was not confirmed"},
		&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "in quarantine: say how many there are, and change nothing"},
	)
}

// heldFlagNames are the flags that go with --quarantined alone.
var heldFlagNames = []string{"range", "mail-domain", "rule", "waiting"}

// heldFilter reads the flags of accounts in quarantine. It is nil without --quarantined, with
// which alone the flags go.
func (con *console) heldFilter(c *cli.Command, others ...string) (*operatorapi.QuarantineFilter, error) {
	if !c.Bool("quarantined") {
		for _, name := range append(slices.Clone(heldFlagNames), others...) {
			if c.IsSet(name) {
				return nil, usage("--%s goes with --quarantined", name)
			}
		}
		return nil, nil
	}
	rule := c.String("rule")
	if c.IsSet("rule") && rule != operatorapi.ListQuarantinedParamsRuleConfirmed && rule != operatorapi.ListQuarantinedParamsRuleApproved {
		return nil, usage("--rule is confirmed or approved, not %q", rule)
	}
	since, err := con.since(c.String("since"))
	if err != nil {
		return nil, err
	}
	f := &operatorapi.QuarantineFilter{
		Rule: xrpc.NonZero(rule), AddressRange: xrpc.NonZero(c.String("range")), MailDomain: xrpc.NonZero(c.String("mail-domain")), Since: since,
		Waiting: xrpc.NonZero(c.Bool("waiting")), Unconfirmed: xrpc.NonZero(c.Bool("unconfirmed")),
	}
	f.All = xrpc.NonZero(*f == (operatorapi.QuarantineFilter{}))
	return f, nil
}

func listHeld(ctx context.Context, con *console, c *cli.Command, f *operatorapi.QuarantineFilter) error {
	for _, name := range []string{"status", "email", "domain"} {
		if c.IsSet(name) {
			return usage("--%s does not go with --quarantined", name)
		}
	}
	most, err := limit(c)
	if err != nil {
		return err
	}
	accounts, next, err := collect(c.String("cursor"), most, 500, func(cursor *string, n int64) ([]operatorapi.QuarantinedAccount, *string, error) {
		out, err := con.operator.ListQuarantined(ctx, &operatorapi.ListQuarantinedParams{
			Rule: f.Rule, AddressRange: f.AddressRange, MailDomain: f.MailDomain, Since: f.Since, Waiting: f.Waiting, Unconfirmed: f.Unconfirmed,
			Cursor: cursor, Limit: n,
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
		out := &operatorapi.ListQuarantinedOutput{Accounts: accounts, Cursor: next}
		out.Normalize()
		return con.printJSON(out)
	}
	rows := make([][]string, len(accounts))
	for i, a := range accounts {
		q := a.Quarantine
		rows[i] = []string{
			a.DID.String(), a.Handle.String(), optional(a.Email), when(&q.Since), optional(q.AddressRange), heldWords(&q, a.EmailConfirmedAt),
			number(a.Records), number(a.Blobs), number(a.BlobBytes),
		}
	}
	if err := con.table("There are no such accounts in quarantine.", "DID HANDLE EMAIL SINCE RANGE WAITS-FOR RECORDS BLOBS BYTES", rows); err != nil {
		return err
	}
	con.more(next)
	return nil
}

// heldWords is what an account in quarantine waits for.
func heldWords(q *operatorapi.Quarantine, confirmed *syntax.Datetime) string {
	approved, byAddress := q.ApprovedAt != nil, q.Rule == operatorapi.ListQuarantinedParamsRuleConfirmed
	switch {
	case q.State == "sent" || q.State == "shown":
		return "directory"
	case approved || byAddress && confirmed != nil:
		return "release"
	case byAddress:
		return "confirmation"
	}
	return "approval"
}

// chosen is what a command has done with accounts in quarantine.
type chosen struct {
	Accounts  int64 `json:"accounts"`
	Confirmed int64 `json:"confirmed"`
	DryRun    bool  `json:"dryRun,omitempty"`
}

// heldCall does something with accounts that f means, up to limit of them, or counts them.
type heldCall func(ctx context.Context, f *operatorapi.QuarantineFilter, limit int64, dry bool) (n, confirmed int64, more bool, err error)

// eachChosen does something with all accounts in quarantine that f means, once a person has
// confirmed how many these are.
func eachChosen(ctx context.Context, con *console, c *cli.Command, f *operatorapi.QuarantineFilter, this, done string, call heldCall) error {
	if c.Args().Present() {
		return usage("account %s takes accounts, or --quarantined, not both", c.Name)
	}
	n, confirmed, _, err := call(ctx, f, 1, true)
	if err != nil {
		return err
	}
	if dry := c.Bool("dry-run"); dry || n == 0 {
		if con.json {
			return con.printJSON(chosen{n, confirmed, dry})
		}
		return con.say("%s", countHeld(n, confirmed))
	}
	question := fmt.Sprintf("%s\n%s\nType %d to go on: ", countHeld(n, confirmed), this, n)
	if err := con.confirm(ctx, c.Bool("yes"), question, fmt.Sprint(n)); err != nil {
		return err
	}
	var all chosen
	for more := true; more && all.Accounts < n; { // who comes meanwhile was not confirmed
		some, confirmed, goesOn, err := call(ctx, f, min(200, n-all.Accounts), false)
		if err != nil {
			return errors.Join(err, fmt.Errorf("%d accounts were %s before", all.Accounts, done))
		}
		all.Accounts, all.Confirmed, more = all.Accounts+some, all.Confirmed+confirmed, goesOn
	}
	if con.json {
		return con.printJSON(all)
	}
	if all.Accounts == 1 {
		return con.say("1 account is %s.", done)
	}
	return con.say("%d accounts are %s.", all.Accounts, done)
}

func countHeld(n, confirmed int64) string {
	switch {
	case n == 0:
		return "There are no such accounts in quarantine."
	case n == 1:
		return fmt.Sprintf("There is 1 such account in quarantine, %d with a confirmed address.", confirmed)
	}
	return fmt.Sprintf("There are %d such accounts in quarantine, %d with a confirmed address.", n, confirmed)
}

func deleteHeld(ctx context.Context, con *console, c *cli.Command, f *operatorapi.QuarantineFilter) error {
	if c.IsSet("from") {
		return usage("account delete takes --from, or --quarantined, not both")
	}
	return eachChosen(ctx, con, c, f, "This deletes them for good: nobody else knows of them, and nothing is left.", "deleted",
		func(ctx context.Context, f *operatorapi.QuarantineFilter, limit int64, dry bool) (int64, int64, bool, error) {
			out, err := con.operator.DeleteQuarantined(ctx, &operatorapi.DeleteQuarantinedInput{Filter: f, Limit: &limit, DryRun: xrpc.NonZero(dry)})
			if err != nil {
				return 0, 0, false, err
			}
			return out.Deleted, out.Confirmed, out.More, nil
		})
}

// approvals is what account approve prints.
type approvals struct {
	Approved []syntax.DID `json:"approved"`
}

func approveAccounts(ctx context.Context, con *console, c *cli.Command) error {
	f, err := con.heldFilter(c, "since", "unconfirmed", "dry-run")
	if err != nil {
		return err
	}
	if f != nil {
		return eachChosen(ctx, con, c, f, "This lets them out, so many an hour as PORTICO_RELEASES_PER_HOUR says: then everybody sees them.", "approved",
			func(ctx context.Context, f *operatorapi.QuarantineFilter, limit int64, dry bool) (int64, int64, bool, error) {
				out, err := con.operator.ApproveQuarantined(ctx, &operatorapi.ApproveQuarantinedInput{Filter: f, Limit: &limit, DryRun: xrpc.NonZero(dry)})
				if err != nil {
					return 0, 0, false, err
				}
				return out.Approved, out.Confirmed, out.More, nil
			})
	}
	if !c.Args().Present() {
		return usage("account approve takes accounts, or --quarantined")
	}
	done := approvals{Approved: []syntax.DID{}}
	var left []string
	for _, name := range c.Args().Slice() {
		a, err := con.find(ctx, name)
		if err != nil {
			return err
		}
		out, err := con.operator.ApproveQuarantined(ctx, &operatorapi.ApproveQuarantinedInput{DIDs: []syntax.DID{a.DID}})
		if err != nil {
			return err
		}
		if out.Approved == 0 {
			left = append(left, a.Handle.String())
			continue
		}
		done.Approved = append(done.Approved, a.DID)
		con.progress("%s (%s) is approved.", a.Handle, a.DID)
	}
	if con.json {
		err = con.printJSON(done)
	}
	if len(left) > 0 {
		err = errors.Join(err, fail(statusRefused, "not in quarantine: %s", strings.Join(left, ", ")))
	}
	return err
}

// quarantineWords says of an account in quarantine what it waits for, "" of any other.
func quarantineWords(a *operatorapi.Account) string {
	q := a.Quarantine
	if q == nil {
		return ""
	}
	words := "since " + when(&q.Since) + ", waits for "
	switch heldWords(q, a.EmailConfirmedAt) {
	case "confirmation":
		words += "a confirmed address"
	case "approval":
		words += "your approval"
	case "directory":
		words += "the directory"
	default:
		words += "its release"
	}
	if q.State == "brought" {
		words += ", to be activated"
	}
	if q.Reason != nil {
		words += " (" + *q.Reason + ")"
	}
	return words
}

// signedUpFrom is where somebody was who signed up, and at what address, as far as that is
// known of an account in quarantine.
func signedUpFrom(a *operatorapi.Account) string {
	if a.Quarantine == nil {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(optional(a.Quarantine.AddressRange)+", mail at "+optional(a.Quarantine.MailDomain), ", "), ", mail at ")
}
