package main

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
)

// logCommand is "portico log".
func logCommand(o operators, envFile cli.Flag) *cli.Command {
	return &cli.Command{
		Name:  "log",
		Usage: "list what was done on a running server and by whom, the newest first",
		Description: `To accounts, and to what concerns none, like its domains. "portico account log" is
that of one account.

` + whereHelp + `

` + statusHelp,
		Flags:  append(o.flags(envFile), limitFlag(100), allFlag(), cursorFlag()),
		Action: o.action("", 0, 0, showLog),
	}
}

func showLog(ctx context.Context, con *console, c *cli.Command) error {
	entries, next, err := con.log(ctx, c, nil)
	if err != nil || con.json {
		return err
	}
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = []string{when(&e.At), optional(e.DID), e.Event, e.Actor, optional(e.Address), optional(e.Detail)}
	}
	if err := con.table("There is nothing in the log.", "TIME ACCOUNT EVENT ACTOR ADDRESS DETAIL", rows); err != nil {
		return err
	}
	con.more(next)
	return nil
}

func showAccountLog(ctx context.Context, con *console, c *cli.Command) error {
	// A deleted account is not found any more, but has its log.
	did, err := syntax.ParseDID(c.Args().First())
	if err != nil {
		a, err := con.find(ctx, c.Args().First())
		if err != nil {
			return err
		}
		did = a.DID
	}
	entries, next, err := con.log(ctx, c, &did)
	if err != nil || con.json {
		return err
	}
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = []string{when(&e.At), e.Event, e.Actor, optional(e.Address), optional(e.Detail)}
	}
	if err := con.table("There is nothing in the log of "+did.String()+".", "TIME EVENT ACTOR ADDRESS DETAIL", rows); err != nil {
		return err
	}
	con.more(next)
	return nil
}

// log reads the log of an account, or all of it, as far as the flags of c want it, and
// prints it if JSON is wanted.
func (con *console) log(ctx context.Context, c *cli.Command, did *syntax.DID) (entries []operatorapi.LogEntry, next *string, err error) {
	most, err := limit(c)
	if err != nil {
		return nil, nil, err
	}
	entries, next, err = collect(c.String("cursor"), most, 500, func(cursor *string, n int64) ([]operatorapi.LogEntry, *string, error) {
		out, err := con.operator.GetLog(ctx, &operatorapi.GetLogParams{DID: did, Limit: n, Cursor: cursor})
		if err != nil {
			return nil, nil, err
		}
		return out.Entries, out.Cursor, nil
	})
	if err == nil && con.json {
		out := &operatorapi.GetLogOutput{Entries: entries, Cursor: next}
		out.Normalize()
		err = con.printJSON(out)
	}
	return entries, next, err
}
