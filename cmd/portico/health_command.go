package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/urfave/cli/v3"
)

// healthCommand asks whether the server of the settings is well. It is for scripts, and for
// containers, in which there is no curl.
func healthCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "health",
		Usage: "say whether the server on this machine is well",
		Description: `Asks the server where the settings say that it listens, and prints its version
when it is well. It is not when its database does not answer or takes no writes.

Ends with
  0  it is well
  1  it is not
  5  no server answered within 5 seconds`,
		Flags: []cli.Flag{envFile},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage("health takes no arguments, not even %q", c.Args().First())
			}
			s, err := config(c).read()
			if err != nil {
				return err
			}
			version, err := askHealth(ctx, s.localURL())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(stdout, version)
			return err
		},
	}
}

// askHealth is the version of the server at url, which is well.
func askHealth(ctx context.Context, url string) (version string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/xrpc/_health", nil)
	if err != nil {
		return "", err
	}
	// No proxy of the environment leads to this machine.
	client := &http.Client{Timeout: healthTimeout, Transport: new(http.Transport)}
	response, err := client.Do(request)
	if err != nil {
		return "", fail(statusUnreachable, "no server answered: %w", err)
	}
	defer response.Body.Close()
	var said struct{ Version, Error string }
	if err := json.NewDecoder(io.LimitReader(response.Body, 4096)).Decode(&said); err != nil || said.Version == "" {
		return "", fmt.Errorf("what answers at %s is no account server (%s)", url, response.Status)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the server answers, and is not well (%s): its log says why", response.Status)
	}
	return said.Version, nil
}
