package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/account"
)

const (
	rotationKeyName    = "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"
	oldRotationKeyName = "PORTICO_PLC_ROTATION_KEY_OLD"
	// newRotationKeyFile is where a new key is put, in the data directory.
	newRotationKeyFile = "rotation-key.env"
)

// keysCommand is "portico keys".
func keysCommand(o operators, envFile cli.Flag) *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "give the accounts of a running server another rotation key",
		Description: whereHelp + `

` + statusHelp,
		Flags: o.flags(envFile),
		Commands: []*cli.Command{{
			Name:  "rotate-plc",
			Usage: "make a new rotation key, and move the DIDs of all accounts to it",
			Description: `Without options it makes a key, on the machine of the server, and says what to do:
back the key up, put the two lines of its file into the settings, restart, and
confirm the key by its fingerprint. From then on the server gives it to all DIDs
in the background, beside the old key, at PORTICO_PLC_RATE.

Until --finish the old key stays in every DID: with it, and a backup from before,
everything can be as it was, and --undo takes the new key out again. A DID that
has five keys, the most there can be, keeps the old one until then and gets the
new one in its place. --finish is refused until 72 hours after the last DID was
changed. When it is through, ` + oldRotationKeyName + ` can be taken out of the settings.

DIDs that this server cannot or should not change are left as they are, and
listed: did_web (only the owner can), no_key (the owner has taken the server's
key out), elsewhere (the account lives on another server), tombstoned and
not_found. While a move is unfinished nothing is deleted for good.`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "out", Usage: "write the new key into `FILE`; without it " + newRotationKeyFile + " in the data directory"},
				&cli.StringFlag{Name: "confirm", Usage: "begin: the new key is the one with this `FINGERPRINT`, and it is backed up"},
				&cli.BoolFlag{Name: "status", Usage: "say how far it is, and which DIDs were left"},
				limitFlag(100), allFlag(), cursorFlag(),
				&cli.BoolFlag{Name: "retry", Usage: "look again at the DIDs that were left"},
				&cli.BoolFlag{Name: "undo", Usage: "take the new key out of all DIDs again"},
				&cli.BoolFlag{Name: "finish", Usage: "take the old key out of all DIDs"},
				&cli.BoolFlag{Name: "accept-left", Usage: "with --finish: the DIDs that were left may stay as they are"},
				&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			},
			Action: o.rotate,
		}},
	}
}

// rotate does what the flags of rotate-plc say.
func (o operators) rotate(ctx context.Context, c *cli.Command) error {
	var asked []string
	for _, name := range []string{"out", "confirm", "status", "retry", "undo", "finish"} {
		if c.IsSet(name) {
			asked = append(asked, name)
		}
	}
	if len(asked) > 1 {
		return usage("--%s and --%s do not go together", asked[0], asked[1])
	}
	if c.Bool("accept-left") && !c.Bool("finish") {
		return usage("--accept-left goes with --finish")
	}
	switch {
	case c.IsSet("confirm"):
		return o.action("", 0, 0, confirmRotation)(ctx, c)
	case c.Bool("status"):
		return o.action("", 0, 0, showMove)(ctx, c)
	case c.Bool("retry"):
		return o.action("", 0, 0, updateMove(operatorapi.UpdateMoveInputActionRetry, ""))(ctx, c)
	case c.Bool("undo"):
		return o.action("", 0, 0, updateMove(operatorapi.UpdateMoveInputActionUndo, "Take the new key out of all DIDs again? [y/N] "))(ctx, c)
	case c.Bool("finish"):
		return o.action("", 0, 0, updateMove(operatorapi.UpdateMoveInputActionFinish,
			"Take the old key out of all DIDs? A backup from before is of no use for them then. [y/N] "))(ctx, c)
	}
	return o.makeRotationKey(c)
}

// newRotation is what makeRotationKey says to a script.
type newRotation struct {
	File           string `json:"file"`
	Fingerprint    string `json:"fingerprint"`
	Key            string `json:"key"` // did:key
	OldFingerprint string `json:"oldFingerprint"`
	OldKey         string `json:"oldKey"`
}

// makeRotationKey writes a new rotation key into a file, so that it is there before any DID
// has it. Nothing secret is printed.
func (o operators) makeRotationKey(c *cli.Command) error {
	if c.Args().Present() {
		return usage("keys rotate-plc takes no arguments, not even %q", c.Args().First())
	}
	config := o.config(c)
	s, err := config.read()
	if err := unusable(s, err); err != nil {
		return &failure{statusUsage, err}
	}
	if s.OldRotationKey != nil {
		return fail(statusRefused, "%s is set already: finish that rotation first (--status says how far it is), and take the line out", oldRotationKeyName)
	}
	old, err := s.keptRotationKey()
	if err != nil {
		return err
	}
	text, err := newSecret(rotationKeyName, config.Rand)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	made := newRotation{File: c.String("out")}
	if made.File == "" {
		made.File = filepath.Join(s.DataDirectory, newRotationKeyFile)
	}
	if made.Key, err = didKeyOf(text); err != nil {
		return err
	}
	if made.OldKey, err = didKeyOf(old); err != nil {
		return err
	}
	made.Fingerprint, made.OldFingerprint = account.KeyFingerprint(made.Key), account.KeyFingerprint(made.OldKey)
	if err := writeRotation(made, text, old, config.Now()); err != nil {
		return err
	}
	con := &console{out: o.out, errs: o.errs, json: c.Bool("json")}
	if con.json {
		return con.printJSON(made)
	}
	return con.say(`The new rotation key is in %[1]s, with the old one. Its fingerprint is %[2]s.

  1. Copy that file to where the backups of your secrets are.
  2. Put its two lines into the settings of the server, on all machines that it runs
     on, in the place of the line %[3]s.
  3. Restart the server.
  4. portico keys rotate-plc --confirm %[2]s

Until the last step no DID is changed.`, made.File, made.Fingerprint, rotationKeyName)
}

func writeRotation(made newRotation, key, old string, now time.Time) error {
	lines := fmt.Sprintf("# Rotation keys, made %s: the new one, with the fingerprint %s,\n# and the old one, %s. Keep a copy in a safe place.\n%s=%s\n%s=%s\n",
		now.UTC().Format(time.DateOnly), made.Fingerprint, made.OldFingerprint, rotationKeyName, key, oldRotationKeyName, old)
	err := writeDurably(made.File, lines)
	if errors.Is(err, fs.ErrExist) {
		return fail(statusRefused, "%s is there already, with a key that may be in use: name another with --out", made.File)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(made.File))
	}
	if err != nil {
		return fmt.Errorf("write the new key: %w", errors.Join(err, removeIfThere(made.File)))
	}
	return nil
}

// didKeyOf is the did:key of a private key in hex.
func didKeyOf(text string) (string, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("rotation key: %w", err)
	}
	key, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		return "", fmt.Errorf("rotation key: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return "", fmt.Errorf("rotation key: %w", err)
	}
	return public.DIDKey(), nil
}

// keptRotationKey is the rotation key in hex, from the settings or the secrets file, which
// is not made here.
func (s *settings) keptRotationKey() (string, error) {
	if s.RotationKey != nil {
		return hex.EncodeToString(s.RotationKey.Bytes()), nil
	}
	const hint = "name the server's settings with --env-file, and run this where it was started"
	if !slices.Contains(s.fromFile(), rotationKeyName) {
		return "", usage("the rotation key is not known: %s", hint)
	}
	path := filepath.Join(s.DataDirectory, secretsName)
	secrets, err := readSecrets(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && secrets[rotationKeyName] == "" {
		return "", usage("the rotation key is not known: it is not in %s; %s", path, hint)
	}
	if err != nil {
		return "", fmt.Errorf("read secrets: %w", err)
	}
	return secrets[rotationKeyName], nil
}

func confirmRotation(ctx context.Context, con *console, c *cli.Command) error {
	question := "Give the key " + c.String("confirm") + " to all DIDs? It has to be backed up: whoever loses it can no longer change them. [y/N] "
	if err := con.confirm(ctx, c.Bool("yes"), question, ""); err != nil {
		return err
	}
	m, err := con.operator.StartMove(ctx, &operatorapi.StartMoveInput{Kind: operatorapi.StartMoveInputKindKey, To: c.String("confirm")})
	if err != nil {
		return err
	}
	return con.showMoveOf(m)
}

// updateMove has the move go on otherwise, after a question unless that is empty.
func updateMove(action, question string) func(context.Context, *console, *cli.Command) error {
	return func(ctx context.Context, con *console, c *cli.Command) error {
		if question != "" {
			if err := con.confirm(ctx, c.Bool("yes"), question, ""); err != nil {
				return err
			}
		}
		in := &operatorapi.UpdateMoveInput{Action: action}
		if c.Bool("accept-left") {
			in.AcceptLeft = new(true)
		}
		m, err := con.operator.UpdateMove(ctx, in)
		if err != nil {
			return err
		}
		return con.showMoveOf(m)
	}
}

func (con *console) showMoveOf(m *operatorapi.Move) error {
	if con.json {
		return con.printJSON(m)
	}
	return con.moveFacts(m)
}

// showMove says how far the move is, and which DIDs were left.
func showMove(ctx context.Context, con *console, c *cli.Command) error {
	var out *operatorapi.GetMoveOutput
	most, err := limit(c)
	if err != nil {
		return err
	}
	dids, next, err := collect(c.String("cursor"), most, 500, func(cursor *string, n int64) ([]operatorapi.MovedDID, *string, error) {
		page, err := con.operator.GetMove(ctx, &operatorapi.GetMoveParams{Cursor: cursor, Limit: n})
		if err != nil {
			return nil, nil, err
		}
		out = page
		return page.DIDs, page.Cursor, nil
	})
	if err != nil {
		return err
	}
	out.DIDs, out.Cursor = dids, next
	if con.json {
		return con.printJSON(out)
	}
	if out == nil || out.Move == nil {
		return con.say("There was no move of all DIDs yet. The rotation key of the server has the fingerprint %s.", strings.Join(out.RotationKeys[:1], ""))
	}
	if err := con.moveFacts(out.Move); err != nil {
		return err
	}
	if out.Standstill != nil {
		if err := con.say("Deletions and clean-ups stand still: %s.", *out.Standstill); err != nil {
			return err
		}
	}
	if len(dids) == 0 {
		return nil
	}
	rows := make([][]string, len(dids))
	for i, d := range dids {
		rows[i] = []string{d.DID.String(), xrpc.ValueOf(d.Reason)}
	}
	if err := con.table("", "LEFT BECAUSE", rows); err != nil {
		return err
	}
	if next != nil {
		return con.say("There are more: --all, or --cursor %s", *next)
	}
	return nil
}

func (con *console) moveFacts(m *operatorapi.Move) error {
	from, to := m.From, m.To
	if m.Kind == operatorapi.StartMoveInputKindKey {
		from, to = account.KeyFingerprint(from), account.KeyFingerprint(to)
	}
	if err := con.facts(
		"move", "of all DIDs to another "+m.Kind, "from", from, "to", to, "phase", m.Phase+", since "+when(&m.PhaseAt),
		"waiting", strconv.FormatInt(m.Waiting, 10), "done", strconv.FormatInt(m.Done, 10), "left", strconv.FormatInt(m.Left, 10),
		"last change", when(m.LastAt), "switched", when(m.SwitchedAt), "can be finished", when(m.FinishableAt),
	); err != nil {
		return err
	}
	switch {
	case m.Kind == operatorapi.StartMoveInputKindHost:
		return con.sayOfHost(m)
	case m.Phase == "finished" && m.Left == 0:
		return con.say("%s can be taken out of the settings now.", oldRotationKeyName)
	case m.Phase == "finished":
		return con.say("%s can be taken out of the settings now, but for the DIDs that were left with it.", oldRotationKeyName)
	case m.Phase == "undone":
		return con.say("Set %s back to the old key now, and take %s out of the settings.", rotationKeyName, oldRotationKeyName)
	}
	return nil
}
