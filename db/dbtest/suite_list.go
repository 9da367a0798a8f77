package dbtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func (s *suite) accountLists() {
	ctx := s.Context()
	var want []db.Account
	for n := 1; n <= 3; n++ {
		want = append(want, *s.create(n))
	}
	// One that is under creation is nowhere on a list.
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, reservation(4)) })

	all, err := s.db.AccountsByDIDs(ctx, did(3), did(1), did(4), "did:plc:none", did(1))
	s.ok(err)
	slices.SortFunc(all, func(a, b db.Account) int { return strings.Compare(a.DID.String(), b.DID.String()) })
	s.equal("accounts by DID", all, []db.Account{want[0], want[2]})
	all, err = s.db.AccountsByDIDs(ctx)
	s.ok(err)
	s.equal("no accounts by DID", len(all), 0)

	email := func(n int) string { return want[n-1].Email }
	for _, tt := range []struct {
		prefix, after string
		limit         int
		want          []db.Account
	}{
		{"", "", 10, want},
		{"", "", 2, want[:2]},
		{"", email(2), 10, want[2:]},
		{email(1), "", 10, want[:1]},
		{email(1)[:4], "", 10, want},
		{email(1)[:4], email(1), 1, want[1:2]},
		{email(1)[:4], email(3), 10, nil},
		{"zz", "", 10, nil},
		{email(1), email(2), 10, nil},
		{"%", "", 10, nil},
		{"\x00", "", 10, nil},
		{"\xff", "", 10, nil},
	} {
		all, err := s.db.AccountsByEmail(ctx, tt.prefix, tt.after, tt.limit)
		s.ok(err)
		s.equal("accounts by email "+tt.prefix+" after "+tt.after, all, tt.want)
	}
}

func (s *suite) standings() {
	ctx := s.Context()
	one := s.create(1)
	hour := start0.Add(time.Hour)
	s.must(func(tx *db.Tx) error {
		return errors.Join(
			tx.InsertInvites(ctx, db.Invite{Code: "code", Uses: 5, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0}),
			tx.InsertAppPassword(ctx, db.AppPassword{DID: did(1), Name: "a", MAC: []byte("a"), CreatedAt: start0}),
			tx.InsertAppPassword(ctx, db.AppPassword{DID: did(1), Name: "b", MAC: []byte("b"), CreatedAt: start0}),
			tx.InsertSession(ctx, db.Session{ID: []byte("old"), DID: did(1), CreatedAt: start0, ExpiresAt: hour, NextID: []byte("new")}),
			tx.InsertSession(ctx, db.Session{ID: []byte("new"), DID: did(1), CreatedAt: start0, ExpiresAt: hour}),
			tx.InsertSession(ctx, db.Session{ID: []byte("over"), DID: did(1), CreatedAt: start0, ExpiresAt: start0.Add(-time.Hour)}))
	})
	r := reservation(2)
	r.InviteCode = "code"
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	for _, tt := range []struct {
		n    int
		want db.Standing
	}{
		{1, db.Standing{Account: *one, Sessions: 1, AppPasswords: 2}},
		{2, db.Standing{Account: r.Account, Creating: true, InviteCode: "code"}},
	} {
		got, err := s.db.StandingByDID(ctx, did(tt.n))
		s.ok(err)
		s.equal("standing by DID", *got, tt.want)
		got, err = s.db.StandingByHandle(ctx, tt.want.Handle)
		s.ok(err)
		s.equal("standing by handle", *got, tt.want)
		got, err = s.db.StandingByEmail(ctx, tt.want.Email)
		s.ok(err)
		s.equal("standing by email", *got, tt.want)
	}
	for _, name := range []string{"", "none", "\x00", "\xff"} {
		if _, err := s.db.StandingByEmail(ctx, name); !errors.Is(err, db.ErrNotFound) {
			s.Errorf("standing of %q: %v", name, err)
		}
	}
}

func (s *suite) standingLists() {
	ctx := s.Context()
	s.must(func(tx *db.Tx) error {
		return tx.InsertInvites(ctx, db.Invite{Code: "code", Uses: 5, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0})
	})
	want := make([]db.Standing, 7)
	for n := 1; n <= 5; n++ {
		a := s.create(n)
		switch n {
		case 2:
			a.DeactivatedAt = new(start0)
		case 3:
			a.DeactivatedAt, a.TakedownRef = new(start0), new("")
		case 4:
			a.Handle, a.Email = "user4.sub.test", "a@mail.test"
		case 5:
			a.Handle, a.Email = "", ""
		}
		s.must(func(tx *db.Tx) error { return tx.UpdateAccount(ctx, a) })
		want[n].Account = *a
	}
	r := reservation(6)
	r.InviteCode = "code"
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	want[6] = db.Standing{Account: r.Account, Creating: true, InviteCode: "code"}
	s.must(func(tx *db.Tx) error {
		return tx.InsertSession(ctx, db.Session{ID: []byte("id"), DID: did(1), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour)})
	})

	for _, tt := range []struct {
		filter db.StandingFilter
		want   []int
	}{
		{db.StandingFilter{}, []int{1, 2, 3, 4, 5, 6}},
		{db.StandingFilter{Status: "active"}, []int{1, 4, 5}},
		{db.StandingFilter{Status: "deactivated"}, []int{2}},
		{db.StandingFilter{Status: "takendown"}, []int{3}},
		{db.StandingFilter{Status: "creating"}, []int{6}},
		{db.StandingFilter{Status: "other"}, nil},
		{db.StandingFilter{Email: "user"}, []int{1, 2, 3, 6}},
		{db.StandingFilter{Email: "user3@mail.test"}, []int{3}},
		{db.StandingFilter{Email: "%"}, nil},
		{db.StandingFilter{Email: "\x00"}, nil},
		{db.StandingFilter{Domain: "test"}, []int{1, 2, 3, 6}},
		{db.StandingFilter{Domain: "sub.test"}, []int{4}},
		{db.StandingFilter{Domain: "user1.test"}, nil},
		{db.StandingFilter{Domain: "\xff"}, nil},
		{db.StandingFilter{Domain: "test", Status: "active"}, []int{1}},
		{db.StandingFilter{Email: "a", Domain: "sub.test", Status: "active"}, []int{4}},
		{db.StandingFilter{Email: "a", Domain: "test"}, nil},
	} {
		for limit := 1; limit <= 7; limit += 3 {
			var got, expected []db.Standing
			for after := ""; ; {
				page, err := s.db.Standings(ctx, tt.filter, after, limit)
				s.ok(err)
				got = append(got, page...)
				if len(page) < limit {
					break
				}
				last := page[limit-1]
				if after = last.DID.String(); tt.filter.Email != "" {
					after = last.Email
				}
			}
			for _, n := range tt.want {
				expected = append(expected, want[n])
			}
			s.equal(fmt.Sprintf("%+v in pages of %d", tt.filter, limit), got, expected)
		}
	}
	unconfirmed, err := s.db.Standings(ctx, db.StandingFilter{Unconfirmed: true}, "", 100)
	s.ok(err)
	for _, a := range unconfirmed {
		if a.EmailConfirmedAt != nil {
			s.Errorf("%s is confirmed", a.DID)
		}
	}
	all, err := s.db.Standings(ctx, db.StandingFilter{}, "", 100)
	s.ok(err)
	late := all[0].CreatedAt
	for _, a := range all {
		if a.CreatedAt.After(late) {
			late = a.CreatedAt
		}
	}
	for wait, want := range map[time.Duration]bool{0: true, time.Microsecond: false} {
		since, err := s.db.Standings(ctx, db.StandingFilter{Since: late.Add(wait)}, "", 100)
		s.ok(err)
		if got := len(since) > 0; got != want {
			s.Errorf("accounts since the youngest and %v: %v, want %v", wait, got, want)
		}
	}
	byAddress, err := s.db.Standings(ctx, db.StandingFilter{Email: "u", Status: "active"}, "b", 10)
	s.ok(err)
	s.equal("behind an address before the prefix", byAddress, []db.Standing{want[1]})
	none, err := s.db.Standings(ctx, db.StandingFilter{}, "\x00", 10)
	s.ok(err)
	s.equal("behind what is no text", none, []db.Standing(nil))
}

func (s *suite) inviteLists() {
	ctx := s.Context()
	s.create(1)
	second := start0.Add(time.Microsecond)
	s.must(func(tx *db.Tx) error {
		return tx.InsertInvites(ctx,
			db.Invite{Code: "a", Uses: 5, ForAccount: did(1).String(), CreatedBy: "admin", CreatedAt: start0},
			db.Invite{Code: "b", Uses: 5, ForAccount: did(1).String(), CreatedBy: "admin", CreatedAt: second},
			db.Invite{Code: "c", Uses: 5, ForAccount: did(2).String(), CreatedBy: "admin", CreatedAt: start0},
			db.Invite{Code: "d", Uses: 5, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0.Add(-time.Hour)})
	})
	for n, code := range []string{"c", "c", "d"} {
		r := reservation(n + 2)
		r.InviteCode = code
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	}
	codes := func(all []db.Invite) string {
		var b strings.Builder
		for _, i := range all {
			b.WriteString(i.Code)
			b.WriteString(strings.Repeat("+", len(i.Used)))
		}
		return b.String()
	}

	each, err := s.db.InvitesForEach(ctx, did(1).String(), did(2).String(), did(3).String())
	s.ok(err)
	s.equal("accounts with codes", len(each), 2)
	s.equal("codes of one", codes(each[did(1).String()]), "ab")
	s.equal("codes of two", codes(each[did(2).String()]), "c++")
	used, err := s.db.InvitesUsedBy(ctx, did(1), did(2), did(3), did(4))
	s.ok(err)
	s.equal("accounts that used codes", len(used), 3)
	for d, code := range map[syntax.DID]string{did(2): "c++", did(3): "c++", did(4): "d+"} {
		s.equal("code used by "+d.String(), codes([]db.Invite{used[d]}), code)
	}

	for _, tt := range []struct {
		after *db.InviteMark
		limit int
		want  string
	}{
		{nil, 10, "bc++ad+"},
		{nil, 2, "bc++"},
		{&db.InviteMark{CreatedAt: start0, Code: "c"}, 10, "ad+"},
		{&db.InviteMark{CreatedAt: second, Code: "a"}, 1, "c++"},
		{&db.InviteMark{CreatedAt: start0, Code: "\x00"}, 10, "d+"},
		{&db.InviteMark{CreatedAt: start0.Add(-2 * time.Hour), Code: "z"}, 10, ""},
	} {
		got, err := s.db.RecentInvites(ctx, tt.after, tt.limit)
		s.ok(err)
		s.equal("recent codes", codes(got), tt.want)
	}
	for _, tt := range []struct {
		after *db.InviteMark
		limit int
		want  string
	}{
		{nil, 10, "c++d+ba"},
		{nil, 1, "c++"},
		{nil, 2, "c++d+"},
		{nil, 3, "c++d+b"},
		{&db.InviteMark{Spent: 2, Code: "c"}, 2, "d+b"},
		{&db.InviteMark{Spent: 1, Code: "d"}, 10, "ba"},
		{&db.InviteMark{Spent: 1, Code: "e"}, 1, "d+"},
		{&db.InviteMark{Spent: 1, Code: "\x00"}, 10, "ba"},
		{&db.InviteMark{Spent: 0, Code: "d"}, 10, "ba"},
		{&db.InviteMark{Spent: 0, Code: "b"}, 10, "a"},
		{&db.InviteMark{Spent: 0, Code: "a"}, 10, ""},
		{&db.InviteMark{Spent: 0, Code: "\x00"}, 10, ""},
		{&db.InviteMark{Spent: -1, Code: "z"}, 10, ""},
	} {
		got, err := s.db.MostUsedInvites(ctx, tt.after, tt.limit)
		s.ok(err)
		s.equal("most used codes", codes(got), tt.want)
	}
}
