package servertest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// An Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Fields is the body as an object.
func (a Answer) Fields(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.Body), &m); err != nil {
		t.Fatalf("answer %d %q: %v", a.Status, a.Body, err)
	}
	return m
}

// Text is a string field of the body.
func (a Answer) Text(t testing.TB, name string) string {
	t.Helper()
	text, ok := a.Fields(t)[name].(string)
	if !ok {
		t.Fatalf("answer %d %s has no text %q", a.Status, a.Body, name)
	}
	return text
}

// Decode puts the body into v.
func (a Answer) Decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), v); err != nil {
		t.Fatalf("answer %d %q: %v", a.Status, a.Body, err)
	}
}

// Get is [Server.Call] of a query.
func (s *Server) Get(method string, header ...string) Answer {
	s.Helper()
	return s.Call(http.MethodGet, method, "", header...)
}

// Post is [Server.Call] of a procedure. The body is JSON; "" is none.
func (s *Server) Post(method, body string, header ...string) Answer {
	s.Helper()
	return s.Call(http.MethodPost, method, body, header...)
}

// Call sends a request to a method, which may bring its parameters along after a "?".
// A name without a dot is one of the server's namespace.
//
// A line of the header is "Name: value"; credentials alone, such as a [User]'s
// Access or what [Basic] returns, are for Authorization, and "" is no line. One text may be
// several lines.
func (s *Server) Call(verb, method, body string, header ...string) Answer {
	s.Helper()
	a, err := s.Try(verb, method, body, header...)
	s.Check(err)
	return a
}

// Try is Call for goroutines other than the test's own.
func (s *Server) Try(verb, method, body string, header ...string) (Answer, error) {
	method = s.full(method)
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(s.Context(), verb, s.URL+"/xrpc/"+method, r)
	if err != nil {
		return Answer{}, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for line := range strings.SplitSeq(strings.Join(header, "\n"), "\n") {
		name, value, ok := strings.Cut(line, ": ")
		switch {
		case ok:
			request.Header.Set(name, value)
		case line == "":
		case request.Header.Get("Authorization") != "":
			return Answer{}, fmt.Errorf("request with two credentials, the second %q", line)
		default:
			request.Header.Set("Authorization", line)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header, string(text)}, err
}

// full is a method with its namespace.
func (s *Server) full(method string) string {
	if name, _, _ := strings.Cut(method, "?"); !strings.Contains(name, ".") {
		return s.namespace + "." + method
	}
	return method
}

// Refused checks status, name and message of an error.
func (s *Server) Refused(a Answer, status int, name, message string) {
	s.Helper()
	var body struct{ Error, Message string }
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		s.Errorf("answer %d %q: %v", a.Status, a.Body, err)
		return
	}
	if a.Status != status || body.Error != name || body.Message != message {
		s.Errorf("answer\n%d %s %q, want\n%d %s %q", a.Status, body.Error, body.Message, status, name, message)
	}
}

// Accepted ends the test unless the answer is 200, and returns it.
func (s *Server) Accepted(a Answer) Answer {
	s.Helper()
	if a.Status != http.StatusOK {
		s.Fatalf("answer %d %s, want 200", a.Status, a.Body)
	}
	return a
}

// Empty ends the test unless the answer is 200, and checks that it is one of a method
// without output.
func (s *Server) Empty(a Answer) {
	s.Helper()
	if s.Accepted(a); a.Body != "" || a.Header.Get("Content-Type") != "" {
		s.Errorf("answer %q of type %q, want nothing", a.Body, a.Header.Get("Content-Type"))
	}
}

// Outcome is the answer as tables show it: 200, or status, name and message.
func (a Answer) Outcome() string {
	if a.Status == http.StatusOK {
		return "200"
	}
	var body struct{ Error, Message string }
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		return fmt.Sprintf("%d %q", a.Status, a.Body)
	}
	return fmt.Sprintf("%d %s %q", a.Status, body.Error, body.Message)
}

// Bearer are the credentials of a token.
func Bearer(token string) string { return "Bearer " + token }

// Basic are the credentials of a name and a password.
func Basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// Admin are the credentials of the operator.
var Admin = Basic("admin", AdminPassword)
