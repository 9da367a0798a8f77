//go:build compare

package compare

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// methods are those that both serve, by namespace. The script must see each succeed
// and fail.
var methods = map[string]string{
	"com.atproto.server": `activateAccount checkAccountStatus confirmEmail createAccount createAppPassword
		createInviteCode createInviteCodes createSession deactivateAccount deleteAccount deleteSession describeServer
		getAccountInviteCodes getServiceAuth getSession listAppPasswords refreshSession requestAccountDelete
		requestEmailConfirmation requestEmailUpdate requestPasswordReset reserveSigningKey resetPassword
		revokeAppPassword updateEmail`,
	"com.atproto.identity": `getRecommendedDidCredentials requestPlcOperationSignature resolveHandle signPlcOperation
		submitPlcOperation updateHandle`,
	"com.atproto.admin": `deleteAccount disableAccountInvites disableInviteCodes enableAccountInvites getAccountInfo
		getAccountInfos getInviteCodes getSubjectStatus sendEmail updateAccountEmail updateAccountHandle
		updateAccountPassword updateSubjectStatus`,
	"com.atproto.repo": `applyWrites createRecord deleteRecord describeRepo getRecord importRepo listMissingBlobs
		listRecords putRecord uploadBlob`,
	"com.atproto.sync": `getBlob getBlocks getCheckout getHead getLatestCommit getRecord getRepo getRepoStatus listBlobs
		listRepos subscribeRepos`,
	"com.atproto.temp":       `checkSignupQueue`,
	"com.atproto.moderation": `createReport`,
	"app.bsky.actor":         `getPreferences getProfile getProfiles putPreferences`,
	"app.bsky.feed":          `getActorLikes getAuthorFeed getFeed getPostThread getTimeline`,
	"app.bsky.notification":  `registerPush unregisterPush`,
}

func TestCompare(t *testing.T) {
	passes, err := readScript()
	if err != nil {
		t.Fatal(err)
	}
	listed, err := readDifferences("differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	network := startNetwork(t)

	requests := 0
	good, bad := map[string]bool{}, map[string]bool{}
	found := map[string]bool{}
	ran := map[string]bool{}
	for _, p := range passes {
		t.Run(p.name, func(t *testing.T) {
			ran[p.name] = true
			reference, portico := startReference(t, network, p.settings, p.services...), startPortico(t, network, p.settings, p.services...)
			reference.cids, portico.cids = p.cids, p.cids
			for _, s := range p.steps {
				a, b := both(t, s, reference, portico)
				if t.Failed() {
					return
				}
				if !s.request() {
					continue
				}
				requests++
				facts := reference.facts(s, a)
				if testing.Verbose() {
					said, ok := facts["body"]
					if !ok {
						said = reference.mask(string(a.body))
					}
					t.Logf("%s: %d %s", s.name, a.status, said)
					for _, name := range slices.Sorted(maps.Keys(facts)) {
						t.Logf("    %s: %s", name, facts[name])
					}
				}
				if name, ok := strings.CutPrefix(s.path, "/xrpc/"); ok {
					name, _, _ = strings.Cut(name, "?")
					if a.status == http.StatusOK {
						good[name] = true
					} else {
						bad[name] = true
					}
				}
				ours := portico.facts(s, b)
				if a.header.Get("Cache-Control") == "no-store" || b.header.Get("Cache-Control") == "no-store" {
					delete(facts, "header Vary") // what nobody keeps goes to nobody else
					delete(ours, "header Vary")
				}
				for _, line := range differences(s, facts, ours) {
					found[p.name+": "+s.name+": "+line] = true
				}
			}
		})
	}

	whole := len(ran) == len(passes)
	if whole && requests < 2880 {
		t.Errorf("the script has %d requests, want 2880", requests)
	}
	for namespace, names := range methods {
		if !whole {
			break
		}
		for _, name := range strings.Fields(names) {
			if name = namespace + "." + name; !good[name] || !bad[name] {
				t.Errorf("%s: succeeds with the reference %v, fails %v; want both", name, good[name], bad[name])
			}
		}
	}
	var known strings.Builder
	row, meant := "", 0
	for _, l := range listed {
		if name, _, _ := strings.Cut(l.line, ":"); !ran[name] && !whole {
			continue
		}
		if !found[l.line] {
			t.Errorf("differences.txt has under %q what does not occur:\n%s", l.row, l.line)
			continue
		}
		delete(found, l.line)
		meant++
		if l.row != row {
			row = l.row
			fmt.Fprintf(&known, "\n# %s\n", row)
		}
		fmt.Fprintln(&known, l.line)
	}
	t.Logf("%d requests to either server, %d differences that are meant:\n%s", requests, meant, known.String())
	// In the order of the script, for who reads it.
	for _, p := range passes {
		for _, s := range p.steps {
			for _, line := range slices.Sorted(maps.Keys(found)) {
				if strings.HasPrefix(line, p.name+": "+s.name+": ") {
					t.Errorf("script/%s.http:%d\n%s", p.name, s.line, line)
					delete(found, line)
				}
			}
		}
	}
}

// both makes a step on both sides at once.
func both(t *testing.T, s step, reference, portico *side) (a, b *answer) {
	t.Helper()
	var wg sync.WaitGroup
	var errA, errB error
	wg.Go(func() { a, errA = reference.do(t.Context(), s) })
	wg.Go(func() { b, errB = portico.do(t.Context(), s) })
	wg.Wait()
	for s2, err := range map[*side]error{reference: errA, portico: errB} {
		if err != nil {
			t.Errorf("%s, line %d: %s: %v\n%s", s.name, s.line, s2.name, err, tail(s2.process))
		}
	}
	return a, b
}

// A difference that is meant, under the row of the design that means it.
type difference struct{ row, line string }

var rowTitle = regexp.MustCompile(`^(DESIGN §10 row ("[^"]+"|[^:"]+)|Beyond the reference|Pending): \S`)

func readDifferences(name string) ([]difference, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var all []difference
	row := ""
	for i, line := range strings.Split(string(text), "\n") {
		title, isTitle := strings.CutPrefix(line, "# ")
		switch {
		case isTitle && rowTitle.MatchString(title):
			row = title
		case line == "" || isTitle || line == "#":
		case row == "":
			return nil, fmt.Errorf("%s:%d: %q stands under no row", name, i+1, line)
		default:
			all = append(all, difference{row, line})
		}
	}
	return all, nil
}

// headers are those that matter to clients. Content-Length is none of them: HTTP
// forbids it where the reference alone sends it, in the answer to a preflight.
var headers = []string{
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin",
	"Access-Control-Expose-Headers", "Access-Control-Max-Age", "Atproto-Content-Labelers", "Atproto-Repo-Rev", "Atproto-Upstream-Lag",
	"Cache-Control", "Content-Encoding", "Content-Language", "Content-Type", "Dpop-Nonce", "Location", "Retry-After", "Set-Cookie",
	"Ratelimit-Limit", "Ratelimit-Policy", "Ratelimit-Remaining", "Ratelimit-Reset", "Vary", "Www-Authenticate",
}

// ofPreflights are those that have a meaning in answers to preflights alone.
var ofPreflights = []string{"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Max-Age"}

// facts takes an answer apart, with everything replaced that may differ.
func (s *side) facts(st step, a *answer) map[string]string {
	facts := map[string]string{"status": strconv.Itoa(a.status)}
	for _, name := range headers {
		if slices.Contains(ofPreflights, name) && st.method != http.MethodOptions {
			continue
		}
		for i, value := range a.header.Values(name) {
			switch name {
			case "Ratelimit-Reset", "Retry-After":
				value = nearly(value)
			case "Atproto-Upstream-Lag":
				if _, err := strconv.ParseUint(value, 10, 64); err == nil {
					value = "a number"
				}
			case "Vary", "Access-Control-Expose-Headers", "Access-Control-Allow-Methods":
				continue // lists, see below
			default:
				value = s.mask(value)
			}
			key := "header " + name
			if i > 0 {
				key += " again"
			}
			facts[key] = value
		}
	}
	// The lines and the order of these say nothing.
	for _, name := range []string{"Vary", "Access-Control-Expose-Headers", "Access-Control-Allow-Methods"} {
		if slices.Contains(ofPreflights, name) && st.method != http.MethodOptions {
			continue
		}
		var items []string
		for _, item := range strings.Split(strings.Join(a.header.Values(name), ","), ",") {
			if item = strings.ToLower(strings.TrimSpace(item)); item != "" {
				items = append(items, item)
			}
		}
		slices.Sort(items)
		if items = slices.Compact(items); len(items) > 0 {
			facts["header "+name] = strings.Join(items, ", ")
		}
	}
	for _, words := range st.then {
		switch words[0] {
		case "no":
			return facts
		case "mail":
			facts["mail"] = "none"
			if a.mail != nil {
				facts["mail"] = fmt.Sprintf("%q from %s", a.mail.Subject, a.mail.From)
			}
		case "letter":
			facts["mail"] = "none"
			if m := a.mail; m != nil {
				facts["mail"] = fmt.Sprintf("%q from %s", m.Subject, m.From)
				facts["mail text"], facts["mail HTML"] = strconv.Quote(strings.TrimSpace(m.Text)), strconv.Quote(strings.TrimSpace(m.HTML))
			}
		case "sort":
			s.sort(a.json, words[1], words[2])
		}
	}
	s.flattenArrivals(facts, st, a.arrivals)
	if length := a.header.Get("Content-Length"); length != "" && len(a.arrivals) > 0 && (len(a.body) > 0 || st.method == http.MethodHead) && a.status < 400 &&
		a.header.Get("Atproto-Upstream-Lag") == "" && a.header.Get("Atproto-Repo-Rev") == "" {
		facts["header Content-Length"] = length // of what was passed on without a look into it
	}
	if a.cut {
		facts["cut"] = "yes"
	}
	switch {
	case a.frames != nil || a.closed != "":
		s.flattenFrames(facts, a)
	case a.json != nil:
		s.flatten(facts, "body", a.json)
	case strings.HasPrefix(a.header.Get("Content-Type"), carType):
		s.flattenArchive(facts, "archive", a.body)
	case len(a.body) > 100_000:
		facts["body"] = digest(a.body)
	case len(a.body) > 0:
		facts["body"] = strconv.Quote(s.mask(string(a.body)))
	}
	return facts
}

// digest stands for bytes that are too many to be shown.
func digest(b []byte) string {
	return fmt.Sprintf("%d bytes, SHA-256 %x", len(b), sha256.Sum256(b))
}

// sort puts the items of a list in the order of what is the same on both sides of
// one of their fields.
func (s *side) sort(body any, list, field string) {
	object, _ := body.(map[string]any)
	items, _ := object[list].([]any)
	key := func(item any) string {
		object, _ := item.(map[string]any)
		text, _ := object[field].(string)
		return s.mask(text)
	}
	slices.SortStableFunc(items, func(a, b any) int { return strings.Compare(key(a), key(b)) })
}

// flatten has one fact for every leaf of a JSON value. Tokens are values too.
func (s *side) flatten(facts map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			facts[path] = "{}"
		}
		if context, ok := v["@context"]; ok {
			v = plain(v)
			facts[path+".@context"] = fmt.Sprintf("%T", context)
		}
		for key, field := range v {
			if seconds, ok := field.(float64); ok && key == "expires_in" {
				facts[path+"."+key] = nearly(strconv.FormatFloat(seconds, 'f', -1, 64))
				continue
			}
			s.flatten(facts, path+"."+key, field)
		}
	case []any:
		if len(v) == 0 {
			facts[path] = "[]"
		}
		for i, item := range v {
			s.flatten(facts, path+"."+strconv.Itoa(i), item)
		}
	case string:
		if head, claims, ok := decode(v); ok {
			s.flatten(facts, path+" header", head)
			issued, _ := claims["iat"].(float64)
			for name, claim := range claims {
				at := path + " claim " + name
				switch n, isNumber := claim.(float64); {
				case isNumber && name == "iat":
					facts[at] = nearly(strconv.FormatInt(int64(n), 10))
				case isNumber && name == "exp" && n > issued:
					facts[at] = fmt.Sprintf("iat + %d", int64(n-issued))
				default:
					s.flatten(facts, at, claim)
				}
			}
			return
		}
		facts[path] = strconv.Quote(s.mask(v))
	default:
		b, _ := json.Marshal(v) // a scalar
		facts[path] = string(b)
	}
}

// plain is a DID document without what the directory writes in two ways: the one
// that npm has writes keys in an older form than the public one, whose form
// Portico gives to the documents of DIDs that it makes.
func plain(document map[string]any) map[string]any {
	document = maps.Clone(document)
	delete(document, "@context")
	methods, _ := document["verificationMethod"].([]any)
	keys := map[string]any{}
	for _, method := range methods {
		m, _ := method.(map[string]any)
		id, _ := m["id"].(string)
		_, fragment, _ := strings.Cut(id, "#")
		keys[fragment] = map[string]any{"controller": m["controller"], "type": "key", "publicKeyMultibase": "key"}
	}
	document["verificationMethod"] = keys
	return document
}

func decode(token string) (head, claims map[string]any, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, false
	}
	for i, to := range []*map[string]any{&head, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.NewDecoder(bytes.NewReader(b)).Decode(to) != nil {
			return nil, nil, false
		}
	}
	return head, claims, true
}

// nearly says how far from now a Unix time or a number of seconds is, without the
// seconds that the run itself took.
func nearly(text string) string {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return text
	}
	if n > 1e9 {
		n -= time.Now().Unix()
		return fmt.Sprintf("about %d s from now", (n+15)/30*30)
	}
	return fmt.Sprintf("about %d s", (n+15)/30*30)
}

// masks are texts that are made anew each time.
var masks = []struct {
	what string
	re   *regexp.Regexp
}{
	{"web DID", regexp.MustCompile(`did:web:localhost%3A\d+`)},
	{"DID", regexp.MustCompile(`did:plc:[a-z2-7]{24}`)},
	{"key", regexp.MustCompile(`(did:key:)?zQ3s[1-9A-HJ-NP-Za-km-z]{44,46}`)},
	{"CID", regexp.MustCompile(`\bbafy[a-z2-7]{50,}`)},
	// What orders the pages of invite codes, which one side counts more finely.
	{"milliseconds", regexp.MustCompile(`\b1[789]\d{11}(\.\d{3})?\b`)},
	{"time", regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)},
	{"invite code", regexp.MustCompile(`\blocalhost-[a-z2-7]{5}-[a-z2-7]{5}\b`)},
	{"app password", regexp.MustCompile(`\b[a-z2-7]{4}(-[a-z2-7]{4}){3}\b`)},
	// The reference names itself in https and without a port where it has no other URL to go by.
	{"server", regexp.MustCompile(`http://localhost:\d+|https://localhost\b`)},
	{"request", regexp.MustCompile(`\breq-[0-9a-f]{32}\b`)},
	{"32 hex digits", regexp.MustCompile(`^[0-9a-f]{32}$`)},
	{"43 digits", regexp.MustCompile(`^[A-Za-z0-9+/_-]{43}$`)},
	{"signature", regexp.MustCompile(`[A-Za-z0-9_-]{86}`)},
	// An operation that the directory refuses: its fields have no order.
	{"operation", regexp.MustCompile(`\{"(\w+":.*"sig"|sig":).*\}$`)},
	{"TID", regexp.MustCompile(`\b[2-7a-j][2-7a-z]{12}$`)},
}

// mask replaces what differs from server to server and from day to day: by the name
// of the variable that holds it, else by what it is.
func (s *side) mask(text string) string {
	for _, m := range masks {
		text = m.re.ReplaceAllStringFunc(text, func(found string) string {
			if m.what == "CID" && s.cids && !s.commits[found] {
				return found
			}
			if strings.HasPrefix(found, "3jaaaa") {
				return found // a TID that the script made up
			}
			if name, ok := s.names[found]; ok && m.what != "signature" {
				return "<" + name + ">"
			}
			return "<" + m.what + ">"
		})
	}
	return text
}

// differences has a line for every fact that is not the same.
func differences(s step, reference, portico map[string]string) []string {
	// Where only one side fails, how it fails is the whole difference.
	if (reference["status"] < "400") != (portico["status"] < "400") {
		for _, facts := range []map[string]string{reference, portico} {
			maps.DeleteFunc(facts, func(key, _ string) bool {
				return key != "status" && key != "mail" && (facts["status"] < "400" || key != "body.error" && key != "body.message")
			})
		}
	}
	// Where only one side says anything, that is the whole difference.
	if a, b := reference["frames"], portico["frames"]; a != b && (a == "0" || b == "0") {
		for _, facts := range []map[string]string{reference, portico} {
			maps.DeleteFunc(facts, func(key, _ string) bool { return strings.HasPrefix(key, "frame ") })
		}
	}
	all := map[string]bool{}
	for key := range reference {
		all[key] = true
	}
	for key := range portico {
		all[key] = true
	}
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		a, inA := reference[key]
		b, inB := portico[key]
		if !inA {
			a = "absent"
		}
		if !inB {
			b = "absent"
		}
		if a != b {
			lines = append(lines, key+": "+a+" → "+b)
		}
	}
	return lines
}
