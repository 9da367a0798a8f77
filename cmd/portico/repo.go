package main

import (
	"github.com/urfave/cli/v3"
)

// repoCommand is "portico repo".
func repoCommand(o operators, envFile cli.Flag) *cli.Command {
	const one = "one account: its DID, handle or email address"
	return &cli.Command{
		Name:  "repo",
		Usage: "look after the repositories of a running server",
		Description: `ACCOUNT is a DID, a handle or an email address.

` + whereHelp + `

` + statusHelp,
		Flags: o.flags(envFile),
		Commands: []*cli.Command{
			repoExportCommand(o, one),
			repoStatCommand(o, one),
			repoImportCommand(o, one),
			{
				Name: "verify", ArgsUsage: "[ACCOUNT]",
				Usage: "go through a repository, and say what is wrong with it",
				Description: `Hashes every node and every record, checks the signature, and compares what the
server keeps beside them with what they say. "account repair" mends what can be
mended. With --all it goes through the repositories of all accounts, and lists those
that are not whole. Ends with 1 when something is wrong.`,
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "of every account"}},
				Action: o.action(one+", or --all", 0, 1, verifyRepos),
			},
		},
	}
}
