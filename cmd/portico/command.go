package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v3"
)

// newCommand is the portico command. Everything it says goes to stdout and
// stderr; its error is for the caller to print, and to end the process with the
// status that exitStatus tells.
func newCommand(environ []string, stdout, stderr io.Writer) *cli.Command {
	config := func(c *cli.Command) configuration {
		return configuration{Environ: environ, EnvFile: c.String("env-file"), Rand: rand.Reader, Now: time.Now}
	}
	envFile := &cli.StringFlag{
		Name:      "env-file",
		Usage:     "read settings from `FILE`, lines of NAME=value; the environment goes before it",
		TakesFile: true,
	}
	o := operators{config, stdout, stderr}
	codes := createInvites(o, "create-invite-code") // as pdsadmin calls it
	codes.Hidden, codes.Flags = true, append(codes.Flags, o.flags(envFile)...)
	root := &cli.Command{
		Name:      "portico",
		Usage:     "an account server for the AT Protocol",
		Version:   version(),
		Writer:    stdout,
		ErrWriter: stderr,
		Suggest:   true,
		// main prints errors and ends the process, no library in between.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Description: `"portico serve" starts the server. Without any settings that is a development
server on http://localhost:2583 which keeps its data in ./data; with
PDS_HOSTNAME set it is a server for the world and wants its secrets
configured. Settings are environment variables: "portico config" lists them.

The commands account, invite, domain, log and budget operate a server that runs, here
or elsewhere.

` + statusHelp + `
 78  settings are wrong or unsafe, see "portico serve --help"`,
		Commands: []*cli.Command{
			{
				Name:  "serve",
				Usage: "start the server",
				Description: `Runs until it gets SIGINT or SIGTERM, lets the requests at hand finish, and
ends; a second signal ends it at once. SIGHUP changes nothing: settings are read
at the start, and the log goes to standard error.

When settings are wrong or unsafe, or the database is not one for them, it does
not start, says everything that must be mended, and ends with 78. To start again
is of no use then, which a unit of systemd knows by RestartPreventExitStatus=78.`,
				Flags: []cli.Flag{envFile},
				Action: func(ctx context.Context, c *cli.Command) error {
					if c.Args().Present() {
						return usage("serve takes no arguments, not even %q", c.Args().First())
					}
					s, err := config(c).read()
					if err != nil {
						// A name that was mistyped is why another is missing.
						if s != nil {
							for _, warning := range s.Warnings {
								fmt.Fprintln(stderr, "warning:", warning)
							}
						}
						return err
					}
					return run(ctx, config(c), s, stdout)
				},
			},
			{
				Name:  "config",
				Usage: "print the settings and where each comes from",
				Description: `Prints what "portico serve" would start with, but no secrets, and fails when it
would not start. Nothing is written to disk.

These are the settings: environment variables, or lines of the file that
--env-file names. In brackets is what holds where one is not set.

` + settingsHelp(),
				Flags: []cli.Flag{
					envFile,
					&cli.BoolFlag{Name: "markdown", Usage: "print what each setting means instead, as a table in Markdown"},
				},
				Action: func(_ context.Context, c *cli.Command) error {
					if c.Bool("markdown") {
						_, err := io.WriteString(stdout, markdown())
						return err
					}
					s, err := config(c).read()
					if s == nil {
						return err
					}
					printed := s.print(stdout)
					for _, warning := range s.Warnings {
						fmt.Fprintln(stderr, "warning:", warning)
					}
					return errors.Join(printed, err)
				},
			},
			accountCommand(o, envFile),
			inviteCommand(o, envFile),
			domainCommand(o, envFile),
			logCommand(o, envFile),
			budgetCommand(o, envFile),
			mailCommand(config, envFile, stdout, stderr),
			backupCommand(config, envFile, stdout),
			{
				Name:  "version",
				Usage: "print the version",
				Action: func(context.Context, *cli.Command) error {
					_, err := fmt.Fprintln(stdout, version())
					return err
				},
			},
			codes,
		},
	}
	strict(root)
	return root
}

// strict makes wrong usage of c and the commands below it an error of one line.
func strict(c *cli.Command) {
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error {
		return usage("%w (see %s --help)", err, c.FullName())
	}
	if len(c.Commands) > 0 && c.Action == nil {
		c.Action = func(_ context.Context, c *cli.Command) error {
			if !c.Args().Present() && c == c.Root() {
				return cli.ShowRootCommandHelp(c)
			}
			if !c.Args().Present() {
				return cli.ShowSubcommandHelp(c)
			}
			hint := ""
			if name := cli.SuggestCommand(c.Commands, c.Args().First()); name != "" {
				hint = fmt.Sprintf("; there is %q", name)
			}
			return usage("there is no command %q%s (see %s --help)", c.FullName()+" "+c.Args().First(), hint, c.FullName())
		}
	}
	for _, sub := range c.Commands {
		strict(sub)
	}
}

// release is the version that the linker was told (make build).
var release string

// version is the version of this program, the revision it was built from when
// it has none, or "dev".
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return s.Value[:12]
			}
		}
	}
	return "dev"
}
