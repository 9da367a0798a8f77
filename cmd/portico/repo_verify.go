package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
)

// verifiedRepo is what is printed of a repository in JSON.
type verifiedRepo struct {
	DID syntax.DID `json:"did"`
	operatorapi.VerifyRepoOutput
}

// verifiedRepos is what is printed of all repositories in JSON.
type verifiedRepos struct {
	Repos   int64          `json:"repos"`
	Records int64          `json:"records"`
	Damaged []verifiedRepo `json:"damaged"`
}

func verifyRepos(ctx context.Context, con *console, c *cli.Command) error {
	if c.Bool("all") != (c.Args().Len() == 0) {
		return usage("repo verify takes one account: its DID, handle or email address, or --all")
	}
	if c.Bool("all") {
		return con.verifyAll(ctx)
	}
	a, err := con.find(ctx, c.Args().First())
	if err != nil {
		return err
	}
	out, err := con.patient().VerifyRepo(ctx, &operatorapi.VerifyRepoParams{DID: a.DID})
	if err != nil {
		return err
	}
	if con.json {
		return errors.Join(con.printJSON(verifiedRepo{a.DID, *out}), stillWrong(len(out.Findings)))
	}
	err = con.facts(
		"did", a.DID.String(),
		"commit", optional(out.Commit),
		"rev", optional(out.Rev),
		"records", number(&out.Records),
		"nodes", number(&out.Nodes),
	)
	if err == nil && len(out.Findings) > 0 {
		err = con.say("")
	}
	if err == nil && len(out.Findings) > 0 {
		err = con.findings("", out.Findings)
	}
	return errors.Join(err, stillWrong(len(out.Findings)))
}

// verifyAll goes through the repositories of all accounts but those under creation, one
// after the other.
func (con *console) verifyAll(ctx context.Context) error {
	all, wrong := verifiedRepos{Damaged: []verifiedRepo{}}, 0
	client := con.patient()
	var cursor *string
	for {
		page, err := con.operator.ListAccounts(ctx, &operatorapi.ListAccountsParams{Cursor: cursor, Limit: 500})
		if err != nil {
			return err
		}
		for _, a := range page.Accounts {
			if a.Status == operatorapi.AccountStatusCreating {
				continue
			}
			out, err := client.VerifyRepo(ctx, &operatorapi.VerifyRepoParams{DID: a.DID})
			if errors.Is(err, operatorapi.ErrVerifyRepoAccountNotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return fmt.Errorf("verify %s: %w", a.DID, err)
			}
			all.Repos++
			all.Records += out.Records
			if len(out.Findings) == 0 {
				continue
			}
			wrong += len(out.Findings)
			all.Damaged = append(all.Damaged, verifiedRepo{a.DID, *out})
			for _, f := range out.Findings {
				if con.json {
					break
				}
				if err := con.say("%s: %s: %s", a.DID, printable(f.Name), printable(f.Message)); err != nil {
					return err
				}
			}
		}
		if cursor = page.Cursor; cursor == nil {
			break
		}
	}
	var err error
	switch {
	case con.json:
		err = con.printJSON(all)
	case wrong == 0:
		err = con.say("%d repositories with %d records, all whole", all.Repos, all.Records)
	default:
		err = con.say("%d repositories with %d records, %d of them not whole", all.Repos, all.Records, len(all.Damaged))
	}
	return errors.Join(err, stillWrong(wrong))
}
