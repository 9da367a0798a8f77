package main

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/mail/mailtest"
	"portico/impl/mail/outbox"
)

// portico runs the command and returns what it printed.
func portico(t *testing.T, environ []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = newCommand(environ, &out, &errs).Run(t.Context(), append([]string{"portico"}, args...))
	return out.String(), errs.String(), err
}

// fillOutbox queues two letters in the server's database; the second one was
// refused.
func fillOutbox(t *testing.T, environ []string) {
	t.Helper()
	s, err := configuration{Environ: environ, Rand: rand.Reader, Now: time.Now}.load()
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) }
	store, err := db.Open(t.Context(), db.Config{URL: string(s.DatabaseURL), Dir: s.DataDirectory, Now: now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	keys, err := keyring.New(rand.Reader, s.KeyEncryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	o := &outbox.Outbox{DB: store, Keys: keys, Now: now}
	err = store.Write(t.Context(), func(tx *db.Tx) error {
		const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
		if err := o.Post(t.Context(), tx, did, mail.KindReset, s.brand().Reset("alice@example.com", "alice.test", "ABCDE-23456"), now().Add(15*time.Minute)); err != nil {
			return err
		}
		if err := o.Post(t.Context(), tx, did, mail.KindConfirm, s.brand().Confirm("bob@example.com", "ABCDE-23456"), now().Add(15*time.Minute)); err != nil {
			return err
		}
		mails, err := tx.ClaimMails(t.Context(), db.MailClaim{Holder: "test", Now: now(), Until: now().Add(time.Minute), Limit: 10, Others: 10, PerCause: 10})
		if err != nil {
			return err
		}
		if err := tx.MailFailed(t.Context(), mails[0].ID, "451 later", now().Add(time.Second)); err != nil {
			return err
		}
		return tx.MailFailed(t.Context(), mails[1].ID, "mail server answered 550 \x1b[2Jno such user", time.Time{})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMailListAndShow(t *testing.T) {
	development := []string{"PDS_DATA_DIRECTORY=" + t.TempDir()}
	shared := with(production, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee", "PORTICO_DATABASE_URL="+dbtest.PostgresURL(t))
	for _, tt := range []struct {
		name    string
		environ []string
		code    string
	}{
		{"development", development, "ABCDE-23456"},
		{"production", shared, "*****-*****"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fillOutbox(t, tt.environ)
			got, _, err := portico(t, tt.environ, "mail", "list")
			want := `ID  QUEUED                TO                 KIND            STATE   ATTEMPTS  ERROR
2   2026-03-04 12:00:00Z  bob@example.com    confirm_email   failed  1         "mail server answered 550 \x1b[2Jno such user"
1   2026-03-04 12:00:00Z  alice@example.com  reset_password  queued  1         451 later
`
			if err != nil || got != want {
				t.Errorf("list: %v\n%s", err, got)
			}
			got, _, err = portico(t, tt.environ, "mail", "list", "--json", "--limit", "1")
			if err != nil || !strings.HasPrefix(got, "{\n  \"cursor\": \"2\",\n  \"mails\": [\n    {\n      \"id\": 2,\n") {
				t.Errorf("list as JSON: %v\n%s", err, got)
			}
			got, _, err = portico(t, tt.environ, "mail", "list", "--cursor", "2")
			if err != nil || !strings.Contains(got, "alice") || strings.Contains(got, "bob") {
				t.Errorf("list from a cursor on: %v\n%s", err, got)
			}
			got, _, err = portico(t, tt.environ, "mail", "list", "--limit", "1")
			if err != nil || strings.Contains(got, "alice") || !strings.Contains(got, "bob") {
				t.Errorf("list --limit 1: %v\n%s", err, got)
			}

			got, _, err = portico(t, tt.environ, "mail", "show", "1")
			head := `to          alice@example.com
kind        reset_password
account     did:plc:aaaaaaaaaaaaaaaaaaaaaaaa
state       queued
attempts    1
queued      2026-03-04 12:00:00Z
next try    2026-03-04 12:00:01Z
expires     2026-03-04 12:15:00Z
last error  451 later
subject     Password Reset Requested

Reset password
`
			if err != nil || !strings.HasPrefix(got, head) || !strings.Contains(got, "\n    "+tt.code+"\n") {
				t.Errorf("show 1: %v\n%s", err, got)
			}
			if tt.name == "production" && strings.Contains(got, "ABCDE") {
				t.Error("show 1: the code is shown")
			}
			got, _, err = portico(t, tt.environ, "mail", "show", "2")
			if err != nil || !strings.HasSuffix(got, "no such user\"\n\nThe text is erased.\n") {
				t.Errorf("show 2: %v\n%s", err, got)
			}
		})
	}
}

func TestMailCommandsThatFail(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	environ := []string{"PDS_DATA_DIRECTORY=" + dir}
	for _, tt := range []struct{ args, want string }{
		{"list", "there is no outbox yet: " + dir + "/portico.sqlite does not exist"},
		{"show 1", "there is no outbox yet: " + dir + "/portico.sqlite does not exist"},
		{"list 1", `mail list takes no arguments, not even "1"`},
		{"list --limit 0", "--limit must be at least 1"},
		{"show", `mail show takes the number of a mail, as "portico mail list" prints it`},
		{"show one", `mail show takes the number of a mail, as "portico mail list" prints it`},
		{"show 1 2", `mail show takes the number of a mail, as "portico mail list" prints it`},
		{"test", "mail test takes the address to send to"},
		{"test alice@example.com", "no mail server is configured: set PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS"},
	} {
		if _, _, err := portico(t, environ, append([]string{"mail"}, strings.Fields(tt.args)...)...); err == nil || err.Error() != tt.want {
			t.Errorf("mail %s: %v", tt.args, err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a look at the outbox made a data directory")
	}

	fillOutbox(t, environ)
	if _, _, err := portico(t, environ, "mail", "show", "3"); err == nil || err.Error() != "there is no mail 3; mails are forgotten after 30 days" {
		t.Errorf("mail show 3: %v", err)
	}
}

func TestMailTest(t *testing.T) {
	srv := mailtest.Start(t, mailtest.Config{User: "user", Password: "se/cret", Methods: []string{"PLAIN"}, Recipient: func(to string) error {
		if to != "alice@example.com" {
			return mailtest.Answer(550, "5.1.1 no such user")
		}
		return nil
	}})
	u := srv.URL()
	u.RawQuery = "pool=true"
	environ := []string{"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY=" + t.TempDir(), "PDS_EMAIL_SMTP_URL=" + u.String(), "PDS_EMAIL_FROM_ADDRESS=noreply@example.com"}

	out, errs, err := portico(t, environ, "mail", "test", "alice@example.com")
	if err != nil || !strings.Contains(out, "The mail server took the letter.") || errs != "warning: these options of PDS_EMAIL_SMTP_URL have no effect: pool\n" {
		t.Errorf("%v\n%s\n%s", err, out, errs)
	}
	if m := srv.Next(t); m.From != "noreply@example.com" || !strings.Contains(m.Text, "localhost PDS") {
		t.Errorf("got %s", m.Raw)
	}
	if strings.Contains(out, "cret") {
		t.Errorf("the password is in\n%s", out)
	}

	out, _, err = portico(t, environ, "mail", "test", "bob@example.com")
	if err == nil || err.Error() != "the test mail was not sent" || !strings.Contains(out, "< 550 5.1.1 no such user\nThe letter was not sent: mail server answered 550 5.1.1 no such user (recipient).\nThe mail server refuses this recipient.") {
		t.Errorf("%v\n%s", err, out)
	}
}
