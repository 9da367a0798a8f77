package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"portico/db"
	"portico/impl/account/token"
	"portico/impl/blob"
	"portico/impl/doctor"
	"portico/impl/identity/host/proof"
	"portico/impl/mail"
)

// checkPatience is how long one check of the doctor may take. They run side by side.
const checkPatience = 30 * time.Second

// doctorCommand is "portico doctor".
func doctorCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "find out what is wrong with a server, and say what to do",
		Description: `Looks at the settings, at the server as it runs on this machine, and at what the
world sees of it: DNS, certificate, what the proxy in front passes on, websockets,
handles; at the directory, other services, relays, mail server and blob store that
it needs; and at the clock, disk and files here. Each check has a line:

  ok   as it should be
  !    a warning: it works, but not for all, or not for long
  !!   it does not work
  -    not tried, and why

What to do stands below. Run it as the server's user, with the server's settings,
whether it runs or not. Nothing is changed: a few bytes are written to a bucket
and removed, no mail is sent without --mail, and the admin password goes over the
public URL only where the server of this machine has proven to be behind it.

Ends with 0 when nothing failed, and with 1 when something did.`,
		Flags: []cli.Flag{
			envFile, jsonFlag(),
			&cli.StringSliceFlag{Name: "only", Usage: "try the check with this `NAME` alone, as it stands in its line; may be given more than once"},
			&cli.StringFlag{Name: "mail", Usage: "send a test mail to `ADDRESS`"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage("doctor takes no arguments, not even %q", c.Args().First())
			}
			s, err := config(c).read()
			if s == nil {
				return err
			}
			problems, _ := errors.AsType[settingsError](err)
			e, err := config(c).examination(s, problems, c.String("mail"))
			if err != nil {
				return err
			}
			checks, err := picked(e.Checks(), c.StringSlice("only"))
			if err != nil {
				return err
			}
			results := doctor.Run(ctx, checks, checkPatience)
			if ctx.Err() != nil {
				return errors.New("interrupted: not all was looked at")
			}
			return (&console{out: stdout, json: c.Bool("json")}).tell(results)
		},
	}
}

// picked are the checks with these names, in whatever case, or all where there are none.
func picked(all []doctor.Check, names []string) ([]doctor.Check, error) {
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	for i := range all {
		known[i] = all[i].Name
	}
	wanted := map[string]bool{}
	for _, name := range names {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, strings.TrimSpace(name)) })
		if i < 0 {
			return nil, usage("there is no check %q; there are: %s", name, strings.Join(known, ", "))
		}
		wanted[known[i]] = true
	}
	return slices.DeleteFunc(all, func(c doctor.Check) bool { return !wanted[c.Name] }), nil
}

var marks = map[doctor.State]string{doctor.OK: "ok", doctor.Warning: "! ", doctor.Failed: "!!", doctor.NotTried: "- "}

// tell prints what was found. That something failed is an error.
func (con *console) tell(results []doctor.Result) error {
	count := map[doctor.State]int{}
	width := 0
	for _, r := range results {
		count[r.State]++
		width = max(width, len(r.Name))
	}
	var err error
	if con.json {
		err = con.printJSON(struct {
			Failed   int             `json:"failed"`
			Warnings int             `json:"warnings"`
			Checks   []doctor.Result `json:"checks"`
		}{count[doctor.Failed], count[doctor.Warning], results})
	} else {
		var b strings.Builder
		for _, r := range results {
			found := r.Found
			if r.State == doctor.NotTried {
				found = "not tried: " + found
			}
			fmt.Fprintf(&b, "%s  %-*s  %s\n", marks[r.State], width, r.Name, strings.ReplaceAll(found, "\n", " "))
			for line := range strings.Lines(r.Do) {
				fmt.Fprintf(&b, "%*sdo: %s\n", width+6, "", strings.TrimSuffix(line, "\n"))
			}
		}
		_, err = io.WriteString(con.out, legible(b.String()))
	}
	if n := count[doctor.Failed]; err == nil && n > 0 {
		return fail(statusFailed, "%d of %d checks failed", n, len(results))
	}
	return err
}

// examination is what there is to look at, for a server with these settings, of which the
// problems are what is wrong.
func (c configuration) examination(s *settings, problems settingsError, mailTo string) (*doctor.Examination, error) {
	wrong := func(variables ...string) bool {
		return slices.ContainsFunc(problems, func(p problem) bool { return slices.Contains(variables, p.variable) })
	}
	e := &doctor.Examination{
		Warnings: s.Warnings, Development: s.Development, Host: s.Hostname, Local: s.localURL(), Bind: s.Bind, Port: s.Port,
		Domains: s.HandleDomains, Version: s.Version, Crawlers: s.Crawlers, RateLimits: s.RateLimits,
		SignUpLimits: s.SignUpsPerDay > 0 || s.PhoneProvider != "" || s.Quarantine != "",
		Disk:         diskOf, Files: func() ([]doctor.File, error) { return s.serverFiles(c.EnvFile) },
		Addresses: interfaceAddresses(), Through: http.ProxyFromEnvironment, Now: c.Now, Random: c.Rand,
	}
	e.Backups = func() ([]doctor.Backup, error) { return knownBackups(s.DataDirectory) }
	for _, p := range problems {
		e.Problems = append(e.Problems, p.variable+" "+p.text)
	}
	if s.JWTSecret != "" && !wrong("PDS_JWT_SECRET") {
		mac := (&token.Issuer{Secret: []byte(s.JWTSecret)}).Proof
		e.Proof = func(challenge string) string { return proof.Sign(mac, challenge) }
	}
	if wrong("PDS_HOSTNAME") {
		e.Host = ""
	}
	if s.PLCURL != nil {
		e.Directory = strings.TrimSuffix(s.PLCURL.String(), "/")
	}
	for _, o := range []struct {
		name, setting string
		otherService
	}{
		{"app view", "PDS_BSKY_APP_VIEW", s.AppView}, {"reports", "PDS_REPORT_SERVICE", s.ReportService}, {"moderation", "PDS_MOD_SERVICE", s.ModService},
	} {
		service := doctor.Service{Name: o.name, Setting: o.setting, DID: o.DID, AppView: o.name == "app view"}
		if o.URL != nil {
			service.URL = strings.TrimSuffix(o.URL.String(), "/")
		}
		e.Services = append(e.Services, service)
	}

	// The server of this machine is looked at, whichever one other commands would ask.
	here := c
	here.Environ = slices.DeleteFunc(slices.Clone(c.Environ), func(pair string) bool {
		return strings.HasPrefix(pair, "ATP_PDS_HOST=") || strings.HasPrefix(pair, "PDS_HOST=")
	})
	if t, err := here.target("", ""); err != nil {
		e.NoPassword = err.Error()
	} else {
		e.Local, e.Password = t.host, string(t.password)
	}
	if pid := db.HeldBy(s.DataDirectory); pid > 0 && s.databaseFile() != "" {
		e.OpenFiles = func() (uint64, error) { return openFilesOf(pid) }
	}

	if s.databaseFile() != "" || len(s.fromFile()) > 0 {
		e.Folders = append(e.Folders, doctor.Folder{Path: s.DataDirectory, Setting: "PDS_DATA_DIRECTORY", Database: s.databaseFile() != ""})
	}
	if s.BlobFolder != "" && s.BlobFolderGiven {
		e.Folders = append(e.Folders, doctor.Folder{Path: s.BlobFolder, Setting: "PDS_BLOBSTORE_DISK_LOCATION"})
	}
	if s.BlobTempFolder != "" {
		e.Folders = append(e.Folders, doctor.Folder{Path: s.BlobTempFolder, Setting: "PDS_BLOBSTORE_DISK_TMP_LOCATION"})
	}
	if s.DatabaseReadURL != "" && !wrong("PORTICO_DATABASE_URL", "PORTICO_DATABASE_READ_URL") {
		e.Standby = func(ctx context.Context) (doctor.Standby, error) {
			state, err := db.LookAtStandby(ctx, db.Config{URL: string(s.DatabaseURL), ReadURL: string(s.DatabaseReadURL), Pooled: s.DatabasePooled})
			return doctor.Standby(state), err
		}
	}
	if s.BlobBucket.Bucket != "" && !wrong("PDS_BLOBSTORE_S3_BUCKET", "PDS_BLOBSTORE_S3_ENDPOINT", "PDS_BLOBSTORE_S3_ACCESS_KEY_ID", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY") {
		bucket, err := blob.OpenS3(s.BlobBucket)
		if err != nil {
			return nil, err
		}
		e.Bucket, e.BucketName = bucket.CheckWrites, s.BlobBucket.Bucket
	}
	if mailTo != "" && (s.SMTPURL == nil || s.EmailFrom == nil) {
		return nil, usage("--mail: no mail server is configured (PDS_EMAIL_SMTP_URL, PDS_EMAIL_FROM_ADDRESS)")
	}
	if s.SMTPURL != nil && s.EmailFrom != nil && !wrong("PDS_EMAIL_SMTP_URL") {
		smtp, err := mail.NewSMTP(s.SMTPURL, s.EmailFrom)
		if err != nil {
			return nil, fmt.Errorf("PDS_EMAIL_SMTP_URL: %w", err)
		}
		smtp.Timeout = checkPatience / 2
		e.Mail = smtp.Check
		if mailTo != "" {
			e.Mailed, e.Mail = mailTo, func(ctx context.Context) mail.Report { return smtp.Test(ctx, s.brand(), mailTo) }
		}
	}
	return e, nil
}

// serverFiles are the files whose owner and mode matter: with secrets, or written by the
// server.
func (s *settings) serverFiles(envFile string) ([]doctor.File, error) {
	var files []doctor.File
	if f, err := readEnvFile(envFile); envFile != "" && (err != nil || f.hasSecrets()) { // which has them for all that is known
		if info, err := os.Stat(envFile); err == nil && info.Mode().IsRegular() {
			files = append(files, doctor.File{Path: envFile, Mode: info.Mode(), Group: true})
		}
	}
	folder, err := os.Stat(s.DataDirectory)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	} else if err != nil {
		return nil, err
	}
	for _, name := range []string{databaseName, databaseName + "-wal", databaseName + "-shm", secretsName, db.LockName} {
		info, err := os.Stat(filepath.Join(s.DataDirectory, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		f := doctor.File{Path: filepath.Join(s.DataDirectory, name), Mode: info.Mode(), Owner: ownerOf(info), Wanted: ownerOf(folder)}
		if folder.Mode().Perm()&0o077 == 0 {
			f.Mode = f.Mode &^ 0o077 // nobody else gets at it
		}
		files = append(files, f)
	}
	return files, nil
}

// knownBackups are the backups that are noted in the data directory.
func knownBackups(dir string) ([]doctor.Backup, error) {
	places, err := readBackupState(dir)
	var all []doctor.Backup
	for _, place := range slices.Sorted(maps.Keys(places)) {
		b := doctor.Backup{Place: place, Last: places[place].LastSuccess}
		if !places[place].LastFailure.IsZero() {
			b.Failure = places[place].Error
		}
		all = append(all, b)
	}
	return all, err
}

// interfaceAddresses are the addresses of this machine, none if it does not say.
func interfaceAddresses() []netip.Addr {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var all []netip.Addr
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all
}
