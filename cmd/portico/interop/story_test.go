//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"portico/cmd/portico/launch"
	"portico/db/dbtest"
	"portico/impl/mail/mailtest"
)

// TestStory lives the life of an account with the official client, mails included.
func TestStory(t *testing.T) {
	const adminPassword = "operator of the story"
	postgres := func(t *testing.T) []string {
		return []string{
			"PORTICO_DATABASE_URL=" + dbtest.PostgresURL(t),
			"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee",
		}
	}
	for _, tt := range []struct {
		name      string
		directory func(*testing.T) (url string) // "" for the server's own
		database  func(*testing.T) (env []string)
	}{
		{"embedded directory", func(*testing.T) string { return "" }, nil},
		{"real directory", startDirectory, nil},
		{"Postgres", startDirectory, postgres},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mails := mailtest.Start(t, mailtest.Config{})
			env := []string{
				"PDS_ADMIN_PASSWORD=" + adminPassword,
				"PDS_INVITE_REQUIRED=true",
				"PDS_EMAIL_SMTP_URL=" + mails.URL().String(),
				"PDS_EMAIL_FROM_ADDRESS=server@example.com",
				"PDS_ENABLE_DID_DOC_WITH_SESSION=true",
			}
			if tt.database != nil {
				env = append(env, tt.database(t)...)
			}
			plc := tt.directory(t)
			if plc != "" {
				env = append(env, "PDS_DID_PLC_URL="+plc)
			}
			server, err := launch.StartServer(t.Context(), binary, t.TempDir(), env...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Kill)
			if plc == "" {
				plc = server.Directory
			}
			box := httptest.NewServer(mailbox(mails))
			defer box.Close()

			out, err := exec.CommandContext(t.Context(), node, "story.mjs", server.URL, plc, box.URL, adminPassword).CombinedOutput()
			if err != nil {
				t.Fatalf("story.mjs: %v\n%s\n%s", err, out, server.Log())
			}
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

var mailedCode = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// mailbox gives mails to a script. GET /next?to=ADDRESS answers the first one to
// that address that was not asked for yet, and waits a few seconds for one that is
// on its way. GET /unread answers the subjects of those that were not asked for.
// One request at a time.
func mailbox(mails *mailtest.Server) http.Handler {
	read := map[int]bool{}
	next := func(to string) *mailtest.Mail {
		for i, m := range mails.Mails() {
			if !read[i] && m.To == to {
				read[i] = true
				return &m
			}
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /next", func(w http.ResponseWriter, r *http.Request) {
		to := r.FormValue("to")
		deadline := time.After(launch.Patience / 3)
		m := next(to)
		for ; m == nil; m = next(to) {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-deadline:
				http.Error(w, "no mail came", http.StatusNotFound)
				return
			}
		}
		write(w, map[string]string{"subject": m.Subject, "text": m.Text, "code": mailedCode.FindString(m.Text)})
	})
	mux.HandleFunc("GET /unread", func(w http.ResponseWriter, _ *http.Request) {
		unread := []string{}
		for i, m := range mails.Mails() {
			if !read[i] {
				unread = append(unread, fmt.Sprintf("%s to %s", m.Subject, m.To))
			}
		}
		write(w, unread)
	})
	return mux
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // fails when the script has gone
}
