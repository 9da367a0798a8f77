package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/urfave/cli/v3"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account/move"
	"portico/impl/account/token"
	"portico/impl/keyring"
	"portico/impl/reference/export"
)

// exportCommand is "portico export".
func exportCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "write everything as the data directory of a reference PDS",
		Description: `Writes DIRECTORY, which must not be there, so that a reference PDS (0.4.173 to 0.5.35)
goes on with it in the place of this server: accounts, repositories with their commits as
they are, blobs, preferences, invites, signing keys, events with their numbers, and a
pds.env with the settings and secrets. Whoever reads it can be the server.

Stop the server first: an account is written as it is at one moment, and what is written
to it afterwards is missing. Beside a running server the directory is good for a look
only. It has its name when all of it is there.

The reference knows passwords, app passwords and sessions as it stored them itself. Those
of an adopted server come along, also when they were used here, until "portico adopt
--finish" or until they were changed; others do not, and who had them asks for a reset of
the password. Second factors, phone numbers, codes that were mailed, mails that wait,
budgets and the audit log stay behind. What was left out is told, and of which accounts.

While the DIDs move to another rotation key or host name (portico keys rotate-plc, portico
move-host) nothing is exported: the reference has one key and one name, and some of the
DIDs the other. Finish the move, or undo it. Where that cannot be, --unfinished-move goes
on all the same; pds.env has the key then that is in all DIDs.

Blobs in a folder are copied, and share their bytes with the copies where the file system
can have that; blobs in a bucket stay there. pds.env names the path of DIRECTORY: change
it there when you move the directory, to /pds for the reference's image.

Settings are found as "portico serve" finds them.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reference", Usage: "write the data directory of a reference PDS to `DIRECTORY`", TakesFile: true},
			&cli.BoolFlag{Name: "unfinished-move", Usage: "go on although the DIDs are moving to another rotation key or host name"},
			envFile, jsonFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() || c.String("reference") == "" {
				return usage("export takes --reference and the directory to write")
			}
			r, err := config(c).exportReference(ctx, c.String("reference"), c.Bool("unfinished-move"))
			if ctx.Err() != nil && err != nil {
				return errors.New("interrupted: there is no directory")
			}
			if err != nil {
				return err
			}
			con := &console{out: stdout}
			if c.Bool("json") {
				return con.printJSON(r)
			}
			return con.say("%s", r.text())
		},
	}
}

// exportedDirectory says what was written and where.
type exportedDirectory struct {
	Directory string `json:"directory"`
	*export.Report
}

// exportReference writes the data directory of a reference PDS to folder, also while DIDs
// move if moving. After an error there is nothing of it.
func (c configuration) exportReference(ctx context.Context, folder string, moving bool) (_ *exportedDirectory, err error) {
	s, err := c.read()
	if err != nil {
		return nil, err
	}
	if file := s.databaseFile(); file != "" && !exists(file) {
		return nil, fmt.Errorf("there is nothing to export: %s does not exist", file)
	}
	if err := c.fill(s); err != nil {
		return nil, err
	}
	store, err := db.Open(ctx, db.Config{
		URL: string(s.DatabaseURL), Pooled: s.DatabasePooled, Dir: s.DataDirectory, ReadOnly: true, MaxConns: 2, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	x := &export.Export{
		DB: store, Tokens: &token.Issuer{Secret: []byte(s.JWTSecret), ServiceDID: s.ServiceDID.String(), Now: c.Now, Rand: c.Rand}, Now: c.Now,
	}
	if x.Keys, err = readKeys(ctx, s, store); err != nil {
		return nil, err
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return nil, err
	}
	if s.BlobBucket.Bucket == "" {
		if x.Blobs, err = s.openBlobFolder(); err != nil {
			return nil, err
		}
	}
	rotation, err := s.exportedRotationKey(ctx, store, moving)
	if err != nil {
		return nil, err
	}
	lines, err := c.referenceSettings(ctx, s, store, folder, rotation)
	if err != nil {
		return nil, err
	}
	x.Target, err = reference.Create(ctx, folder, c.Now())
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: name a directory that is not there, or remove what an export has left that was killed", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.Target.Close()) }()
	if err := x.Target.WriteSettings([]byte(lines)); err != nil {
		return nil, err
	}
	report, err := x.Run(ctx)
	return &exportedDirectory{folder, report}, err
}

// exportedRotationKey is the rotation key with which the DIDs of all accounts can be changed.
// While they are moved it is an error unless moving: then it is the one that is in all of
// them, which is the old one until the move is being finished.
func (s *settings) exportedRotationKey(ctx context.Context, store *db.DB, moving bool) (*atcrypto.PrivateKeyK256, error) {
	state, err := (&move.Moves{DB: store}).State(ctx)
	if err != nil || state == nil || state.Ended() {
		return s.RotationKey, err
	}
	if !moving {
		how := "portico keys rotate-plc"
		if state.Kind == move.Host {
			how = "portico move-host"
		}
		return nil, fmt.Errorf("the DIDs of all accounts are moving to another %s, and some would not be those of the server that this is exported for: "+
			"finish that, or undo it (%s --status says how far it is); --unfinished-move exports all the same", state.Kind, how)
	}
	if state.Kind == move.Key && state.Phase != move.Finishing && s.OldRotationKey != nil {
		return s.OldRotationKey, nil
	}
	return s.RotationKey, nil
}

// readKeys makes the key ring of a database that is only read.
func readKeys(ctx context.Context, s *settings, store *db.DB) (*keyring.Ring, error) {
	canary, err := store.Meta(ctx, canaryName)
	if errors.Is(err, db.ErrNotFound) {
		return nil, errors.New("the database is empty: no server has started with it yet")
	}
	if err != nil {
		return nil, err
	}
	ring, err := keyring.New(rand.Reader, s.KeyEncryptionKey, s.OldKeyEncryptionKey...)
	if err != nil {
		return nil, fmt.Errorf("PORTICO_KEY_ENCRYPTION_KEY: %w", err)
	}
	return ring, unlock(ring, canary)
}

// oursAlone are settings of the reference that say where this server keeps things, or what
// it is.
var oursAlone = []string{
	"PDS_ACCOUNT_DB_LOCATION", "PDS_SEQUENCER_DB_LOCATION", "PDS_DID_CACHE_DB_LOCATION", "PDS_ACTOR_STORE_DIRECTORY",
	"PDS_BLOBSTORE_DISK_TMP_LOCATION", "PDS_VERSION",
}

// referenceSettings are the lines of a settings file with which a reference PDS goes on in
// folder: what was set here and it knows too, and what it needs.
func (c configuration) referenceSettings(ctx context.Context, s *settings, store *db.DB, folder string, rotation *atcrypto.PrivateKeyK256) (string, error) {
	lines := make(map[string]string)
	if c.EnvFile != "" {
		file, err := readEnvFile(c.EnvFile)
		if err != nil {
			return "", unfit(err)
		}
		for _, p := range file.pairs {
			lines[p.name] = p.value
		}
	}
	for _, pair := range c.Environ {
		name, value, _ := strings.Cut(pair, "=")
		lines[name] = value
	}
	maps.DeleteFunc(lines, func(name, value string) bool {
		return value == "" || !strings.HasPrefix(name, "PDS_") && !strings.HasPrefix(name, "LOG_") || settingOf(name) == nil || slices.Contains(oursAlone, name)
	})
	lines["PDS_HOSTNAME"] = s.Hostname
	lines["PDS_JWT_SECRET"] = string(s.JWTSecret)
	lines["PDS_ADMIN_PASSWORD"] = string(s.AdminPassword)
	lines["PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"] = hex.EncodeToString(rotation.Bytes())
	lines["PDS_DATA_DIRECTORY"] = folder
	if s.BlobBucket.Bucket == "" {
		lines["PDS_BLOBSTORE_DISK_LOCATION"] = filepath.Join(folder, "blocks")
	}
	domains, err := store.HandleDomains(ctx)
	if err != nil {
		return "", err
	}
	if len(domains) > 0 {
		all := slices.Clone(s.HandleDomains)
		for _, d := range domains {
			all = append(all, "."+d.Domain)
		}
		slices.Sort(all)
		lines["PDS_SERVICE_HANDLE_DOMAINS"] = strings.Join(slices.Compact(all), ",")
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		if strings.ContainsAny(lines[name], "\r\n") {
			return "", fmt.Errorf("%s has several lines, which the reference's settings file has no form for", name)
		}
		text.WriteString(name + "=" + lines[name] + "\n")
	}
	return text.String(), nil
}

// printedFindings is how many findings of a kind are printed.
const printedFindings = 20

// text is what the command says.
func (r *exportedDirectory) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is the data directory of a reference PDS. It has:\n\n", r.Directory)
	for _, c := range r.Counts {
		fmt.Fprintf(&b, "%9d %s", c.Exported, c.Of)
		if c.Left > 0 {
			fmt.Fprintf(&b, ", without %d: %s", c.Left, c.Why)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\nThe next event is number %d.\n", r.LastEvent+1)
	seen := make(map[string]int)
	byName := func(a, b export.Finding) int { return strings.Compare(a.Name, b.Name) }
	for _, f := range slices.SortedStableFunc(slices.Values(r.Findings), byName) {
		if seen[f.Name]++; seen[f.Name] == 1 {
			b.WriteByte('\n')
		}
		if seen[f.Name] <= printedFindings {
			fmt.Fprintf(&b, "%s: %s\n", f.DID, printable(f.Text))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if n := seen[name] - printedFindings; n > 0 {
			fmt.Fprintf(&b, "%s: %d more, which --json lists\n", name, n)
		}
	}
	b.WriteString("\nWhat was written here since this began is not in it. Never let both servers run at once.\n")
	return b.String()
}
