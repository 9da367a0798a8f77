package main

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
)

func repoImportCommand(o operators, one string) *cli.Command {
	return &cli.Command{
		Name: "import", ArgsUsage: "ACCOUNT FILE",
		Usage: "put an archive (CAR) in the place of a repository",
		Description: `The archive is one of the account's own, as "repo export" and other servers write it;
all of it is checked before anything is changed. Records that it does not have go.
For an active account the server signs a commit over it and tells the network; one
that is deactivated keeps the commit as it is until it is activated.`,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}},
		Action: o.action(one+", and a file", 2, 2, importRepo),
	}
}

func importRepo(ctx context.Context, con *console, c *cli.Command) error {
	a, err := con.ready(ctx, c.Args().First())
	if err != nil {
		return err
	}
	file, err := os.Open(c.Args().Get(1))
	if err != nil {
		return err
	}
	defer file.Close()
	question := fmt.Sprintf("Put %s in the place of the repository of %s, which has %s records? [y/N] ", c.Args().Get(1), a.Handle, number(a.Records))
	if err := con.confirm(ctx, c.Bool("yes"), question, ""); err != nil {
		return err
	}
	body := xrpc.NewBody(file, "application/vnd.ipld.car")
	if err := con.patient().ImportRepo(ctx, &operatorapi.ImportRepoParams{DID: a.DID}, body); err != nil {
		return err
	}
	if a, err = con.find(ctx, a.DID.String()); err != nil {
		return err
	}
	if con.json {
		return con.printJSON(a)
	}
	return con.say("imported: the repository of %s has %s records", a.Handle, number(a.Records))
}
