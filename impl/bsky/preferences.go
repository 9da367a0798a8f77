package bsky

import (
	"encoding/json"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
)

// The preferences that are not like all others.
const (
	personalDetails = "app.bsky.actor.defs#personalDetailsPref" // for sessions with the account's password alone
	declaredAge     = "app.bsky.actor.defs#declaredAgePref"     // made of it, never stored
)

// maxPreferences is how large the preferences of an account may be in all, in bytes. The
// body of a request may be as large, so that whatever another server has of an account can
// move here, and a thousand muted words fit.
const maxPreferences = 150 << 10

// A preference is one entry of a list, and the $type that it has.
type preference struct {
	kind string
	text json.RawMessage
}

// stored is how a list of the database is read.
func stored(texts []json.RawMessage) ([]preference, error) {
	list := make([]preference, len(texts))
	for i, text := range texts {
		kind, err := xrpc.VariantType(text)
		if err != nil {
			return nil, err
		}
		list[i] = preference{kind, text}
	}
	return list, nil
}

// ageOf is what a list says of its owner's age at now, if it says when that was born.
func ageOf(list []preference, now time.Time) (json.RawMessage, bool) {
	for _, p := range list {
		if p.kind != personalDetails {
			continue
		}
		var details map[string]json.RawMessage // not a struct: its keys would match in any case
		var text string
		if json.Unmarshal(p.text, &details) != nil || json.Unmarshal(details["birthDate"], &text) != nil {
			return nil, false
		}
		born, err := syntax.ParseDatetimeLenient(text)
		if err != nil {
			return nil, false
		}
		age := fullYears(born.Time().In(now.Location()), now)
		said, err := json.Marshal(struct {
			IsOverAge13 bool   `json:"isOverAge13"`
			IsOverAge16 bool   `json:"isOverAge16"`
			IsOverAge18 bool   `json:"isOverAge18"`
			Type        string `json:"$type"`
		}{age >= 13, age >= 16, age >= 18, declaredAge})
		return said, err == nil
	}
	return nil, false
}

// fullYears is how many birthdays somebody has had. Who was born on the 29th of February
// has one on the first of March of years without that day.
func fullYears(born, now time.Time) int {
	years := now.Year() - born.Year()
	if now.Month() < born.Month() || now.Month() == born.Month() && now.Day() < born.Day() {
		years--
	}
	return years
}
