package operator_test

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/servertest"
)

// pages are the names of the accounts that a list has, read in pages of limit.
func (s operator) pages(query, limit string) (names []string) {
	s.Helper()
	for cursor := ""; ; {
		var page struct {
			Cursor   string
			Accounts []struct{ DID, Handle string }
		}
		s.Accepted(s.ask("listAccounts?limit="+limit+"&"+query+cursor)).Decode(s, &page)
		for _, a := range page.Accounts {
			names = append(names, strings.TrimSuffix(a.Handle, ".test"))
		}
		if page.Cursor == "" {
			return names
		}
		cursor = "&cursor=" + url.QueryEscape(page.Cursor)
	}
}

func TestListAccounts(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		if got := s.Accepted(s.ask("listAccounts")).Body; got != `{"accounts":[]}` {
			t.Errorf("no accounts: %s", got)
		}
		s.Invite("code", 1, "admin")
		alice := s.SignUpWith("alice", "code")
		want := `{"accounts":[{"did":"` + alice.DID.String() + `","handle":"alice.test","status":"active","email":"alice@example.com",` +
			`"emailAuthFactor":false,"createdAt":"2026-03-01T12:00:00.000Z","invitesDisabled":false,"inviteCode":"code",` +
			`"records":5,"blobs":2,"blobBytes":300}]}`
		s.fill(alice.DID)
		s.Write(func(tx *db.Tx) error {
			return errors.Join(
				tx.InsertBlob(t.Context(), alice.DID, db.Blob{CID: []byte("a"), MIME: "text/plain", Size: 100, TempKey: "key", CreatedAt: s.Now()}),
				tx.InsertBlob(t.Context(), alice.DID, db.Blob{CID: []byte("b"), MIME: "text/plain", Size: 200, CreatedAt: s.Now()}))
		})
		if got := s.Accepted(s.ask("listAccounts")).Body; got != want {
			t.Errorf("one account: %s, want %s", got, want)
		}

		names := map[string]string{alice.DID.String(): "alice"}
		for _, name := range []string{"alina", "bob", "carol", "dora", "erna"} {
			did := s.SignUp(name).DID
			names[did.String()] = name
			s.SetAccount(did, func(a *db.Account) {
				switch name {
				case "bob":
					a.DeactivatedAt, a.DeleteAfter = new(servertest.Start), new(servertest.Start.Add(time.Hour))
				case "carol":
					a.DeactivatedAt, a.TakedownRef = new(servertest.Start), new("case 7")
				case "dora":
					a.Handle = "dora.sub.test"
				case "erna":
					a.Handle, a.Email = "", ""
				}
			})
		}
		s.reserve(unknown, "frida.test", "frida@example.com")
		names[unknown] = "frida"
		var all []string
		for _, did := range slices.Sorted(maps.Keys(names)) {
			all = append(all, names[did])
		}
		only := func(some ...string) []string {
			return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !slices.Contains(some, name) })
		}
		for _, tt := range []struct {
			query string
			want  []string
		}{
			{"", all},
			{"status=active", only("alice", "alina", "dora", "erna")},
			{"status=deactivated", only("bob")},
			{"status=takendown", only("carol")},
			{"status=creating", only("frida")},
			{"email=al", []string{"alice", "alina"}},
			{"email=ALINA@", []string{"alina"}},
			{"email=%25", nil},
			{"email=%00", nil},
			{"domain=test", only("alice", "alina", "bob", "carol", "frida")},
			{"domain=.Test", only("alice", "alina", "bob", "carol", "frida")},
			{"domain=sub.test", only("dora")},
			{"domain=est", nil},
			{"domain=%00", nil},
			{"domain=test&status=active", only("alice", "alina")},
			{"domain=test&email=a&status=active", []string{"alice", "alina"}},
		} {
			for i, name := range tt.want {
				tt.want[i] = map[string]string{"dora": "dora.sub", "erna": "handle.invalid"}[name]
				if tt.want[i] == "" {
					tt.want[i] = name
				}
			}
			for _, limit := range []string{"1", "2", "500"} {
				if diff := cmp.Diff(tt.want, s.pages(tt.query, limit)); diff != "" {
					t.Errorf("%s in pages of %s (-want +got):\n%s", tt.query, limit, diff)
				}
			}
		}

		// An account that is gone since is a place in the list still.
		var page struct{ Cursor string }
		s.Accepted(s.ask("listAccounts?email=ali&limit=1")).Decode(t, &page)
		s.Empty(s.do("com.atproto.admin.deleteAccount", `{"did":"`+alice.DID.String()+`"}`))
		next := s.Accepted(s.ask("listAccounts?email=ali&cursor=" + url.QueryEscape(page.Cursor))).Body
		if page.Cursor != "alice@example.com" || !strings.Contains(next, "alina.test") {
			t.Errorf("behind %q: %s", page.Cursor, next)
		}

		for _, query := range []string{"cursor=x", "cursor=alice@example.com", "cursor=%00", "email=al&cursor=bob@example.com", "email=al&cursor=" + unknown} {
			s.Refused(s.ask("listAccounts?"+query), 400, "InvalidRequest", "Malformed cursor")
		}
		const invalid = "Invalid alt.portico.operator.listAccounts params: "
		s.Refused(s.ask("listAccounts?limit=501"), 400, "InvalidRequest", invalid+"integer too big (maximum 500, got 501)")
		s.Refused(s.ask("listAccounts?limit=0"), 400, "InvalidRequest", invalid+"integer too small (minimum 1, got 0)")
		s.Refused(s.ask("listAccounts?status=deleted"), 400, "InvalidRequest",
			invalid+`Expected one of "active", "deactivated", "takendown" or "creating" (got "deleted")`)
	})
}
