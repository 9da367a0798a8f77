package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v3"

	"portico/db"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// mailCommand is "portico mail".
func mailCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "mail",
		Usage: "look at the mails of the server, or try its mail server",
		Commands: []*cli.Command{
			{
				Name:  "list",
				Usage: "list the last mails, the newest first",
				Flags: []cli.Flag{envFile, &cli.IntFlag{Name: "limit", Value: 50, Usage: "list up to `N` mails"}},
				Action: func(ctx context.Context, c *cli.Command) error {
					if c.Args().Present() {
						return usage("mail list takes no arguments, not even %q", c.Args().First())
					}
					if c.Int("limit") < 1 {
						return usage("--limit must be at least 1")
					}
					return withOutbox(ctx, config(c), func(_ *settings, o *outbox.Outbox) error {
						return listMails(ctx, o, c.Int("limit"), stdout)
					})
				},
			},
			{
				Name:      "show",
				Usage:     "print a mail",
				ArgsUsage: "ID",
				Description: `Prints what became of the mail with that number, and the mail itself as long as
it was not delivered. Codes in it are hidden, except on a development server.`,
				Flags: []cli.Flag{envFile},
				Action: func(ctx context.Context, c *cli.Command) error {
					id, err := strconv.ParseInt(c.Args().First(), 10, 64)
					if err != nil || c.Args().Len() != 1 {
						return usage(`mail show takes the number of a mail, as "portico mail list" prints it`)
					}
					return withOutbox(ctx, config(c), func(s *settings, o *outbox.Outbox) error {
						return showMail(ctx, o, id, s.Development, stdout)
					})
				},
			},
			{
				Name:      "test",
				Usage:     "send a test mail, and say how that went",
				ArgsUsage: "ADDRESS",
				Description: `Sends a mail to ADDRESS through the configured mail server, at once and past the
outbox, and prints what the mail server said and what to try.`,
				Flags: []cli.Flag{envFile},
				Action: func(ctx context.Context, c *cli.Command) error {
					if c.Args().Len() != 1 {
						return usage("mail test takes the address to send to")
					}
					s, err := config(c).read()
					if err != nil {
						return err
					}
					return testMail(ctx, s, c.Args().First(), stdout, stderr)
				},
			},
		},
	}
}

// brand is how the operator's letters look.
func (s *settings) brand() mail.Brand {
	return mail.Brand{
		ServiceName: s.ServiceName, HomeURL: s.HomeURL, LogoURL: s.LogoURL, PrimaryColor: s.PrimaryColor,
		DisableConfirmationLink: s.DisableConfirmationLink,
	}
}

// withOutbox opens the outbox for reading. It makes neither a database nor secrets
// where there are none.
func withOutbox(ctx context.Context, c configuration, do func(*settings, *outbox.Outbox) error) (err error) {
	s, err := c.read()
	if err != nil {
		return err
	}
	if file := s.databaseFile(); file != "" && !exists(file) {
		return fmt.Errorf("there is no outbox yet: %s does not exist", file)
	}
	if s, err = c.load(); err != nil {
		return err
	}
	store, err := db.Open(ctx, db.Config{
		URL: string(s.DatabaseURL), Dir: s.DataDirectory, ReadOnly: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	keys, err := keyring.New(rand.Reader, s.KeyEncryptionKey, s.OldKeyEncryptionKey...)
	if err != nil {
		return fmt.Errorf("PORTICO_KEY_ENCRYPTION_KEY: %w", err)
	}
	return do(s, &outbox.Outbox{DB: store, Keys: keys, Now: time.Now})
}

func listMails(ctx context.Context, o *outbox.Outbox, limit int, w io.Writer) error {
	mails, err := o.List(ctx, limit)
	if err != nil {
		return err
	}
	if len(mails) == 0 {
		_, err := fmt.Fprintln(w, "There are no mails.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tQUEUED\tTO\tKIND\tSTATE\tATTEMPTS\tLAST ERROR")
	for _, m := range mails {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%s\n", m.ID, moment(m.CreatedAt), printable(m.To), m.Kind, m.State, m.Attempts, printable(m.LastError))
	}
	return t.Flush()
}

func showMail(ctx context.Context, o *outbox.Outbox, id int64, codes bool, w io.Writer) error {
	m, letter, err := o.Read(ctx, id)
	if errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("there is no mail %d; mails are forgotten after 30 days", id)
	}
	if m == nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, printable(value))
		}
	}
	row("to", m.To)
	row("kind", m.Kind)
	row("account", m.DID.String())
	row("state", m.State)
	row("attempts", strconv.Itoa(m.Attempts))
	row("queued", moment(m.CreatedAt))
	switch m.State {
	case db.MailStateQueued:
		row("next try", moment(m.NextAt))
		row("expires", moment(m.ExpiresAt))
	case db.MailStateSent:
		if m.SentAt != nil {
			row("sent", moment(*m.SentAt))
		}
	}
	row("last error", m.LastError)
	text := "The text is erased.\n"
	if letter != nil {
		l := *letter
		if !codes {
			l = l.Redacted()
		}
		row("subject", l.Subject)
		text = l.Text
	}
	if flushed := t.Flush(); flushed != nil || err != nil {
		return errors.Join(flushed, err)
	}
	_, err = fmt.Fprintf(w, "\n%s", text)
	return err
}

// testMail sends a test letter. When the mail server did not take it, that is
// an error.
func testMail(ctx context.Context, s *settings, to string, stdout, stderr io.Writer) error {
	if s.SMTPURL == nil {
		return errors.New("no mail server is configured: set PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS")
	}
	smtp, err := mail.NewSMTP(s.SMTPURL, s.EmailFrom)
	if err != nil {
		return fmt.Errorf("PDS_EMAIL_SMTP_URL: %w", err)
	}
	if ignored := smtp.Ignored(); len(ignored) > 0 {
		fmt.Fprintln(stderr, "warning: these options of PDS_EMAIL_SMTP_URL have no effect:", strings.Join(ignored, ", "))
	}
	report := smtp.Test(ctx, s.brand(), to)
	if _, err := io.WriteString(stdout, report.String()); err != nil {
		return err
	}
	if report.Err != nil {
		return errors.New("the test mail was not sent")
	}
	return nil
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// printable is text that can do nothing to a terminal.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
