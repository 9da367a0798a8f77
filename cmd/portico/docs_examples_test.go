package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every example of the document does what its method is for: each is called by an
// account of its own, with what the document's samples stand for in their place, and
// answered with 200.
func TestDocsExamples(t *testing.T) {
	environ := []string{"PDS_DATA_DIRECTORY=" + t.TempDir()}
	s, _ := startFor(t, environ...)
	base := s.PublicURL.String()
	d := readDocument(t, base)
	if d.Samples["handle"] != "alice.test" || d.Samples["code"] != "XXXXX-XXXXX" {
		t.Fatalf("samples %v", d.Samples)
	}
	known, err := readMethods(".test")
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := os.ReadFile(s.SecretsFile)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^PDS_ADMIN_PASSWORD=(.*)$`).FindSubmatch(secrets)
	if m == nil {
		t.Fatal("no admin password in the secrets file")
	}
	number := 0
	for _, g := range known.Groups {
		for _, method := range g.Methods {
			nsid := g.Namespace + "." + method.Name
			if nsid == "com.atproto.temp.requestPhoneVerification" || nsid == "com.atproto.moderation.createReport" || nsid == "com.atproto.sync.getHostStatus" ||
				method.Name == "getBlob" || nsid == "alt.portico.operator.uploadBlob" || method.Name == "importRepo" || method.Name == "startMove" || method.Name == "updateMove" || d.Paths["/xrpc/"+nsid] == nil {
				continue // the first two work where a provider or a service is configured, the third names a host, those of blobs need one, importRepo takes an archive, the last need a second rotation key; all are tested with their namespaces
			}
			t.Run(nsid, func(t *testing.T) {
				number++
				r := &reader{t: t, document: d, server: base, environ: environ, admin: string(m[1]), mine: map[string]string{
					"handle": fmt.Sprintf("reader%d.test", number), "newHandle": fmt.Sprintf("other%d.test", number),
					"email": fmt.Sprintf("reader%d@example.com", number), "newEmail": fmt.Sprintf("other%d@example.com", number),
				}}
				if nsid != "com.atproto.server.createAccount" {
					r.call("com.atproto.server.createAccount")
				}
				for _, before := range examplesBefore[nsid] {
					r.call(before)
				}
				r.call(nsid)
			})
		}
	}
}

// examplesBefore are the methods whose examples come before that of another, because
// it needs what they make.
var examplesBefore = map[string][]string{
	"com.atproto.server.confirmEmail":           {"com.atproto.server.requestEmailConfirmation"},
	"com.atproto.server.updateEmail":            {"com.atproto.server.requestEmailConfirmation", "com.atproto.server.confirmEmail", "com.atproto.server.requestEmailUpdate"},
	"com.atproto.server.resetPassword":          {"com.atproto.server.requestPasswordReset"},
	"com.atproto.server.revokeAppPassword":      {"com.atproto.server.createAppPassword"},
	"com.atproto.server.activateAccount":        {"com.atproto.server.deactivateAccount"},
	"com.atproto.server.deleteAccount":          {"com.atproto.server.requestAccountDelete"},
	"com.atproto.identity.signPlcOperation":     {"com.atproto.identity.requestPlcOperationSignature"},
	"com.atproto.identity.submitPlcOperation":   {"com.atproto.identity.requestPlcOperationSignature", "com.atproto.identity.signPlcOperation"},
	"com.atproto.repo.getRecord":                {"com.atproto.repo.putRecord"},
	"com.atproto.admin.disableInviteCodes":      {"com.atproto.server.createInviteCode"},
	"com.atproto.admin.updateAccountSigningKey": {"com.atproto.server.reserveSigningKey"},
	"alt.portico.operator.removeDomain":         {"alt.portico.operator.putDomain"},
}

// reader does what somebody does who reads /docs.
type reader struct {
	t               *testing.T
	document        *document
	server, admin   string
	environ         []string
	access, refresh string
	operation       any               // what signPlcOperation answered
	mine            map[string]string // what is in the place of the samples
}

// own puts what is the reader's own into an example.
func (r *reader) own(example any) any {
	switch v := example.(type) {
	case string:
		for name, sample := range r.document.Samples {
			if mine, ok := r.mine[name]; ok {
				v = strings.ReplaceAll(v, sample, mine)
			}
		}
		return v
	case []any:
		own := make([]any, len(v))
		for i := range v {
			own[i] = r.own(v[i])
		}
		return own
	case map[string]any:
		own := map[string]any{}
		for name := range v {
			own[name] = r.own(v[name])
		}
		return own
	}
	return example
}

// call calls a method by its example, and keeps of the answer what others need.
func (r *reader) call(nsid string) {
	r.t.Helper()
	for verb, op := range r.document.Paths["/xrpc/"+nsid] {
		query := url.Values{}
		for _, p := range op.Parameters {
			if list, ok := r.own(p.Example).([]any); ok {
				for _, item := range list {
					query.Add(p.Name, fmt.Sprint(item))
				}
			} else if p.Example != nil {
				query.Set(p.Name, fmt.Sprint(r.own(p.Example)))
			}
		}
		var body io.Reader
		if op.RequestBody != nil {
			example := r.own(op.RequestBody.Content["application/json"].Example)
			if nsid == "com.atproto.identity.submitPlcOperation" {
				example.(map[string]any)["operation"] = r.operation
			}
			text, err := json.Marshal(example)
			if err != nil {
				r.t.Fatal(err)
			}
			body = bytes.NewReader(text)
		}
		request, err := http.NewRequest(strings.ToUpper(verb), r.server+"/xrpc/"+nsid+"?"+query.Encode(), body)
		if err != nil {
			r.t.Fatal(err)
		}
		if body != nil {
			request.Header.Set("Content-Type", "application/json")
		}
		for _, scheme := range op.Security {
			switch {
			case scheme["session"] != nil:
				request.Header.Set("Authorization", "Bearer "+r.access)
			case scheme["refresh"] != nil:
				request.Header.Set("Authorization", "Bearer "+r.refresh)
			case scheme["admin"] != nil:
				request.SetBasicAuth("admin", r.admin)
			}
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			r.t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != 200 {
			r.t.Fatalf("%s: %d %s %v", nsid, answer.StatusCode, text, err)
		}
		if typ := answer.Header.Get("Content-Type"); typ != "" && !strings.HasPrefix(typ, "application/json") {
			text = nil // there is nothing for others in archives
		}
		r.learn(nsid, text)
	}
}

func (r *reader) learn(nsid string, answer []byte) {
	r.t.Helper()
	var a struct {
		DID, AccessJWT, RefreshJWT, Code, SigningKey string
		TokenRequired                                bool
		Operation                                    any
	}
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &a); err != nil {
			r.t.Fatal(err)
		}
	}
	switch nsid {
	case "com.atproto.server.createAccount":
		r.access, r.refresh, r.mine["did"] = a.AccessJWT, a.RefreshJWT, a.DID
	case "com.atproto.server.createInviteCode":
		r.mine["inviteCode"] = a.Code
	case "com.atproto.server.reserveSigningKey":
		r.mine["signingKey"] = a.SigningKey
	case "com.atproto.identity.signPlcOperation":
		r.operation = a.Operation
	case "com.atproto.server.requestEmailUpdate":
		if a.TokenRequired {
			r.mine["code"] = r.code()
		}
	case "com.atproto.server.requestEmailConfirmation", "com.atproto.server.requestPasswordReset",
		"com.atproto.server.requestAccountDelete", "com.atproto.identity.requestPlcOperationSignature":
		r.mine["code"] = r.code()
	}
}

// code is the one in the latest mail.
func (r *reader) code() string {
	r.t.Helper()
	list, _, err := portico(r.t, r.environ, "mail", "list")
	if err != nil {
		r.t.Fatal(err)
	}
	_, rows, _ := strings.Cut(list, "\n")
	shown, _, err := portico(r.t, r.environ, "mail", "show", strings.Fields(rows)[0])
	code := regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`).FindString(shown)
	if err != nil || !strings.Contains(shown, r.mine["email"]) || code == "" {
		r.t.Fatalf("no code in %s (%v)", shown, err)
	}
	return code
}
