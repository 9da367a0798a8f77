//go:build interop

package interop

import (
	"net/http/httptest"
	"os/exec"
	"regexp"
	"testing"

	"portico/cmd/portico/launch"
	"portico/db/dbtest"
	"portico/impl/mail/mailtest"
)

// TestStory lives the life of an account with the official client, mails included,
// and that of another, which is taken down.
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
			box := httptest.NewServer(mails.Mailbox())
			defer box.Close()

			for _, script := range []string{"account.mjs", "takedown.mjs"} {
				out, err := exec.CommandContext(t.Context(), node, script, server.URL, plc, box.URL, adminPassword).CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s\n%s", script, err, out, server.Log())
				}
			}
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

var mailedCode = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)
