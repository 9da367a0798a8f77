package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"portico/impl/handover"
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

		EnableShellCompletion: true,
		ConfigureShellCompletionCommand: func(c *cli.Command) {
			c.Hidden, c.Usage = false, "print a script that completes commands and flags in a shell"
		},
		HideHelpCommand: true, // it forgets the second of two names
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
ends; a second signal ends it at once. SIGHUP opens PORTICO_LOG_FILE anew and reads
the file of --env-file again: most settings are taken up, the log says which need a
restart, and where anything is wrong nothing changes. With SIGUSR2 it hands over to
the program that is at its path by now, see "portico handover": as a unit of systemd
with Type=notify, or with --handover. Elsewhere, whoever has started the server
may take the end of that process for the end of the server.

When settings are wrong or unsafe, or the database is not one for them, it does
not start, says everything that must be mended, and ends with 78. To start again
is of no use then, which a unit of systemd knows by RestartPreventExitStatus=78.`,
				Flags: []cli.Flag{envFile, &cli.BoolFlag{Name: "handover", Usage: "hand over without systemd too: nobody waits for the end of this very process"}},
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
						handover.Refuse(err)
						return err
					}
					if !s.Profiling {
						runtime.MemProfileRate = 0 // nobody could look at what it costs to note
					}
					how := config(c)
					how.MayEnd = c.Bool("handover")
					return run(ctx, how, s, stdout)
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
					envFile, jsonFlag(),
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
					if c.Bool("json") {
						out := struct {
							Settings []shownSetting `json:"settings"`
							Warnings []string       `json:"warnings"`
						}{s.shown(), append([]string{}, s.Warnings...)}
						return errors.Join((&console{out: stdout}).printJSON(out), err)
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
			keysCommand(o, envFile),
			moveHostCommand(o, envFile),
			repoCommand(o, envFile),
			blobCommand(o, envFile),
			logCommand(o, envFile),
			budgetCommand(o, envFile),
			doctorCommand(config, envFile, stdout),
			mailCommand(config, envFile, stdout, stderr),
			backupCommand(config, envFile, stdout, stderr),
			restoreCommand(config, envFile, stdout),
			upgradeCheckCommand(config, envFile, stdout, stderr),
			exportCommand(config, envFile, stdout),
			handoverCommand(config, envFile, stdout),
			adoptCommand(config, envFile, stdout, stderr),
			routesCommand(stdout),
			systemdCommand(stdout),
			manCommand(stdout),
			monitoringCommand(stdout),
			healthCommand(config, envFile, stdout),
			{
				Name:  "version",
				Usage: "print the version",
				Action: func(context.Context, *cli.Command) error {
					_, err := fmt.Fprintln(stdout, version())
					return err
				},
			},
			{
				Name: "help", Aliases: []string{"h"}, ArgsUsage: "[COMMAND...]",
				Usage: "say what a command does",
				Action: func(_ context.Context, c *cli.Command) error {
					asked := c.Root()
					for _, name := range c.Args().Slice() {
						sub := asked.Command(name)
						if sub == nil {
							return noCommand(asked, name)
						}
						asked = sub
					}
					// Of another run: this one has the help command as what was asked for.
					root := newCommand(environ, stdout, stderr)
					return root.Run(context.Background(), append(append([]string{root.Name}, c.Args().Slice()...), "--help"))
				},
			},
			codes,
		},
	}
	strict(root)
	return root
}

// elsewhere are names that people look for, with what does it here.
var elsewhere = map[string]string{
	"portico check":          `"portico doctor" looks at all of a server, "portico config" checks the settings`,
	"portico start":          `"portico serve" starts the server`,
	"portico run":            `"portico serve" starts the server`,
	"portico unit":           `"portico systemd" prints a unit of systemd`,
	"portico stop":           `the server ends when it gets SIGTERM`,
	"portico settings":       `"portico config" prints the settings`,
	"portico create-account": `"portico account create" makes an account`,
	"portico user":           `"portico account" looks after accounts`,
	"portico users":          `"portico account" looks after accounts`,
	"portico admin":          `"portico account", "invite", "domain" and "log" operate a server`,
	"portico methods":        `"portico routes" lists what is served`,
	"portico outbox":         `"portico mail" shows the outbox`,
	"portico update":         `a newer binary is an update, and "portico upgrade-check" tries what its first start does to the database`,
	"portico upgrade":        `a newer binary is an upgrade, and "portico upgrade-check" tries what its first start does to the database`,
	"portico migrate":        `the first start of a newer binary brings the database up to date, "portico upgrade-check" tries it on a copy`,
	"portico request-crawl":  `there is no repository for relays to read yet`,
}

// noCommand is the error of a command of c that there is not.
func noCommand(c *cli.Command, name string) error {
	hint := ""
	if meant := suggestion(c, name); meant != "" {
		hint = "; " + meant
	}
	return usage("there is no command %q%s (see %s --help)", c.FullName()+" "+name, hint, c.FullName())
}

// suggestion is what somebody may have meant with a command of c that there is not.
func suggestion(c *cli.Command, name string) string {
	if known := elsewhere[c.FullName()+" "+name]; known != "" {
		return known
	}
	near, least := "", 3
	for _, sub := range c.Commands {
		for _, known := range sub.Names() {
			if d := distance(name, known); !sub.Hidden && d < least && 2*d < len(known) {
				near, least = sub.Name, d
			}
		}
	}
	if near == "" {
		return ""
	}
	return fmt.Sprintf("there is %q", near)
}

var unknownFlag = regexp.MustCompile(`^flag provided but not defined: -+(.+)$`)

// flagSuggestion is where a flag goes that c has not, or what it may have been meant for.
func flagSuggestion(c *cli.Command, err error) string {
	match := unknownFlag.FindStringSubmatch(err.Error())
	if match == nil {
		return ""
	}
	name, _, _ := strings.Cut(match[1], "=")
	var behind []string
	for _, sub := range c.Commands {
		if !sub.Hidden && hasFlag(sub, name) {
			behind = append(behind, sub.FullName())
		}
	}
	if len(behind) > 0 {
		return fmt.Sprintf("; it goes behind a command that has it: %s", strings.Join(behind, ", "))
	}
	near, least := "", 3
	for _, owner := range c.Lineage() {
		for _, f := range owner.Flags {
			for _, known := range f.Names() {
				if d := distance(name, known); d < least && 2*d < len(known) {
					near, least = known, d
				}
			}
		}
	}
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; there is --%s", near)
}

// hasFlag says whether c or a command below it has a flag.
func hasFlag(c *cli.Command, name string) bool {
	return slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) ||
		slices.ContainsFunc(c.Commands, func(sub *cli.Command) bool { return hasFlag(sub, name) })
}

// strict makes wrong usage of c and the commands below it an error of one line.
func strict(c *cli.Command) {
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error {
		return usage("%w%s (see %s --help)", err, flagSuggestion(c, err), c.FullName())
	}
	if len(c.Commands) > 0 && c.Action == nil {
		c.Action = func(_ context.Context, c *cli.Command) error {
			if !c.Args().Present() && c == c.Root() {
				return cli.ShowRootCommandHelp(c)
			}
			if !c.Args().Present() {
				return cli.ShowSubcommandHelp(c)
			}
			return noCommand(c, c.Args().First())
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
