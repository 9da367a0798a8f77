//go:build compare

package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A pass is one file of the script: requests that are sent, in order, to a
// reference and a Portico started for them alone with the same settings.
//
// The file has the form of .http files:
//
//	#! PDS_SETTING=value            settings of both servers, before the first step; they know
//	                                ${moderator.did}, ${keyless.did}, ${mails}, the URL of the mail server,
//	                                and .url and .did of services
//	#! services NAME NAME           are started for either server, which may send them requests. What
//	                                reaches them is compared too
//	#! CIDs                         those of records, nodes and blobs must be the same on both sides
//	### name of the step            comes back in differences.txt
//	POST createSession              a path without a slash is one of com.atproto.server,
//	                                or of the namespace before its dot: identity.updateHandle,
//	                                unless it begins with app, chat, com or tools
//	Header: value                   "-" leaves out a header that would go by itself
//
//	{"body":"of the request"}
//	> save alice                    what to do with the answer
//
// A request with a body has Content-Type application/json and the length of the
// body, unless it says otherwise; there is one more header, Body-Encoding: gzip,
// which is not sent, but has the body compressed; or br, or deflate. Text in ${} is replaced, see
// side.value. What to do with the answer:
//
//	> save NAME              keeps every string of the answer as NAME.path.to.it
//	> mail NAME ADDRESS      waits for a mail with a code to ADDRESS, keeps the code as NAME
//	> letter ADDRESS         waits for any mail to ADDRESS, which must say the same
//	> sort LIST FIELD        the items of a list of the body come in no certain order, sort them
//	> no body                the body need not be the same
//	> archive NAME           keeps the bytes of the body as NAME
//	> cut                    the answer breaks off
//
// Of archives, and of those in frames, the blocks are compared, in any order.
//
// Instead of a request a step may have one of these, which act on either server
// from behind:
//
//	DIRECTORY DID endpoint=URL signingKey=KEY rotationKey=KEY handle=HANDLE tombstone
//	DOCUMENT handle=HANDLE endpoint=URL signingKey=KEY    what web.did, which is a host's, says
//	DOCUMENT gone
//	OUTAGE STATUS BODY        the directory answers this to the servers; status 0 hangs up, no status ends it
//	TAKEDOWN DID
//	ANSWER NAME METHOD        what a service answers to a method, or a path, from now on. Headers and body are
//	                          those of the answer, see give
//
// or
//
//	FRAMES sync.subscribeRepos      reads what comes over a subscription until it is quiet or closed
type pass struct {
	name     string
	settings []string
	services []string
	cids     bool // see #! CIDs
	steps    []step
}

type step struct {
	name    string
	line    int
	method  string
	path    string
	headers []header
	body    string
	then    [][]string // directives, as words
}

type header struct{ name, value string }

// readScript reads every pass.
func readScript() ([]pass, error) {
	files, err := filepath.Glob("script/*.http")
	if err != nil {
		return nil, err
	}
	var passes []pass
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p, err := parse(strings.TrimSuffix(filepath.Base(file), ".http"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		passes = append(passes, p)
	}
	return passes, nil
}

func parse(name, text string) (pass, error) {
	p := pass{name: name}
	seen := map[string]bool{}
	var s *step
	const start, heads, body = 0, 1, 2
	at := start
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		setting, isSetting := strings.CutPrefix(line, "#! ")
		title, isTitle := strings.CutPrefix(line, "### ")
		then, isThen := strings.CutPrefix(line, "> ")
		switch {
		case isSetting && setting == "CIDs":
			p.cids = true
		case isSetting && strings.HasPrefix(setting, "services "):
			p.services = strings.Fields(setting)[1:]
		case isSetting:
			p.settings = append(p.settings, setting)
		case isTitle:
			if seen[title] {
				return p, fmt.Errorf("line %d: a second step %q", i+1, title)
			}
			seen[title] = true
			p.steps = append(p.steps, step{name: title, line: i + 1})
			s, at = &p.steps[len(p.steps)-1], start
		case s == nil || strings.HasPrefix(line, "#"):
			// A remark.
		case isThen:
			s.then = append(s.then, strings.Fields(then))
		case at == start && line != "":
			s.method, s.path, _ = strings.Cut(line, " ")
			if !strings.HasPrefix(s.path, "/") && strings.ToUpper(s.method) == s.method && s.path != "*" && s.request() {
				s.path = methodPath(s.path)
			}
			at = heads
		case at == heads && line != "":
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return p, fmt.Errorf("line %d: %q is no header", i+1, line)
			}
			s.headers = append(s.headers, header{name, strings.TrimPrefix(value, " ")})
		case at == heads:
			at = body
		case at == body && line != "":
			s.body += line
		}
	}
	for _, s := range p.steps {
		if s.method == "" {
			return p, fmt.Errorf("line %d: step %q does nothing", s.line, s.name)
		}
	}
	return p, nil
}

// methodPath is the path of a method that is named in short, with its parameters.
func methodPath(name string) string {
	method, _, _ := strings.Cut(name, "?")
	first, _, dotted := strings.Cut(method, ".")
	switch {
	case slices.Contains([]string{"app", "chat", "com", "tools"}, first):
		return "/xrpc/" + name
	case !dotted:
		name = "server." + name
	}
	return "/xrpc/com.atproto." + name
}

// request reports whether the step is a request.
func (s *step) request() bool {
	return !slices.Contains([]string{"DIRECTORY", "DOCUMENT", "OUTAGE", "TAKEDOWN", "ANSWER"}, s.method)
}
