package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	adminapi "portico/api/atproto/admin"
	operatorapi "portico/api/portico/operator"
)

func deleteAccounts(ctx context.Context, con *console, c *cli.Command) error {
	f, err := con.heldFilter(c, "since", "unconfirmed", "dry-run")
	if err != nil {
		return err
	}
	switch from := c.String("from"); {
	case f != nil:
		return deleteHeld(ctx, con, c, f)
	case from != "" && c.Args().Present():
		return usage("account delete takes one account, or --from, not both")
	case from != "":
		return deleteListed(ctx, con, c, from)
	case !c.Args().Present():
		return usage("account delete takes one account, or --from, or --quarantined")
	}
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

// deletions is what account delete --from prints.
type deletions struct {
	Deleted []operatorapi.Account `json:"deleted"`
	Failed  []failedDeletion      `json:"failed"`
}

type failedDeletion struct {
	Account string `json:"account"`
	Error   string `json:"error"`
}

// maxListed is how many accounts a file may name: more were a mistake, or are many
// files.
const maxListed = 100_000

func deleteListed(ctx context.Context, con *console, c *cli.Command, file string) error {
	names, err := con.listed(file)
	if err != nil {
		return err
	}
	done := deletions{Deleted: []operatorapi.Account{}, Failed: []failedDeletion{}}
	var accounts []operatorapi.Account
	seen := make(map[syntax.DID]bool)
	for _, name := range names {
		a, err := con.ready(ctx, name)
		if _, ofAccount := errors.AsType[*failure](err); ofAccount {
			done.Failed = append(done.Failed, failedDeletion{name, err.Error()})
			con.warn(err.Error())
			continue
		}
		if err != nil {
			return err // of the server, not of the account
		}
		if !seen[a.DID] {
			seen[a.DID] = true
			accounts = append(accounts, *a)
		}
	}
	if len(accounts) > 0 {
		count := fmt.Sprint(len(accounts))
		question := fmt.Sprintf("This deletes %s accounts for good, with all of their data here, from %s to %s.\nType %s to go on: ",
			count, accounts[0].Handle, accounts[len(accounts)-1].Handle, count)
		if err := con.confirm(ctx, c.Bool("yes"), question, count); err != nil {
			return err
		}
	}
	for _, a := range accounts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := con.admin.DeleteAccount(ctx, &adminapi.DeleteAccountInput{DID: a.DID}); err != nil {
			err = con.target.explain(ctx, err)
			done.Failed = append(done.Failed, failedDeletion{a.DID.String(), err.Error()})
			con.warn(fmt.Sprintf("%s (%s): %v", a.Handle, a.DID, err))
			continue
		}
		done.Deleted = append(done.Deleted, a)
		con.progress("%s (%s) is deleted.", a.Handle, a.DID)
	}
	if con.json {
		err = con.printJSON(done)
	}
	if n := len(done.Failed); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d accounts were not deleted", n, n+len(done.Deleted)))
	}
	return err
}

// listed reads the accounts that a file names.
func (con *console) listed(file string) (names []string, err error) {
	var r io.Reader = con.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("%w", err)
		}
		defer f.Close()
		r = f
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 || fields[0] == "DID" {
			continue // "account list" begins with a head
		}
		if names = append(names, fields[0]); len(names) > maxListed {
			return nil, usage("%s names more than %d accounts", file, maxListed)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(names) == 0 {
		return nil, usage("%s names no accounts", file)
	}
	return names, nil
}

// warn says to a person what did not work, and goes on.
func (con *console) warn(what string) {
	if !con.json {
		fmt.Fprintln(con.errs, "portico:", legible(what))
	}
}
