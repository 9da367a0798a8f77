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
	"time"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/syntax"
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
				Flags: []cli.Flag{
					envFile, jsonFlag(), &cli.IntFlag{Name: "limit", Value: 50, Usage: "list up to `N` mails"},
					&cli.Int64Flag{Name: "cursor", Usage: "go on behind the mail with this `NUMBER`"},
				},
				Action: func(ctx context.Context, c *cli.Command) error {
					if c.Args().Present() {
						return usage("mail list takes no arguments, not even %q", c.Args().First())
					}
					if c.Int("limit") < 1 {
						return usage("--limit must be at least 1")
					}
					return withOutbox(ctx, config(c), func(_ *settings, o *outbox.Outbox) error {
						return listMails(ctx, o, c.Int64("cursor"), c.Int("limit"), &console{out: stdout, errs: stderr, json: c.Bool("json")})
					})
				},
			},
			{
				Name:      "show",
				Usage:     "print a mail",
				ArgsUsage: "ID",
				Description: `Prints what became of the mail with that number, and the mail itself as long as
it was not delivered. Codes in it are hidden, except on a development server.`,
				Flags: []cli.Flag{envFile, jsonFlag()},
				Action: func(ctx context.Context, c *cli.Command) error {
					id, err := strconv.ParseInt(c.Args().First(), 10, 64)
					if err != nil || c.Args().Len() != 1 {
						return usage(`mail show takes the number of a mail, as "portico mail list" prints it`)
					}
					return withOutbox(ctx, config(c), func(s *settings, o *outbox.Outbox) error {
						return showMail(ctx, o, id, s.Development, &console{out: stdout, json: c.Bool("json")})
					})
				},
			},
			{
				Name:      "test",
				Usage:     "send a test mail, and say how that went",
				ArgsUsage: "ADDRESS",
				Description: `Sends a mail to ADDRESS through the configured mail server, at once and past the
outbox, and prints what the mail server said and what to try.`,
				Flags: []cli.Flag{envFile, jsonFlag()},
				Action: func(ctx context.Context, c *cli.Command) error {
					if c.Args().Len() != 1 {
						return usage("mail test takes the address to send to")
					}
					s, err := config(c).read()
					if err != nil {
						return err
					}
					return testMail(ctx, s, c.Args().First(), &console{out: stdout, errs: stderr, json: c.Bool("json")})
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
		URL: string(s.DatabaseURL), Pooled: s.DatabasePooled, Dir: s.DataDirectory, ReadOnly: true, Logger: slog.New(slog.DiscardHandler),
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

// shownMail is a mail as scripts are told of it.
type shownMail struct {
	ID        int64      `json:"id"`
	To        string     `json:"to"`
	Kind      string     `json:"kind"`
	Account   syntax.DID `json:"account,omitempty"`
	State     string     `json:"state"`
	Attempts  int        `json:"attempts"`
	QueuedAt  time.Time  `json:"queuedAt"`
	NextAt    *time.Time `json:"nextAt,omitempty"`    // while it waits
	ExpiresAt *time.Time `json:"expiresAt,omitempty"` // while it waits
	SentAt    *time.Time `json:"sentAt,omitempty"`
	LastError string     `json:"lastError,omitempty"`
	Subject   string     `json:"subject,omitempty"` // of mail show, as long as the mail is there
	Text      string     `json:"text,omitempty"`
}

func newShownMail(m *db.Mail) shownMail {
	out := shownMail{
		ID: m.ID, To: m.To, Kind: m.Kind, Account: m.DID, State: m.State, Attempts: m.Attempts, QueuedAt: m.CreatedAt.UTC(), LastError: m.LastError,
	}
	switch m.State {
	case db.MailStateQueued:
		out.NextAt, out.ExpiresAt = new(m.NextAt.UTC()), new(m.ExpiresAt.UTC())
	case db.MailStateSent:
		out.SentAt = m.SentAt
	}
	return out
}

func listMails(ctx context.Context, o *outbox.Outbox, before int64, limit int, con *console) error {
	mails, err := o.List(ctx, before, limit+1)
	if err != nil {
		return err
	}
	var next *string
	if len(mails) > limit {
		mails = mails[:limit]
		next = new(strconv.FormatInt(mails[limit-1].ID, 10))
	}
	if con.json {
		out := struct {
			Cursor *string     `json:"cursor,omitempty"`
			Mails  []shownMail `json:"mails"`
		}{next, make([]shownMail, len(mails))}
		for i := range mails {
			out.Mails[i] = newShownMail(&mails[i])
		}
		return con.printJSON(out)
	}
	rows := make([][]string, len(mails))
	for i, m := range mails {
		rows[i] = []string{strconv.FormatInt(m.ID, 10), moment(m.CreatedAt), m.To, m.Kind, m.State, strconv.Itoa(m.Attempts), m.LastError}
	}
	if err := con.table("There are no mails.", "ID QUEUED TO KIND STATE ATTEMPTS ERROR", rows); err != nil {
		return err
	}
	con.more(next)
	return nil
}

func showMail(ctx context.Context, o *outbox.Outbox, id int64, codes bool, con *console) error {
	m, letter, err := o.Read(ctx, id)
	if errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("there is no mail %d; mails are forgotten after 30 days", id)
	}
	if m == nil {
		return err
	}
	shown := newShownMail(m)
	if letter != nil {
		l := *letter
		if !codes {
			l = l.Redacted()
		}
		shown.Subject, shown.Text = l.Subject, l.Text
	}
	if con.json {
		return errors.Join(con.printJSON(shown), err)
	}
	printed := con.facts(
		"to", shown.To,
		"kind", shown.Kind,
		"account", shown.Account.String(),
		"state", shown.State,
		"attempts", strconv.Itoa(shown.Attempts),
		"queued", moment(shown.QueuedAt),
		"next try", momentOf(shown.NextAt),
		"expires", momentOf(shown.ExpiresAt),
		"sent", momentOf(shown.SentAt),
		"last error", shown.LastError,
		"subject", shown.Subject,
	)
	if printed != nil || err != nil {
		return errors.Join(printed, err)
	}
	text := shown.Text
	if letter == nil {
		text = "The text is erased.\n"
	}
	_, err = fmt.Fprintf(con.out, "\n%s", text)
	return err
}

// shownReport is what mail test prints for scripts.
type shownReport struct {
	Server       string   `json:"server"`
	Sent         bool     `json:"sent"`
	Error        string   `json:"error,omitempty"`
	Conversation []string `json:"conversation"`
	Advice       []string `json:"advice"`
}

func newShownReport(r mail.Report) shownReport {
	out := shownReport{r.Server, r.Err == nil, "", append([]string{}, r.Conversation...), append([]string{}, r.Advice...)}
	if r.Err != nil {
		out.Error = r.Err.Error()
	}
	return out
}

// testMail sends a test letter. When the mail server did not take it, that is
// an error.
func testMail(ctx context.Context, s *settings, to string, con *console) error {
	if s.SMTPURL == nil {
		return errors.New("no mail server is configured: set PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS")
	}
	smtp, err := mail.NewSMTP(s.SMTPURL, s.EmailFrom)
	if err != nil {
		return fmt.Errorf("PDS_EMAIL_SMTP_URL: %w", err)
	}
	if ignored := smtp.Ignored(); len(ignored) > 0 {
		fmt.Fprintln(con.errs, "warning: these options of PDS_EMAIL_SMTP_URL have no effect:", strings.Join(ignored, ", "))
	}
	report := smtp.Test(ctx, s.brand(), to)
	if con.json {
		if err := con.printJSON(newShownReport(report)); err != nil {
			return err
		}
	} else if _, err := io.WriteString(con.out, report.String()); err != nil {
		return err
	}
	if report.Err != nil {
		return errors.New("the test mail was not sent")
	}
	return nil
}

func momentOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// printable is text that can do nothing to a terminal.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
