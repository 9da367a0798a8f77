package operator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/mail"
	"portico/impl/servertest"
)

// post queues a mail whose text is a secret, and returns its number.
func (s operator) post(to string, did syntax.DID) int64 {
	s.Helper()
	s.Write(func(tx *db.Tx) error {
		l := mail.Letter{To: to, Subject: "Your code", Text: "ABCDE-FGHIJ"}
		return s.Outbox.Post(s.Context(), tx, did, mail.KindReset, l, s.Now().Add(time.Hour))
	})
	return servertest.Must(s.DB.Mails(s.Context(), 0, 1))[0].ID
}

// sending has the mail that is due sent, until it is said what becomes of it.
func (s operator) sending() {
	s.Helper()
	s.Write(func(tx *db.Tx) error {
		_, err := tx.ClaimMails(s.Context(), db.MailClaim{Holder: "test", Now: s.Now(), Until: s.Now().Add(time.Minute), Limit: 10, Others: 10, PerCause: 10})
		return err
	})
}

// The outbox is told of in pages, and what is in a mail never is.
func TestListMails(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		alice := s.SignUp("alice")
		first := s.post("one@example.com", "")
		s.sending()
		s.Write(func(tx *db.Tx) error { return tx.MailSent(t.Context(), first) })
		second := s.post("two@example.com", alice.DID)
		s.sending()
		s.Write(func(tx *db.Tx) error {
			return tx.MailFailed(t.Context(), second, `550 <script>alert("no such user")</script>`, time.Time{})
		})
		third := s.post("three@example.com", alice.DID)

		all := s.Accepted(s.ask("listMails"))
		if strings.Contains(all.Body, "ABCDE") || strings.Contains(all.Body, "Your code") {
			t.Errorf("a mail is told: %s", all.Body)
		}
		queued := fmt.Sprintf(`{"id":%d,"to":"three@example.com","kind":"reset_password","did":%q,"state":"queued","attempts":0,`+
			`"queuedAt":"2026-03-01T12:00:00.000Z","nextAt":"2026-03-01T12:00:00.000Z","expiresAt":"2026-03-01T13:00:00.000Z"}`, third, alice.DID)
		failed := fmt.Sprintf(`{"id":%d,"to":"two@example.com","kind":"reset_password","did":%q,"state":"failed","attempts":1,`+
			`"queuedAt":"2026-03-01T12:00:00.000Z","lastError":"550 <script>alert(\"no such user\")</script>"}`, second, alice.DID)
		sent := fmt.Sprintf(`{"id":%d,"to":"","kind":"reset_password","state":"sent","attempts":1,`+
			`"queuedAt":"2026-03-01T12:00:00.000Z","sentAt":"2026-03-01T12:00:00.000Z"}`, first)
		for query, want := range map[string]string{
			"":                                `{"mails":[` + queued + `,` + failed + `,` + sent + `]}`,
			"?limit=2":                        fmt.Sprintf(`{"cursor":"%d","mails":[`, second) + queued + `,` + failed + `]}`,
			"?state=failed":                   `{"mails":[` + failed + `]}`,
			"?state=expired":                  `{"mails":[]}`,
			"?limit=1&state=sent":             `{"mails":[` + sent + `]}`,
			fmt.Sprintf("?cursor=%d", second): `{"mails":[` + sent + `]}`,
			fmt.Sprintf("?cursor=%d&state=failed", second): `{"mails":[]}`,
		} {
			if diff := cmp.Diff(want, s.Accepted(s.ask("listMails"+query)).Body); diff != "" {
				t.Errorf("%s (-want +got):\n%s", query, diff)
			}
		}
		for _, cursor := range []string{"x", "0", "-1", "%00", "99999999999999999999"} {
			s.Refused(s.ask("listMails?cursor="+cursor), 400, "InvalidRequest", "Malformed cursor")
		}
	})
}

// A mail that waits for its next attempt is sent at once, and no other.
func TestRetryMail(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		alice := s.SignUp("alice")
		id := s.post("one@example.com", alice.DID)
		body := fmt.Sprintf(`{"id":%d}`, id)
		s.sending()
		s.Refused(s.do("retryMail", body), 400, "MailNotWaiting", "The mail does not wait: it is sending")
		s.Write(func(tx *db.Tx) error { return tx.MailFailed(t.Context(), id, "busy", s.Now().Add(time.Hour)) })
		s.Advance(time.Minute)
		s.Empty(s.do("retryMail", body))
		m := servertest.Must(s.DB.MailByID(t.Context(), id))
		if !m.NextAt.Equal(s.Now()) || m.State != "queued" || m.Attempts != 1 || m.LastError != "busy" || m.Sealed == nil {
			t.Errorf("retried: %+v", m)
		}
		select {
		case <-s.DB.MailQueued():
		case <-time.After(time.Minute):
			t.Error("the worker is not woken")
		}
		s.sending()
		s.Write(func(tx *db.Tx) error { return tx.MailFailed(t.Context(), id, "refused", time.Time{}) })
		s.Refused(s.do("retryMail", body), 400, "MailNotWaiting", "The mail does not wait: it is failed")
		s.Refused(s.do("retryMail", `{"id":4711}`), 400, "MailNotFound", "Mail not found")
		if got, want := s.log(alice.DID.String(), 1)[0], fmt.Sprintf("2026-03-01T12:01:00.000Z mail_retried by admin from 127.0.0.1: reset_password, number %d, queued", id); got != want {
			t.Errorf("recorded %q, want %q", got, want)
		}
	})
}

// A mail is deleted unless somebody is sending it.
func TestDeleteMail(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		id := s.post("one@example.com", "")
		body := fmt.Sprintf(`{"id":%d}`, id)
		s.sending()
		s.Refused(s.do("deleteMail", body), 400, "MailBeingSent", "The mail is being sent")
		s.Write(func(tx *db.Tx) error { return tx.MailFailed(t.Context(), id, "busy", s.Now().Add(time.Hour)) })
		s.Empty(s.do("deleteMail", body))
		s.Refused(s.do("deleteMail", body), 400, "MailNotFound", "Mail not found")
		if got := s.Accepted(s.ask("listMails")).Body; got != `{"mails":[]}` {
			t.Errorf("left: %s", got)
		}
		want := fmt.Sprintf(`{"cursor":"1","entries":[{"at":"2026-03-01T12:00:00.000Z","actor":"admin","address":"127.0.0.1","event":"mail_deleted","detail":"reset_password, number %d, queued"}]}`, id)
		if got := s.Accepted(s.ask("getLog?limit=1")).Body; got != want && got != strings.Replace(want, `"cursor":"1",`, "", 1) {
			t.Errorf("recorded %s, want %s", got, want)
		}
	})
}
