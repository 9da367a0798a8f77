package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// monitoringFiles are the files of deploy for those who watch a server, by what they are called
// here.
var monitoringFiles = []struct{ name, file, about string }{
	{"prometheus", "prometheus.yml", "what Prometheus has to know of the server"},
	{"alerts", "alerts.yml", "its rules of alerts, each with what to do about it"},
	{"dashboard", "grafana-dashboard.json", "a dashboard to import into Grafana"},
}

// monitoringCommand is "portico monitoring".
func monitoringCommand(stdout io.Writer) *cli.Command {
	names := make([]string, len(monitoringFiles))
	var list strings.Builder
	for i, f := range monitoringFiles {
		names[i] = f.name
		list.WriteString("  " + f.name + strings.Repeat(" ", 12-len(f.name)) + f.about + "\n")
	}
	return &cli.Command{
		Name:      "monitoring",
		Usage:     "print files for Prometheus and Grafana",
		ArgsUsage: strings.Join(names, "|"),
		Description: `Prints one of

` + list.String() + `
as it is, to be put where the other program looks for it. Needs no server and no settings.`,
		Action: func(_ context.Context, c *cli.Command) error {
			i := slices.Index(names, c.Args().First())
			if i < 0 || c.Args().Len() != 1 {
				return usage("monitoring takes one of %s", strings.Join(names, ", "))
			}
			text, err := deploy.ReadFile("deploy/" + monitoringFiles[i].file)
			if err != nil {
				return err
			}
			_, err = stdout.Write(text)
			return err
		},
	}
}
