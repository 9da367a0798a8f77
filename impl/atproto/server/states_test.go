package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"portico/db"
	"portico/impl/servertest"
)

// What each method answers in each state of its account: the table of the
// protocol, better in the cells that are marked.
//
// A cell is a status, a name and a message, or a status and a part of the body.
// $DID and $HANDLE are the account's.
var answersByState = []struct {
	method  string
	variant string
	verb    string
	body    string
	// code is the kind of code that $CODE in the body stands for, ask the method,
	// with its body, by which it was asked for while the account was active.
	code, ask string
	token     string // "" for the access token, "refresh", "admin" or "none"
	// The cells: deactivated, taken down with an older token, taken down with the
	// token of the appeal, deleted.
	deactivated, takenDown, appeal, deleted string
}{
	{
		method: "createSession", body: `{"identifier":"$HANDLE","password":"$PASSWORD"}`, token: "none",
		deactivated: `200 "active":false,"status":"deactivated"`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `401 AccountTakedown Account has been taken down`,
		deleted:     `401 AuthenticationRequired Invalid identifier or password`,
	},
	{
		method: "createSession", variant: "allowTakendown",
		body: `{"identifier":"$DID","password":"$PASSWORD","allowTakendown":true}`, token: "none",
		deactivated: `200 "active":false,"status":"deactivated"`,
		takenDown:   `200 "active":false,"status":"takendown"`,
		appeal:      `200 "active":false,"status":"takendown"`,
		deleted:     `401 AuthenticationRequired Invalid identifier or password`,
	},
	{
		method: "refreshSession", token: "refresh",
		deactivated: `200 "active":false,"status":"deactivated"`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `401 AccountTakedown Account has been taken down`,
		deleted:     `400 InvalidRequest Could not find user info for account: $DID`,
	},
	{
		method: "deleteSession", token: "refresh",
		deactivated: `200`, takenDown: `200`, appeal: `200`, deleted: `200`,
	},
	{
		method: "getSession", verb: "GET",
		deactivated: `200 "active":false,"status":"deactivated"`,
		takenDown:   `400 InvalidRequest Could not find user info for account: $DID`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `400 InvalidRequest Could not find user info for account: $DID`,
	},
	{
		method: "checkAccountStatus", verb: "GET",
		deactivated: `200 "activated":false,"validDid":true`,
		takenDown:   `200 "activated":false,"validDid":true`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `400 NotFound Repo not found`,
	},
	{
		method: "getServiceAuth?aud=did:web:other.test", verb: "GET",
		deactivated: `200 "token":"`,
		takenDown:   `401 AccountTakedown Account has been taken down`, // DESIGN 14
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`, // DESIGN 26
	},
	{
		method: "getServiceAuth?aud=did:web:other.test&lxm=com.atproto.server.createAccount", verb: "GET",
		deactivated: `200 "token":"`,
		takenDown:   `200 "token":"`,
		appeal:      `200 "token":"`,                         // DESIGN 15
		deleted:     `403 AccountNotFound Account not found`, // DESIGN 26
	},
	{
		method: "createAppPassword", body: `{"name":"app"}`,
		deactivated: `200 "name":"app"`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`,
	},
	{
		method: "listAppPasswords", verb: "GET",
		deactivated: `200 {"passwords":[]}`,
		takenDown:   `401 AccountTakedown Account has been taken down`, // DESIGN 14
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`, // DESIGN 10: no rows are left over
	},
	{
		method: "revokeAppPassword", body: `{"name":"app"}`,
		deactivated: `200`,
		takenDown:   `401 AccountTakedown Account has been taken down`, // DESIGN 14
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`, // DESIGN 10
	},
	{
		method:      "requestEmailConfirmation",
		deactivated: `200`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`,
	},
	{
		method: "confirmEmail", body: `{"email":"$EMAIL","token":"$CODE"}`, code: "confirm_email", ask: "requestEmailConfirmation",
		deactivated: `200`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`,
	},
	{
		method:      "requestEmailUpdate",
		deactivated: `200 {"tokenRequired":false}`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`,
	},
	{
		method: "updateEmail", body: `{"email":"new-$EMAIL"}`,
		deactivated: `200`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`,
	},
	{
		method:      "requestAccountDelete",
		deactivated: `200`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`,
	},
	{
		method: "deleteAccount", body: `{"did":"$DID","password":"$PASSWORD","token":"$CODE"}`, token: "none",
		code: "delete_account", ask: "requestAccountDelete",
		deactivated: `200`, takenDown: `200`, appeal: `200`,
		deleted: `400 InvalidRequest account not found`,
	},
	{
		method: "requestPasswordReset", body: `{"email":"$EMAIL"}`, token: "none",
		deactivated: `200`, takenDown: `200`, appeal: `200`,
		deleted: `200`, // DESIGN 7
	},
	{
		method: "resetPassword", body: `{"token":"$CODE","password":"a new password"}`, token: "none",
		code: "reset_password", ask: `requestPasswordReset {"email":"$EMAIL"}`,
		deactivated: `200`, takenDown: `200`, appeal: `200`,
		deleted: `400 InvalidToken Token is invalid`,
	},
	{
		method: "getAccountInviteCodes", verb: "GET",
		deactivated: `400 NotFound Account not found`,
		takenDown:   `401 AccountTakedown Account has been taken down`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`,
	},
	{
		method:      "activateAccount",
		deactivated: `200`,
		takenDown:   `400 AccountNotFound user not found`,
		appeal:      `400 InvalidToken Bad token scope`,
		deleted:     `403 AccountNotFound Account not found`, // DESIGN 26
	},
	{
		method: "deactivateAccount", body: `{}`,
		deactivated: `200`, takenDown: `200`, appeal: `200`,
		deleted: `400 InvalidRequest Account not found`,
	},
	{
		method: "createAccount", variant: "same handle", token: "none",
		body:        `{"handle":"$HANDLE","email":"other-$EMAIL","password":"12345678"}`,
		deactivated: `400 HandleNotAvailable Handle already taken: $HANDLE`, // DESIGN 5, 6
		takenDown:   `400 HandleNotAvailable Handle already taken: $HANDLE`,
		appeal:      `400 HandleNotAvailable Handle already taken: $HANDLE`,
		deleted:     `200 "handle":"$HANDLE"`,
	},
	{
		method: "createAccount", variant: "same email", token: "none",
		body:        `{"handle":"other-$HANDLE","email":"$EMAIL","password":"12345678"}`,
		deactivated: `400 InvalidRequest Email already taken: $EMAIL`, // DESIGN 6
		takenDown:   `400 InvalidRequest Email already taken: $EMAIL`,
		appeal:      `400 InvalidRequest Email already taken: $EMAIL`,
		deleted:     `200 "handle":"other-$HANDLE"`,
	},
	// Those that concern no account.
	{
		method: "describeServer", verb: "GET", token: "none",
		deactivated: `200 "did":"did:web:pds.test"`, takenDown: `200 "did":`, appeal: `200 "did":`, deleted: `200 "did":`,
	},
	{
		method: "reserveSigningKey", body: `{"did":"$DID"}`, token: "none",
		deactivated: `200 "signingKey":"did:key:zQ3sh`, takenDown: `200 "signingKey":`,
		appeal: `200 "signingKey":`, deleted: `200 "signingKey":`,
	},
	{
		method: "createInviteCode", body: `{"useCount":1,"forAccount":"$DID"}`, token: "admin",
		deactivated: `200 "code":"pds-test-`, takenDown: `200 "code":`, appeal: `200 "code":`, deleted: `200 "code":`,
	},
	{
		method: "createInviteCodes", body: `{"codeCount":1,"useCount":1,"forAccounts":["$DID"]}`, token: "admin",
		deactivated: `200 "codes":["pds-test-`, takenDown: `200 "account":"$DID"`,
		appeal: `200 "account":"$DID"`, deleted: `200 "account":"$DID"`,
	},
}

func TestAnswersByState(t *testing.T) {
	states := []string{"deactivated", "taken down", "appeal", "deleted"}
	f := newFixture(t)
	methods := map[string]bool{}
	for i, tt := range answersByState {
		method, _, _ := strings.Cut(tt.method, "?")
		methods[method] = true
		for j, want := range []string{tt.deactivated, tt.takenDown, tt.appeal, tt.deleted} {
			t.Run(strings.Join([]string{tt.method, tt.variant, states[j]}, "/"), func(t *testing.T) {
				u := f.SignUp(fmt.Sprintf("user%dx%d", i, j))
				fill := strings.NewReplacer("$DID", u.DID.String(), "$HANDLE", u.Handle, "$EMAIL", u.Email, "$PASSWORD", goodPassword).Replace
				body := fill(tt.body)
				if tt.ask != "" {
					ask, with, _ := strings.Cut(tt.ask, " ")
					f.Accepted(f.Post(ask, fill(with), u.Access))
					body = strings.ReplaceAll(body, "$CODE", f.Code(tt.code))
				}
				u = f.bring(u, states[j])
				header := ""
				switch tt.token {
				case "":
					header = u.Access
				case "refresh":
					header = u.Refresh
				case "admin":
					header = servertest.Admin
				}
				verb := http.MethodPost
				if tt.verb != "" {
					verb = tt.verb
				}
				checkAnswer(t, f.Call(verb, tt.method, body, header), fill(want))
			})
		}
	}
	if len(methods) != 25 {
		t.Errorf("the table has %d methods, want 25", len(methods))
	}
}

// bring puts the account of u into a state and returns u with the tokens of it.
func (f *fixture) bring(u user, state string) user {
	f.Helper()
	switch state {
	case "deactivated":
		f.deactivate(u)
	case "taken down":
		f.TakeDown(u.DID)
	case "appeal":
		f.TakeDown(u.DID)
		a := f.Accepted(f.Post("createSession", fmt.Sprintf(`{"identifier":%q,"password":%q,"allowTakendown":true}`, u.Handle, goodPassword)))
		u.Access, u.Refresh = servertest.Bearer(a.Text(f, "accessJwt")), servertest.Bearer(a.Text(f, "refreshJwt"))
	case "deleted":
		err := f.DB.Write(f.Context(), func(tx *db.Tx) error { return f.service.Accounts.Delete(f.Context(), tx, u.DID) })
		if err != nil {
			f.Fatal(err)
		}
	default:
		f.Fatalf("no state %q", state)
	}
	return u
}

// checkAnswer compares an answer with a cell of the table.
func checkAnswer(t *testing.T, a answer, want string) {
	t.Helper()
	status, rest, _ := strings.Cut(want, " ")
	if got := fmt.Sprint(a.Status); got != status {
		t.Fatalf("answer %s %s, want %s", got, a.Body, want)
	}
	if status == "200" {
		if rest == "" && a.Body != "" || !strings.Contains(a.Body, rest) {
			t.Errorf("answer %s, want %s", a.Body, rest)
		}
		return
	}
	var body struct{ Error, Message string }
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		t.Fatalf("answer %s: %v", a.Body, err)
	}
	if got := body.Error + " " + body.Message; got != rest {
		t.Errorf("answer %s, want %s", got, rest)
	}
}
