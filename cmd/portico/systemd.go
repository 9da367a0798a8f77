package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"net/netip"
	"path"
	"regexp"
	"strings"

	"github.com/urfave/cli/v3"
)

// deploy has the files that an operator puts beside the server, each complete as it is.
//
//go:embed deploy
var deploy embed.FS

// What the unit in deploy has for what flags change.
const (
	unitBinary  = "/usr/local/bin/portico"
	unitEnvFile = "/etc/portico/portico.env"
	unitUser    = "portico"
	unitData    = "/var/lib/portico"
)

// sockets are the listeners that systemd may open for the server, by the names that it
// passes them with, and where each listens unless a flag says otherwise.
var sockets = map[string]string{"server": "127.0.0.1:2583", "metrics": "127.0.0.1:9100", "console": "127.0.0.1:9101"}

func systemdCommand(stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "systemd",
		Usage: "print a unit of systemd for the server",
		Description: `Prints a unit that starts the server at boot and again when it fails, watches it,
and lets it do no more than it has to:

  portico systemd > /etc/systemd/system/portico.service

With --socket it prints the unit of a socket instead, which systemd opens and
passes to the server, so that it is there while the server is not. The three
are "server", where it is asked, "metrics" and "console":

  portico systemd --socket server > /etc/systemd/system/portico.socket
  portico systemd --socket metrics > /etc/systemd/system/portico-metrics.socket

With --backup it prints the unit of what makes backups, every hour unless you
change the line:

  portico systemd --backup s3://BUCKET/portico > /etc/systemd/system/portico-backup.service

Nothing is asked, read or written.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "env-file", Usage: "the server's settings are in `FILE`", Value: unitEnvFile, TakesFile: true},
			&cli.StringFlag{Name: "user", Usage: "the server runs as `USER`", Value: unitUser},
			&cli.StringFlag{Name: "binary", Usage: "the program is `FILE`", Value: unitBinary, TakesFile: true},
			&cli.StringFlag{Name: "data", Usage: "the settings say that the data are in `FOLDER`", Value: unitData, TakesFile: true},
			&cli.StringFlag{Name: "socket", Usage: "print the unit of the socket `NAME`: server, metrics or console"},
			&cli.StringFlag{Name: "backup", Usage: "print the unit of backups to `PLACE` instead: a folder, or s3://BUCKET/PREFIX", TakesFile: true},
			&cli.StringFlag{Name: "listen", Usage: "the socket is at `ADDRESS`, such as 127.0.0.1:2583; it has to be that of the settings"},
		},
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage("systemd takes no arguments, not even %q", c.Args().First())
			}
			text, err := "", error(nil)
			if c.IsSet("socket") && c.IsSet("backup") {
				err = usage("--socket and --backup are two units")
			} else if c.IsSet("backup") && !c.IsSet("listen") {
				text, err = backupUnit(c.String("backup"), c.String("binary"), c.String("env-file"), c.String("user"), c.String("data"))
			} else if c.IsSet("socket") {
				text, err = socketUnit(c.String("socket"), c.String("listen"))
			} else if c.IsSet("listen") {
				err = usage("--listen goes with --socket: without it the settings say where the server listens")
			} else {
				text, err = serviceUnit(c.String("binary"), c.String("env-file"), c.String("user"), c.String("data"))
			}
			if err != nil {
				return err
			}
			_, err = io.WriteString(stdout, text)
			return err
		},
	}
}

// What of paths and users means nothing else in a unit: systemd replaces what begins with
// a percent or dollar sign, and takes text apart at blanks, quotes and backslashes.
var (
	plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._@+:,=-]*$`)
	plainUser = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
)

// serviceUnit is the unit of a server.
func serviceUnit(binary, envFile, user, data string) (string, error) {
	return unitOf("portico.service", binary, envFile, user, data)
}

// backupUnit is the unit of what makes backups to a place.
func backupUnit(place, binary, envFile, user, data string) (string, error) {
	folder, bucket := strings.HasPrefix(place, "/"), false
	if rest, ok := strings.CutPrefix(place, "s3:/"); ok {
		bucket = plainPath.MatchString(rest)
	}
	if !bucket && (!folder || !plainPath.MatchString(place)) {
		return "", usage("--backup: %q has to be the whole path of a folder, or s3://BUCKET/PREFIX, in letters, digits and . _ @ + : , = -", place)
	}
	unit, err := unitOf("portico-backup.service", binary, envFile, user, data)
	if err != nil {
		return "", err
	}
	unit = strings.Replace(unit, " --to s3://BUCKET/portico ", " --to "+place+" ", 1)
	if folder {
		unit = strings.Replace(unit, "UMask=0077\n", "# The backups.\nReadWritePaths="+path.Clean(place)+"\nUMask=0077\n", 1)
	}
	return unit, nil
}

// unitOf is a unit of deploy with other paths, and another user.
func unitOf(name, binary, envFile, user, data string) (string, error) {
	for flag, path := range map[string]string{"binary": binary, "env-file": envFile, "data": data} {
		if !plainPath.MatchString(path) {
			return "", usage("--%s: %q has to be the whole path, from / on, in letters, digits and . _ @ + : , = -", flag, path)
		}
	}
	if !plainUser.MatchString(user) {
		return "", usage("--user: %q is not the name of a user", user)
	}
	text, err := deploy.ReadFile("deploy/" + name)
	if err != nil {
		return "", err
	}
	storage := "ReadWritePaths=" + path.Clean(data)
	if name, ok := strings.CutPrefix(path.Clean(data), "/var/lib/"); ok {
		storage = "StateDirectory=" + name
	}
	unit := string(text)
	if !strings.HasPrefix(storage, "StateDirectory=") {
		unit = strings.Replace(unit, "StateDirectoryMode=0700\n", "", 1)
	}
	return strings.NewReplacer(
		"ExecStart="+unitBinary+" serve --env-file "+unitEnvFile+"\n", "ExecStart="+binary+" serve --env-file "+envFile+"\n",
		"ExecStart="+unitBinary+" backup", "ExecStart="+binary+" backup", " --env-file "+unitEnvFile+"\n", " --env-file "+envFile+"\n",
		"User="+unitUser+"\n", "User="+user+"\n",
		"# The data, in "+unitData+".\nStateDirectory=portico\n", "# The data, in "+path.Clean(data)+".\n"+storage+"\n",
	).Replace(unit), nil
}

// socketUnit is the unit of one of the server's sockets, at address or "" for the usual one.
func socketUnit(name, address string) (string, error) {
	usual, ok := sockets[name]
	if !ok {
		return "", usage("--socket: there is none called %q, but server, metrics and console", name)
	}
	if address == "" {
		address = usual
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil || at.Port() == 0 {
		return "", usage("--listen: %q is not an address with a port, such as %s", address, usual)
	}
	text, err := deploy.ReadFile("deploy/portico.socket")
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"--socket server", fmt.Sprintf("--socket %s", name),
		"(server)", fmt.Sprintf("(%s)", name),
		"FileDescriptorName=server\n", "FileDescriptorName="+name+"\n",
		"ListenStream="+sockets["server"]+"\n", fmt.Sprintf("ListenStream=%s\n", at),
	).Replace(string(text)), nil
}
