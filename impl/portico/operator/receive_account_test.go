package operator_test

import (
	"fmt"
	"testing"

	"portico/db"
	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

// An account is received only from the host that its DID names, with a hash that is no dearer
// than those of here, and never in the place of one that lives here.
func TestReceiveAccountIsRefused(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		bob := s.SignUp("bob")
		const elsewhere = "https://elsewhere.example"
		receive := func(from, hash string) servertest.Answer {
			proofs, final := "", false
			if hash != "" {
				proofs, final = fmt.Sprintf(`,"proofs":{"passwordHash":%q,"appPasswords":[]}`, hash), true
			}
			return s.do("receiveAccount", fmt.Sprintf(`{"account":{"did":%q,"handle":"bob.test","email":"bob@example.com","emailAuthFactor":false,`+
				`"invitesDisabled":false,"takedowns":[],"preferences":[]%s},"from":%q,"final":%t}`, bob.DID, proofs, from, final))
		}
		if state := s.Accepted(receive(elsewhere, "")).Text(t, "state"); state != "here" {
			t.Errorf("an account of here is %q", state)
		}
		hash := s.Account(bob.DID).PasswordHash

		s.Write(func(tx *db.Tx) error {
			return tx.PutAccountMove(t.Context(), db.AccountMove{DID: bob.DID, State: db.MoveGone, Host: elsewhere, Since: s.Now()})
		})
		s.Refused(receive(servertest.Endpoint, ""), 400, "AccountExists", "The DID has an account here already")

		s.ChangeDID(bob.DID, func(d *plc.Data) { d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: elsewhere} })
		s.Remove(bob.DID)
		s.Refused(receive("https://another.example", ""), 400, "MoveRefused", `The DID does not name https://another.example, but "https://elsewhere.example"`)
		if _, err := s.DB.AccountByDID(t.Context(), bob.DID); err == nil {
			t.Error("there is an account nevertheless")
		}
		s.Accepted(receive(elsewhere, ""))
		s.Refused(receive("https://another.example", ""), 400, "MoveRefused", `The DID does not name https://another.example, but "https://elsewhere.example"`)
		const rest = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
		for _, dear := range []string{"$argon2id$v=19$m=1048576,t=1,p=1" + rest, "$argon2id$v=19$m=64,t=64,p=1" + rest} {
			s.Refused(receive(elsewhere, dear), 400, "MoveRefused",
				"To verify the hash of the password costs more than is allowed here: see PORTICO_PASSWORD_HASH_MEMORY")
		}
		s.Refused(receive(elsewhere, "secret"), 400, "InvalidRequest", "the hash of the password is none")
		s.Accepted(receive(elsewhere, hash))
		s.Refused(s.do("updateArrival", fmt.Sprintf(`{"did":%q,"action":"finish"}`, bob.DID)), 400, "InvalidRequest",
			"DID document atproto_pds service endpoint does not match PDS public url")
		s.Accepted(s.do("updateArrival", fmt.Sprintf(`{"did":%q,"action":"abandon"}`, bob.DID)))
		if _, err := s.DB.AccountByDID(t.Context(), bob.DID); err == nil {
			t.Error("it is there after it was abandoned")
		}
	})
}
