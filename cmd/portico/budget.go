package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
)

// budgetCommand is "portico budget".
func budgetCommand(o operators, envFile cli.Flag) *cli.Command {
	const one = "one DID or address"
	return &cli.Command{
		Name:  "budget",
		Usage: "show who was stopped by a security budget, and let them go on",
		Description: `Security budgets bound what helps an attacker or costs somebody else: wrong
passwords, mails, sign-ups. WHO is a DID, an address of the network, a /64 or /48
of IPv6, or an email address. The server keeps a keyed hash of it, so nobody can
list who has spent what.

` + whereHelp + `

` + statusHelp,
		Flags: o.flags(envFile),
		Commands: []*cli.Command{
			{
				Name: "show", ArgsUsage: "WHO",
				Usage:  "list what an account or an address has spent",
				Action: o.action(one, 1, 1, showBudgets),
			},
			{
				Name: "clear", ArgsUsage: "WHO",
				Usage:  "forget what an account or an address has spent",
				Action: o.action(one, 1, 1, clearBudgets),
			},
		},
	}
}

func showBudgets(ctx context.Context, con *console, c *cli.Command) error {
	out, err := con.operator.GetBudgets(ctx, &operatorapi.GetBudgetsParams{Who: c.Args().First()})
	if errors.Is(err, operatorapi.ErrGetBudgetsInvalidPayer) {
		return usage("%s is neither a DID nor an address", printable(c.Args().First()))
	}
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(out)
	}
	rows := make([][]string, len(out.Budgets))
	for i, b := range out.Budgets {
		rows[i] = []string{b.Kind, fmt.Sprintf("%d of %d", b.Spent, b.Limit), when(&b.ResetAt), b.Protects}
	}
	return con.table("Nothing was spent.", "BUDGET SPENT UNTIL PROTECTS", rows)
}

func clearBudgets(ctx context.Context, con *console, c *cli.Command) error {
	who := c.Args().First()
	err := con.operator.ClearBudgets(ctx, &operatorapi.ClearBudgetsInput{Who: who})
	if errors.Is(err, operatorapi.ErrClearBudgetsInvalidPayer) {
		return usage("%s is neither a DID nor an address", printable(who))
	}
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(struct {
			Who string `json:"who"`
		}{who})
	}
	return con.say("What %s had spent is forgotten.", printable(who))
}
