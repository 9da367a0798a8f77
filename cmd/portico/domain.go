package main

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
)

// domainCommand is "portico domain".
func domainCommand(o operators, envFile cli.Flag) *cli.Command {
	return &cli.Command{
		Name:  "domain",
		Usage: "decide under which domains a running server gives handles",
		Description: `What is changed holds from the next request on, without a restart.
PDS_SERVICE_HANDLE_DOMAINS names the domains that are there from the start.

` + whereHelp + `

` + statusHelp,
		Flags: o.flags(envFile),
		Commands: []*cli.Command{
			{
				Name: "list", Aliases: []string{"ls"},
				Usage:  "list the domains",
				Action: o.action("", 0, 0, listDomains),
			},
			{
				Name: "add", Aliases: []string{"update"}, ArgsUsage: "DOMAIN",
				Usage: "give handles under a domain, or change who may sign up there",
				Description: `DNS has to lead the names under it here, and the proxy needs a certificate for
them: handles are proven by https://HANDLE/.well-known/atproto-did.`,
				Flags: []cli.Flag{&cli.StringFlag{
					Name: "invites", Usage: "`WHO` may sign up: open (anybody), invite (who has a code) or closed (nobody); without it a new domain does as the server does",
				}},
				Action: o.action("one domain", 1, 1, addDomain),
			},
			{
				Name: "remove", Aliases: []string{"rm"}, ArgsUsage: "DOMAIN",
				Usage:       "give no more handles under a domain",
				Description: `Refused while accounts have handles there, because those would no longer resolve.`,
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "even if accounts lose their handles"}},
				Action:      o.action("one domain", 1, 1, removeDomain),
			},
		},
	}
}

func listDomains(ctx context.Context, con *console, _ *cli.Command) error {
	out, err := con.operator.ListDomains(ctx)
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(out)
	}
	return con.domainTable(out.Domains...)
}

func (con *console) domainTable(domains ...operatorapi.Domain) error {
	rows := make([][]string, len(domains))
	for i, d := range domains {
		from := "command"
		if d.Configured {
			from = "settings"
		}
		rows[i] = []string{d.Domain, d.InvitePolicy, strconv.FormatInt(d.Accounts, 10), from, when(d.AddedAt)}
	}
	return con.table("There are no domains.", "DOMAIN INVITES ACCOUNTS FROM CHANGED", rows)
}

func addDomain(ctx context.Context, con *console, c *cli.Command) error {
	in := &operatorapi.PutDomainInput{Domain: c.Args().First()}
	if who := c.String("invites"); who != "" {
		policies := []string{operatorapi.PutDomainInputInvitePolicyOpen, operatorapi.PutDomainInputInvitePolicyInvite, operatorapi.PutDomainInputInvitePolicyClosed}
		if !slices.Contains(policies, who) {
			return usage("--invites is open, invite or closed, not %q", who)
		}
		in.InvitePolicy = &who
	}
	out, err := con.operator.PutDomain(ctx, in)
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(out)
	}
	return con.domainTable(*out)
}

func removeDomain(ctx context.Context, con *console, c *cli.Command) error {
	name := c.Args().First()
	in := &operatorapi.RemoveDomainInput{Domain: name}
	if c.Bool("force") {
		in.Force = new(true)
	}
	err := con.operator.RemoveDomain(ctx, in)
	switch {
	case errors.Is(err, operatorapi.ErrRemoveDomainDomainNotFound):
		return fail(statusNotFound, "there is no domain %s", printable(name))
	case errors.Is(err, operatorapi.ErrRemoveDomainDomainInUse):
		refused, _ := errors.AsType[*xrpc.Error](err)
		return fail(statusRefused, "the server refused: %s (%s); --force removes it all the same", printable(refused.Message), refused.Name)
	case err != nil:
		return err
	}
	if con.json {
		return con.printJSON(struct {
			Domain string `json:"domain"`
		}{name})
	}
	return con.say("%s is removed.", printable(name))
}
