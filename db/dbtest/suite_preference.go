package dbtest

import (
	"context"
	"encoding/json"
	"fmt"

	"portico/db"
)

func preferences(texts ...string) []json.RawMessage {
	var list []json.RawMessage
	for _, text := range texts {
		list = append(list, json.RawMessage(text))
	}
	return list
}

// preferences come back as they were put, in their order and byte for byte.
func (s *suite) preferences() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	has := func(n int, want ...string) {
		s.Helper()
		got, err := s.db.Preferences(ctx, did(n))
		s.ok(err)
		s.equal("preferences", got, preferences(want...))
	}
	put := func(n int, texts ...string) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.PutPreferences(ctx, did(n), preferences(texts...)) })
	}
	has(1)
	put(1) // nothing, where there is nothing
	odd := `{ "b":1.50, "a":"ä` + "\u2028" + `\u0000<&>", "a":1e400 }`
	put(1, `{"x":2}`, odd, `{"x":1}`, `{"x":2}`)
	put(2, `{"y":1}`)
	has(1, `{"x":2}`, odd, `{"x":1}`, `{"x":2}`)
	put(1, `{"x":3}`)
	has(1, `{"x":3}`)
	has(2, `{"y":1}`)

	// What is no JSON is never stored: nothing could be read afterwards.
	for _, broken := range []string{"", "{", "1,2", `{"x":1}]`} {
		if err := s.write(func(tx *db.Tx) error { return tx.PutPreferences(ctx, did(1), preferences(broken)) }); err == nil {
			s.Errorf("stored %q", broken)
		}
	}
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.PutPreferences(ctx, did(9), preferences("{}")) })
	put(1)
	has(1)
	has(9)
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(2)) })
	s.create(2)
	has(2)
}

// racePreferences: of lists that several put who go by what there is, none is lost.
func (s *suite) racePreferences() {
	s.create(1)
	const n = 8
	s.race(n, func(ctx context.Context, i int) error {
		return s.db.Write(ctx, func(tx *db.Tx) error {
			if _, err := tx.LockAccount(ctx, did(1)); err != nil {
				return err
			}
			list, err := tx.Preferences(ctx, did(1))
			if err != nil {
				return err
			}
			return tx.PutPreferences(ctx, did(1), append(list, json.RawMessage(fmt.Sprint(i))))
		})
	})
	list, err := s.db.Preferences(s.Context(), did(1))
	s.ok(err)
	if len(list) != n {
		s.Errorf("%s, want %d entries", list, n)
	}
}
