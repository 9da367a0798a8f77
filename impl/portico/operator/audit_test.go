package operator_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/identity/plc"
	"portico/impl/repo/store"
	"portico/impl/servertest"
)

// Every action on an account that a method takes leaves its row, with who acted and
// from where; and no method takes an action that is not tried here.
func TestEveryActionIsRecorded(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		const (
			server   = "com.atproto.server."
			identity = "com.atproto.identity."
			admin    = "com.atproto.admin."
			own      = "alt.portico.operator."
			ownerIs  = "X-Forwarded-For: 192.0.2.1"
			adminIs  = "X-Forwarded-For: 192.0.2.2"
			password = "another good password"
		)
		alice := s.SignUp("alice")
		did := alice.DID.String()
		by := func(who, address string) func(method, format string, args ...any) servertest.Answer {
			return func(method, format string, args ...any) servertest.Answer {
				t.Helper()
				return s.Post(method, fmt.Sprintf(format, args...), who, address)
			}
		}
		stranger, operator := by("", ownerIs), by(servertest.Admin, adminIs)
		moderator := func(method, format string, args ...any) servertest.Answer {
			return by(s.ServiceToken(servertest.ModService, s.ModKey, method, time.Minute), adminIs)(method, format, args...)
		}
		owner := func(method, format string, args ...any) servertest.Answer {
			t.Helper()
			return by(alice.Access, ownerIs)(method, format, args...)
		}
		signIn := func(password, more string) servertest.Answer {
			return stranger(server+"createSession", `{"identifier":"alice.test","password":%q%s}`, password, more)
		}
		again := func(password string) {
			t.Helper()
			s.Advance(time.Second) // tokens of this second may be of before
			alice = s.SignIn(alice, password)
		}
		subject := `"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + did + `"}`
		var secrets []string
		code := func(kind string) string {
			t.Helper()
			secrets = append(secrets, s.Code(kind))
			return s.Code(kind)
		}
		var operation string
		reserved, packed, version := "", "", ""
		depart := func(action, more string) servertest.Answer {
			return operator(own+"updateDeparture", `{"did":%q,"action":%q%s}`, did, action, more)
		}
		bob := s.SignUp("bob")
		s.Accepted(s.Post("com.atproto.repo.createRecord", fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{"text":"mine"}}`, bob.DID), bob.Access))
		archive := s.Accepted(s.Get("com.atproto.sync.getRepo?did=" + bob.DID.String())).Body

		tried := map[string]bool{server + "createAccount": true, own + "createAccount": true}
		if log := s.log(did, 500); len(log) != 1 || !strings.HasSuffix(log[0], " account_created by stranger from 127.0.0.1: alice.test") {
			t.Errorf("sign-up: recorded %q", log)
		}
		for _, step := range []struct {
			method string
			do     func() servertest.Answer
			status int
			want   string // "" for no row
		}{
			{server + "createSession", func() servertest.Answer { return signIn(servertest.GoodPassword, "") }, 200, "signed_in by DID from 192.0.2.1: "},
			{server + "createSession", func() servertest.Answer { return signIn("wrong", "") }, 401, "sign_in_failed by stranger from 192.0.2.1: wrong password"},
			{server + "refreshSession", func() servertest.Answer { return by(alice.Refresh, ownerIs)(server+"refreshSession", "") }, 200, ""},
			{server + "createAppPassword", func() servertest.Answer {
				a := owner(server+"createAppPassword", `{"name":"phone"}`)
				secrets = append(secrets, a.Text(t, "password"))
				return a
			}, 200, "app_password_created by DID from 192.0.2.1: phone"},
			{server + "createSession", func() servertest.Answer { return signIn(secrets[0], "") }, 200, "signed_in by DID from 192.0.2.1: app password phone"},
			{server + "revokeAppPassword", func() servertest.Answer { return owner(server+"revokeAppPassword", `{"name":"phone"}`) }, 200,
				"app_password_revoked by DID from 192.0.2.1: phone"},
			{server + "requestEmailConfirmation", func() servertest.Answer { return owner(server+"requestEmailConfirmation", "") }, 200, ""},
			{server + "confirmEmail", func() servertest.Answer {
				return owner(server+"confirmEmail", `{"email":"alice@example.com","token":%q}`, code("confirm_email"))
			}, 200, "email_confirmed by DID from 192.0.2.1: "},
			{server + "updateEmail", func() servertest.Answer {
				return owner(server+"updateEmail", `{"email":"alice@example.com","emailAuthFactor":true}`)
			}, 200, "sign_in_code_on by DID from 192.0.2.1: "},
			{server + "createSession", func() servertest.Answer { return signIn(servertest.GoodPassword, "") }, 401, ""}, // a code is mailed
			{server + "createSession", func() servertest.Answer {
				return signIn(servertest.GoodPassword, `,"authFactorToken":"AAAAA-AAAAA"`)
			}, 400, "sign_in_failed by stranger from 192.0.2.1: wrong sign-in code"},
			{own + "disableAuthFactor", func() servertest.Answer { return operator(own+"disableAuthFactor", `{"did":%q}`, did) }, 200,
				"sign_in_code_off by admin from 192.0.2.2: "},
			{server + "requestEmailUpdate", func() servertest.Answer { return owner(server+"requestEmailUpdate", "") }, 200, ""},
			{server + "updateEmail", func() servertest.Answer {
				return owner(server+"updateEmail", `{"email":"alice@example.org","token":%q}`, code("update_email"))
			}, 200, "email_changed by DID from 192.0.2.1: "},
			{server + "requestPasswordReset", func() servertest.Answer {
				return stranger(server+"requestPasswordReset", `{"email":"alice@example.org"}`)
			}, 200, ""},
			{server + "resetPassword", func() servertest.Answer {
				return stranger(server+"resetPassword", `{"token":%q,"password":%q}`, code("reset_password"), password)
			}, 200, "password_changed by stranger from 192.0.2.1: "},
			{server + "createInviteCode", func() servertest.Answer {
				return operator(server+"createInviteCode", `{"useCount":3,"forAccount":%q}`, did)
			}, 200, "invite_codes_created by admin from 192.0.2.2: 1, uses of each: 3"},
			{server + "createInviteCodes", func() servertest.Answer {
				return operator(server+"createInviteCodes", `{"codeCount":2,"useCount":1,"forAccounts":[%q]}`, did)
			}, 200, "invite_codes_created by admin from 192.0.2.2: 2, uses of each: 1"},
			{server + "reserveSigningKey", func() servertest.Answer {
				a := stranger(server+"reserveSigningKey", `{"did":%q}`, did)
				reserved = a.Text(t, "signingKey")
				return a
			}, 200, ""},

			{admin + "updateAccountSigningKey", func() servertest.Answer {
				return operator(admin+"updateAccountSigningKey", `{"did":%q,"signingKey":%q}`, did, reserved)
			}, 200, "signing_key_changed by admin from 192.0.2.2: to KEY"},
			{admin + "updateAccountHandle", func() servertest.Answer {
				return operator(admin+"updateAccountHandle", `{"did":%q,"handle":"anna.test"}`, did)
			}, 200, "handle_changed by admin from 192.0.2.2: from alice.test to anna.test"},
			{admin + "updateAccountEmail", func() servertest.Answer {
				return operator(admin+"updateAccountEmail", `{"account":%q,"email":"alice@example.net"}`, did)
			}, 200, "email_changed by admin from 192.0.2.2: "},
			{admin + "updateAccountPassword", func() servertest.Answer {
				return operator(admin+"updateAccountPassword", `{"did":%q,"password":%q}`, did, servertest.GoodPassword)
			}, 200, "password_changed by admin from 192.0.2.2: "},
			{own + "resetPassword", func() servertest.Answer {
				return operator(own+"resetPassword", `{"did":%q,"password":%q}`, did, servertest.GoodPassword)
			}, 200, "password_changed by admin from 192.0.2.2: "},
			{admin + "disableAccountInvites", func() servertest.Answer { return moderator(admin+"disableAccountInvites", `{"account":%q}`, did) }, 200,
				"invites_disabled by did:web:mod.example from 192.0.2.2: "},
			{admin + "enableAccountInvites", func() servertest.Answer { return moderator(admin+"enableAccountInvites", `{"account":%q}`, did) }, 200,
				"invites_enabled by did:web:mod.example from 192.0.2.2: "},
			{admin + "disableInviteCodes", func() servertest.Answer { return operator(admin+"disableInviteCodes", `{"accounts":[%q]}`, did) }, 200,
				"invite_codes_disabled by admin from 192.0.2.2: all"},
			{admin + "sendEmail", func() servertest.Answer {
				return moderator(admin+"sendEmail", `{"recipientDid":%q,"senderDid":%q,"content":"hello"}`, did, servertest.ModService)
			}, 200, "email_sent by did:web:mod.example from 192.0.2.2: "},
			{admin + "updateSubjectStatus", func() servertest.Answer {
				return operator(admin+"updateSubjectStatus", `{%s,"takedown":{"applied":true,"ref":"case 7"}}`, subject)
			}, 200, "taken_down by admin from 192.0.2.2: case 7"},
			{server + "createSession", func() servertest.Answer {
				return stranger(server+"createSession", `{"identifier":"anna.test","password":%q}`, servertest.GoodPassword)
			}, 401, "sign_in_failed by DID from 192.0.2.1: taken down"},
			{server + "createSession", func() servertest.Answer {
				return stranger(server+"createSession", `{"identifier":"anna.test","password":%q,"allowTakendown":true}`, servertest.GoodPassword)
			}, 200, "signed_in by DID from 192.0.2.1: while taken down"},
			{admin + "updateSubjectStatus", func() servertest.Answer {
				return operator(admin+"updateSubjectStatus", `{%s,"takedown":{"applied":false}}`, subject)
			}, 200, "takedown_lifted by admin from 192.0.2.2: "},
			{admin + "updateSubjectStatus", func() servertest.Answer {
				return operator(admin+"updateSubjectStatus", `{%s,"deactivated":{"applied":true}}`, subject)
			}, 200, "deactivated by admin from 192.0.2.2: "},
			{admin + "updateSubjectStatus", func() servertest.Answer {
				return operator(admin+"updateSubjectStatus", `{%s,"deactivated":{"applied":false}}`, subject)
			}, 200, "activated by admin from 192.0.2.2: "},
			{admin + "updateSubjectStatus", func() servertest.Answer { return operator(admin+"updateSubjectStatus", `{%s}`, subject) }, 200,
				"status_announced by admin from 192.0.2.2: "},

			{identity + "updateHandle", func() servertest.Answer {
				alice.Handle = "anna.test"
				again("")
				return owner(identity+"updateHandle", `{"handle":"alice.test"}`)
			}, 200, "handle_changed by DID from 192.0.2.1: from anna.test to alice.test"},
			{identity + "requestPlcOperationSignature", func() servertest.Answer { return owner(identity+"requestPlcOperationSignature", "") }, 200, ""},
			{identity + "signPlcOperation", func() servertest.Answer {
				a := owner(identity+"signPlcOperation", `{"token":%q}`, code("plc_operation"))
				var out struct{ Operation json.RawMessage }
				a.Decode(t, &out)
				operation = string(out.Operation)
				return a
			}, 200, "plc_operation_signed by DID from 192.0.2.1: "},
			{identity + "submitPlcOperation", func() servertest.Answer {
				return owner(identity+"submitPlcOperation", `{"operation":%s}`, operation)
			}, 200, "plc_operation_submitted by DID from 192.0.2.1: "},
			{identity + "refreshIdentity", func() servertest.Answer { return owner(identity+"refreshIdentity", `{"identifier":%q}`, did) }, 200, ""},
			{own + "repairAccount", func() servertest.Answer { return operator(own+"repairAccount", `{"did":%q}`, did) }, 200, ""},
			{own + "repairAccount", func() servertest.Answer {
				s.ChangeDID(alice.DID, func(d *plc.Data) { d.SetHandle("else.test") })
				return operator(own+"repairAccount", `{"did":%q}`, did)
			}, 200, "repaired by admin from 192.0.2.2: did_handle"},
			{own + "importRepo", func() servertest.Answer {
				return s.Post(own+"importRepo?did="+did, archive, servertest.Admin, adminIs, "Content-Type: application/vnd.ipld.car")
			}, 200, "repository_imported by admin from 192.0.2.2: " + store.CID(servertest.Must(s.DB.Repo(t.Context(), bob.DID)).CommitCID).String()},

			// To another host and back.
			{own + "exportAccount", func() servertest.Answer { return operator(own+"exportAccount", `{"did":%q}`, did) }, 200, ""},
			{own + "updateDeparture", func() servertest.Answer { return depart("stop", `,"host":"https://elsewhere.example"`) }, 200,
				"deactivated by admin from 192.0.2.2: to move to https://elsewhere.example"},
			{own + "updateDeparture", func() servertest.Answer { return depart("abandon", "") }, 200,
				"departure_undone by admin from 192.0.2.2: to https://elsewhere.example"},
			{own + "updateDeparture", func() servertest.Answer { return depart("stop", `,"host":"https://elsewhere.example"`) }, 200,
				"deactivated by admin from 192.0.2.2: to move to https://elsewhere.example"},
			{own + "exportAccount", func() servertest.Answer {
				a := operator(own+"exportAccount", `{"did":%q}`, did)
				var out struct {
					Account json.RawMessage
					Version string
				}
				a.Decode(t, &out)
				packed, version = string(out.Account), out.Version
				return a
			}, 200, "proofs_given_out by admin from 192.0.2.2: to https://elsewhere.example"},
			{own + "updateDeparture", func() servertest.Answer {
				commit := store.CID(servertest.Must(s.DB.Repo(t.Context(), alice.DID)).CommitCID).String()
				key := servertest.Must(s.Rotation.PublicKey()).DIDKey()
				return depart("point", fmt.Sprintf(`,"point":{"signingKey":%q,"rotationKeys":[%q],"handle":"alice.test","version":%q,"commit":%q}`,
					s.SigningKey(alice.DID), key, version, commit))
			}, 200, ""},
			{own + "updateDeparture", func() servertest.Answer { return depart("leave", "") }, 200,
				"departed by admin from 192.0.2.2: to https://elsewhere.example"},
			{own + "receiveAccount", func() servertest.Answer {
				open, _, _ := strings.Cut(packed, `,"proofs"`) // the last of it
				return operator(own+"receiveAccount", `{"account":%s},"from":"https://elsewhere.example"}`, open)
			}, 200, ""},
			{own + "receiveAccount", func() servertest.Answer {
				return operator(own+"receiveAccount", `{"account":%s,"from":"https://elsewhere.example","final":true}`, packed)
			}, 200, ""},
			{own + "updateArrival", func() servertest.Answer {
				s.ChangeDID(alice.DID, func(d *plc.Data) {
					d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: servertest.Endpoint}
				})
				return operator(own+"updateArrival", `{"did":%q,"action":"finish"}`, did)
			}, 200, "arrived by admin from 192.0.2.2: from https://elsewhere.example"},

			{server + "deactivateAccount", func() servertest.Answer {
				alice.Handle = "alice.test"
				again("") // its sessions ended
				return owner(server+"deactivateAccount", `{"deleteAfter":"2027-01-01T00:00:00Z"}`)
			}, 200, "deactivated by DID from 192.0.2.1: to be deleted after 2027-01-01T00:00:00Z"},
			{server + "activateAccount", func() servertest.Answer { return owner(server+"activateAccount", "") }, 200, "activated by DID from 192.0.2.1: "},
			{server + "deleteSession", func() servertest.Answer { return by(alice.Refresh, ownerIs)(server+"deleteSession", "") }, 200, ""},
			{server + "requestAccountDelete", func() servertest.Answer { return owner(server+"requestAccountDelete", "") }, 200, ""},
			{server + "deleteAccount", func() servertest.Answer {
				return stranger(server+"deleteAccount", `{"did":%q,"password":"wrong","token":"AAAAA-AAAAA"}`, did)
			}, 401, "sign_in_failed by stranger from 192.0.2.1: wrong password"},
			{admin + "deleteAccount", func() servertest.Answer { return operator(admin+"deleteAccount", `{"did":%q}`, did) }, 200,
				"account_deleted by admin from 192.0.2.2: "},
		} {
			count := len(s.log(did, 500))
			a := step.do()
			if a.Status != step.status {
				t.Fatalf("%s: %s", step.method, a.Outcome())
			}
			tried[step.method] = true
			log := s.log(did, 500)
			got := log[:max(0, len(log)-count)]
			if step.method == admin+"deleteAccount" {
				got = log // the rows before are gone with the account
			}
			for i, line := range got {
				_, line, _ = strings.Cut(line, " ") // the time
				if got[i] = strings.ReplaceAll(line, did, "DID"); reserved != "" {
					got[i] = strings.ReplaceAll(got[i], reserved, "KEY")
				}
			}
			if step.want == "" && len(got) != 0 || step.want != "" && !slices.Contains(got, step.want) {
				t.Errorf("%s: recorded %q, want %q", step.method, got, step.want)
			}
			for _, secret := range append(secrets, servertest.GoodPassword, password, servertest.AdminPassword) {
				if strings.Contains(strings.Join(log, "\n"), secret) {
					t.Errorf("%s: the record has a secret", step.method)
				}
			}
			if step.method == server+"resetPassword" {
				again(password)
			}
			if step.method == admin+"updateAccountPassword" || step.method == own+"resetPassword" {
				s.Advance(time.Second)
			}
		}

		// TestApproveQuarantined and TestDeleteQuarantined look at these.
		tried[own+"approveQuarantined"], tried[own+"deleteQuarantined"] = true, true
		// A blob comes only of an account whose arrival is recorded.
		tried[own+"uploadBlob"] = true
		// The others act on no account.
		for _, method := range []string{own + "putDomain", own + "removeDomain", own + "clearBudgets", own + "deleteMail", own + "retryMail", own + "startMove", own + "updateMove"} {
			tried[method] = true
		}
		for _, namespace := range []string{server, identity, admin, own} {
			for _, r := range servertest.New(t, servertest.In(strings.TrimSuffix(namespace, "."))).Routes() {
				if r.Kind == xrpc.Procedure && !tried[r.NSID] {
					t.Errorf("%s: nobody looked whether it is recorded", r.NSID)
				}
			}
		}
	}, func(o *servertest.Options) { o.TrustedProxies = 1 })
}

// Nobody fills the record with one long reason after another.
func TestLongDetails(t *testing.T) {
	s := newOperator(t)
	alice := s.SignUp("alice")
	body := fmt.Sprintf(`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"takedown":{"applied":true,"ref":%q}}`,
		alice.DID, strings.Repeat("é", 50_000))
	const method = "com.atproto.admin.updateSubjectStatus"
	s.Accepted(s.Post(method, body, s.ServiceToken(servertest.ModService, s.ModKey, method, time.Minute)))
	entries := servertest.Must(s.DB.Audit(t.Context(), alice.DID, 1))
	if got := entries[0].Detail; got != strings.Repeat("é", 1050)+"…" {
		t.Errorf("a detail of %d bytes", len(got))
	}
}

// What is no longer to be kept is forgotten, and nothing else.
func TestPurgeOfTheRecord(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		alice := s.SignUp("alice")
		s.SignIn(alice, "")
		s.Advance(24 * time.Hour)
		s.SignIn(alice, "")
		s.Write(func(tx *db.Tx) error { return tx.PurgeAudit(t.Context(), s.Now().Add(-24*time.Hour)) })
		if log := s.log(alice.DID.String(), 10); len(log) != 1 || !strings.HasPrefix(log[0], "2026-03-02T12:00:00.000Z") {
			t.Errorf("log %q", log)
		}
	})
}
