package main

import (
	"context"

	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
)

// moveHostCommand is "portico move-host".
func moveHostCommand(o operators, envFile cli.Flag) *cli.Command {
	return &cli.Command{
		Name:      "move-host",
		Usage:     "give a running server another host name, and its accounts with it",
		ArgsUsage: "[NEW]",
		Description: `With NEW it begins: https://NEW has to lead to this server already, with a
certificate, and its handles as those of the old name do (*.NEW). From then on the
DIDs of all accounts are changed in the background, at PORTICO_PLC_RATE: NEW becomes
their server, and a handle under the old name one under NEW. Both names answer, old
handles go on to resolve, and new accounts get handles under NEW.

When all is moved, or before, --switch makes the server go by NEW: set PDS_HOSTNAME
to it and restart (and PDS_SERVICE_DID and PDS_SERVICE_HANDLE_DOMAINS, where they
have the old name). Tokens for either name are good until --finish.

--undo turns all back, until --finish. That is refused while DIDs wait. DIDs that
this server cannot change (did_web, no_key, refused) are listed by --status; with
--finish --accept-left their owners are told by mail, and the old name goes on to
serve them: do not give it up then.

` + whereHelp + `

` + statusHelp,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "status", Usage: "say how far it is, and which DIDs were left"},
			limitFlag(100), allFlag(), cursorFlag(),
			&cli.BoolFlag{Name: "switch", Usage: "make the server go by the new name"},
			&cli.BoolFlag{Name: "retry", Usage: "look again at the DIDs that were left"},
			&cli.BoolFlag{Name: "undo", Usage: "turn all back"},
			&cli.BoolFlag{Name: "finish", Usage: "leave the old name"},
			&cli.BoolFlag{Name: "accept-left", Usage: "with --finish: the DIDs that were left stay under the old name"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
		}, o.flags(envFile)...),
		Action: o.moveHost,
	}
}

// moveHost does what the arguments of move-host say.
func (o operators) moveHost(ctx context.Context, c *cli.Command) error {
	var asked []string
	for _, name := range []string{"status", "switch", "retry", "undo", "finish"} {
		if c.Bool(name) {
			asked = append(asked, name)
		}
	}
	switch {
	case len(asked) > 1:
		return usage("--%s and --%s do not go together", asked[0], asked[1])
	case c.Bool("accept-left") && !c.Bool("finish"):
		return usage("--accept-left goes with --finish")
	case len(asked) == 0:
		return o.action("NEW", 1, 1, beginMoveHost)(ctx, c)
	}
	do := map[string]func(context.Context, *console, *cli.Command) error{
		"status": showMove,
		"switch": updateMove(operatorapi.UpdateMoveInputActionSwitch, "Make the server go by the new name? It has to be restarted with it. [y/N] "),
		"retry":  updateMove(operatorapi.UpdateMoveInputActionRetry, ""),
		"undo":   updateMove(operatorapi.UpdateMoveInputActionUndo, "Turn all DIDs and handles back to the old name? [y/N] "),
		"finish": updateMove(operatorapi.UpdateMoveInputActionFinish, "Leave the old name? Tokens for it are good for nothing then. [y/N] "),
	}[asked[0]]
	return o.action("", 0, 0, do)(ctx, c)
}

func beginMoveHost(ctx context.Context, con *console, c *cli.Command) error {
	to := c.Args().First()
	question := "Give this server the name " + to + ", and change the DIDs of all accounts? [y/N] "
	if err := con.confirm(ctx, c.Bool("yes"), question, ""); err != nil {
		return err
	}
	m, err := con.operator.StartMove(ctx, &operatorapi.StartMoveInput{Kind: operatorapi.StartMoveInputKindHost, To: to})
	if err != nil {
		return err
	}
	return con.showMoveOf(m)
}

// sayOfHost says what the operator is to do next.
func (con *console) sayOfHost(m *operatorapi.Move) error {
	switch {
	case m.Phase == "undoing" || m.Phase == "undone":
		return con.say("Set PDS_HOSTNAME to %s and restart, where that is not so.", m.From)
	case m.Phase == "finished" && m.Left > 0:
		return con.say("Keep %s for the DIDs that were left with it.", m.From)
	case m.Phase == "finished":
		return con.say("%s is not needed any more.", m.From)
	case m.SwitchedAt != nil:
		return con.say("Set PDS_HOSTNAME to %s and restart, where that is not so. Then, when nothing waits: portico move-host --finish", m.To)
	case m.Phase == "moved":
		return con.say("Go on with: portico move-host --switch")
	}
	return nil
}
