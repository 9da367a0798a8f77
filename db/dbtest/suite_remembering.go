package dbtest

import (
	"time"

	"portico/db"
)

func (s *suite) rememberingBrowsers() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	remember := func(browser string, n int, proved time.Time) {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			return tx.RememberOAuth(ctx, db.OAuthRemembered{
				Browser: []byte(browser), DID: did(n), CreatedAt: start0, ProvedAt: proved, ExpiresAt: start0.Add(time.Hour), Address: "192.0.2.1", Agent: browser,
			}, 10, 10)
		})
	}
	remember("old", 1, start0)
	remember("new", 1, start0.Add(time.Second))
	remember("new", 2, start0)
	of := func(n int, at time.Time, want ...string) {
		s.Helper()
		rows, err := s.db.OAuthRememberedOf(ctx, did(n), at)
		s.ok(err)
		var got []string
		for _, r := range rows {
			if r.DID != did(n) || r.Agent != string(r.Browser) || !r.ExpiresAt.Equal(start0.Add(time.Hour)) {
				s.Errorf("%+v", r)
			}
			got = append(got, string(r.Browser))
		}
		s.equal("browsers", got, want)
	}
	of(1, start0, "new", "old")
	of(2, start0, "new")
	of(1, start0.Add(time.Hour))
	s.must(func(tx *db.Tx) error { return tx.ForgetOAuth(ctx, []byte("new"), did(1)) })
	of(1, start0, "old")
	of(2, start0, "new")
	s.must(func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did(1))
		if err != nil {
			return err
		}
		a.TokensValidFrom = start0.Add(time.Microsecond)
		return tx.UpdateAccount(ctx, a)
	})
	of(1, start0)
}
