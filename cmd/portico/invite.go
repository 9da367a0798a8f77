package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	adminapi "portico/api/atproto/admin"
	api "portico/api/atproto/server"
)

// inviteCommand is "portico invite".
func inviteCommand(o operators, envFile cli.Flag) *cli.Command {
	return &cli.Command{
		Name:  "invite",
		Usage: "make, list and disable invite codes of a running server",
		Description: whereHelp + `

` + statusHelp,
		Flags: o.flags(envFile),
		Commands: []*cli.Command{
			createInvites(o, "create"),
			{
				Name: "list", Aliases: []string{"ls"},
				Usage: "list codes, the newest first",
				Flags: []cli.Flag{
					limitFlag(100), allFlag(), cursorFlag(),
					&cli.StringFlag{Name: "sort", Value: "recent", Usage: "`ORDER`: recent, or usage with the most used first"},
				},
				Action: o.action("", 0, 0, listInvites),
			},
			{
				Name: "disable", ArgsUsage: "[CODE...]",
				Usage:  "make codes useless",
				Flags:  []cli.Flag{&cli.StringSliceFlag{Name: "account", Usage: "all codes of an `ACCOUNT`"}},
				Action: o.action("codes", 0, 1000, disableInvites),
			},
		},
	}
}

// createInvites is the command that makes codes, under a name.
func createInvites(o operators, name string) *cli.Command {
	return &cli.Command{
		Name:  name,
		Usage: "make invite codes",
		Description: `Prints the codes, a line each, and on standard error the links at which people sign up
with them.`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "uses", Value: 1, Usage: "each lets in `N` accounts"},
			&cli.IntFlag{Name: "count", Value: 1, Usage: "make `N` codes"},
			&cli.StringFlag{Name: "for", Usage: "the `ACCOUNT` that they are given to; without it they are nobody's"},
		},
		Action: o.action("", 0, 0, func(ctx context.Context, con *console, c *cli.Command) error {
			if c.Int("uses") < 1 || c.Int("count") < 1 {
				return usage("--uses and --count must be at least 1")
			}
			in := &api.CreateInviteCodesInput{CodeCount: int64(c.Int("count")), UseCount: int64(c.Int("uses"))}
			if owner := c.String("for"); owner != "" {
				a, err := con.find(ctx, owner)
				if err != nil {
					return err
				}
				in.ForAccounts = []syntax.DID{a.DID}
			}
			out, err := con.asAdmin().CreateInviteCodes(ctx, in)
			if err != nil {
				return err
			}
			if con.json {
				return con.printJSON(out)
			}
			for _, owned := range out.Codes {
				for _, code := range owned.Codes {
					if err := con.say("%s", printable(code)); err != nil {
						return err
					}
				}
			}
			con.inviteLinks(ctx, out.Codes)
			return nil
		}),
	}
}

// inviteLinks tells a person where those whom they give a code can sign up with it. They are
// not among the output, which is codes alone.
func (con *console) inviteLinks(ctx context.Context, owned []api.CreateInviteCodesAccountCodes) {
	site, err := con.publicURL(ctx)
	if err != nil {
		return // the codes are of use all the same
	}
	fmt.Fprintln(con.errs, "Who is to have one can sign up at:")
	for _, o := range owned {
		for _, code := range o.Codes {
			fmt.Fprintf(con.errs, "  %s/invite/%s\n", site, printable(url.PathEscape(code)))
		}
	}
}

// publicURL is where the server is for everybody, which may not be where it is asked here.
func (con *console) publicURL(ctx context.Context) (string, error) {
	asked, err := url.Parse(con.target.host)
	if err != nil || asked.Scheme == "https" {
		return con.target.host, err
	}
	out, err := con.server.DescribeServer(ctx)
	if err != nil {
		return "", err
	}
	name, ok := strings.CutPrefix(out.DID.String(), "did:web:")
	switch {
	case !ok:
		return con.target.host, nil
	case name == "localhost":
		return "http://" + net.JoinHostPort(name, asked.Port()), nil
	}
	return "https://" + strings.ReplaceAll(name, "%3A", ":"), nil
}

// invites reads the codes of the server.
func (con *console) invites(ctx context.Context, from string, most int, order string) ([]api.InviteCode, *string, error) {
	return collect(from, most, 500, func(cursor *string, n int64) ([]api.InviteCode, *string, error) {
		out, err := con.admin.GetInviteCodes(ctx, &adminapi.GetInviteCodesParams{Sort: order, Limit: n, Cursor: cursor})
		if err != nil {
			return nil, nil, err
		}
		return out.Codes, out.Cursor, nil
	})
}

func listInvites(ctx context.Context, con *console, c *cli.Command) error {
	most, err := limit(c)
	if err != nil {
		return err
	}
	order := c.String("sort")
	if order != adminapi.GetInviteCodesParamsSortRecent && order != adminapi.GetInviteCodesParamsSortUsage {
		return usage("--sort is recent or usage, not %q", order)
	}
	codes, next, err := con.invites(ctx, c.String("cursor"), most, order)
	if err != nil {
		return err
	}
	if con.json {
		out := &adminapi.GetInviteCodesOutput{Codes: codes, Cursor: next}
		out.Normalize()
		return con.printJSON(out)
	}
	if err := con.inviteTable(codes); err != nil {
		return err
	}
	con.more(next)
	return nil
}

func (con *console) inviteTable(codes []api.InviteCode) error {
	rows := make([][]string, len(codes))
	for i, code := range codes {
		state := "usable"
		switch {
		case code.Disabled:
			state = "disabled"
		case int64(len(code.Uses)) >= code.Available:
			state = "used up"
		}
		rows[i] = []string{
			code.Code, fmt.Sprintf("%d/%d", len(code.Uses), code.Available), state, code.ForAccount, code.CreatedBy, when(&code.CreatedAt),
		}
	}
	return con.table("There are no invite codes.", "CODE USED STATE FOR BY CREATED", rows)
}

// disabledInvites is what invite disable prints.
type disabledInvites struct {
	Codes []string `json:"codes"`
}

func disableInvites(ctx context.Context, con *console, c *cli.Command) error {
	codes, in := c.Args().Slice(), &adminapi.DisableInviteCodesInput{}
	if len(codes) == 0 && len(c.StringSlice("account")) == 0 {
		return usage("invite disable takes codes, or --account")
	}
	ended := disabledInvites{Codes: []string{}}
	if len(codes) > 0 {
		// The method is content with any text; who mistypes a code wants to know.
		known, _, err := con.invites(ctx, "", 0, adminapi.GetInviteCodesParamsSortRecent)
		if err != nil {
			return err
		}
		unknown := slices.DeleteFunc(slices.Clone(codes), func(text string) bool {
			return slices.ContainsFunc(known, func(code api.InviteCode) bool { return code.Code == text })
		})
		if len(unknown) > 0 {
			return fail(statusNotFound, "there is no invite code %s: nothing was done", printable(strings.Join(unknown, ", ")))
		}
		in.Codes, ended.Codes = codes, append(ended.Codes, codes...)
	}
	for _, owner := range c.StringSlice("account") {
		a, err := con.find(ctx, owner)
		if err != nil {
			return err
		}
		info, err := con.admin.GetAccountInfo(ctx, &adminapi.GetAccountInfoParams{DID: a.DID})
		if err != nil {
			return err
		}
		for _, code := range info.Invites {
			if !code.Disabled && !slices.Contains(ended.Codes, code.Code) {
				ended.Codes = append(ended.Codes, code.Code)
			}
		}
		in.Accounts = append(in.Accounts, a.DID.String())
	}
	if err := con.admin.DisableInviteCodes(ctx, in); err != nil {
		return err
	}
	if con.json {
		return con.printJSON(ended)
	}
	for _, code := range ended.Codes {
		if err := con.say("%s is disabled.", printable(code)); err != nil {
			return err
		}
	}
	if len(ended.Codes) == 0 {
		return con.say("There was no code to disable.")
	}
	return nil
}
