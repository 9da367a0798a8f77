//go:build compare

package compare

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/impl/identity/plc"
	"portico/impl/mail/mailtest"
	"portico/impl/oauth/oauthtest"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// A side is one of the two servers with what the script remembers of it.
type side struct {
	name     string
	url      string
	process  *launch.Process
	mails    *mailtest.Server
	read     int // mails that were looked at
	plc      *plc.Client
	gate     *gate
	site     *site
	services *services
	vars     map[string]string
	names    map[string]string // of values: the variable that had one first
	keys     map[string]atcrypto.PrivateKey
	cids     bool            // only those of commits may differ
	commits  map[string]bool // CIDs of commits that were met
	proofs   func(verb, path, nonce string, other map[string]any) string
	nonce    string // for proofs, from the latest answer that had one
}

func newSide(t *testing.T, name, url string, n *network, g *gate, v *services, mails *mailtest.Server, p *launch.Process) *side {
	t.Helper()
	s := &side{
		name: name, url: url, process: p, mails: mails,
		plc: &plc.Client{URL: n.directory}, gate: g, site: startSite(t), services: v,
		vars: map[string]string{}, names: map[string]string{},
		keys:    map[string]atcrypto.PrivateKey{"moderator": n.moderator, "labeler": n.labeler, "web": n.moderator},
		commits: map[string]bool{},
	}
	app := oauthtest.NewKey(t, "ES256")
	s.proofs = func(verb, path, nonce string, other map[string]any) string {
		return app.Proof(t, time.Now(), verb, url+path, nonce, "", other)
	}
	s.vars["seq"] = "0"
	s.set("server", url)
	for name := range v.hosts {
		s.set(name+".url", v.url(name))
		s.set(name+".did", v.did(name))
	}
	s.set("moderator.did", n.moderatorDID.String())
	s.set("keyless.did", n.keylessDID.String())
	s.set("web.did", s.site.did())
	s.set("web.key", didKey(t, n.moderator))
	if err := s.site.say("endpoint=https://pds.example.com", "handle=web.example.com", "signingKey="+s.vars["web.key"]); err != nil {
		t.Fatal(err)
	}
	s.set("admin", base64.StdEncoding.EncodeToString([]byte("admin:"+adminPassword)))
	s.set("serverKey", didKey(t, rotation(t)))
	// Two people with a DID of their own, which is elsewhere so far.
	for _, who := range []string{"mover", "stranger"} {
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			t.Fatal(err)
		}
		op := plc.NewGenesis([]string{didKey(t, rotation(t))}, didKey(t, key), syntax.Handle(who+".example.com"), "https://pds.example.com")
		s.set(who+".did", register(t, n.directory, op).String())
		s.set(who+".key", didKey(t, key))
		s.keys[who] = key
	}
	return s
}

func rotation(t *testing.T) *atcrypto.PrivateKeyK256 {
	t.Helper()
	key, err := parseKey(rotationKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func parseKey(text string) (*atcrypto.PrivateKeyK256, error) {
	raw := make([]byte, 32)
	if _, err := fmt.Sscanf(text, "%x", &raw); err != nil {
		return nil, err
	}
	return atcrypto.ParsePrivateBytesK256(raw)
}

func didKey(t *testing.T, key atcrypto.PrivateKey) string {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public.DIDKey()
}

// moment is a time. Two things may happen in the same one, on one side only.
var moment = regexp.MustCompile(`^20\d\d-\d\d-\d\dT`)

func (s *side) set(name, value string) {
	s.vars[name] = value
	if _, ok := s.names[value]; !ok && len(value) > 8 && !moment.MatchString(value) {
		s.names[value] = name
	}
}

// keep sets a variable for every string and number in a JSON value, and, with its
// JSON, for every object.
func (s *side) keep(name string, v any) {
	switch v := v.(type) {
	case string:
		s.set(name, v)
	case map[string]any:
		b, _ := json.Marshal(v) // it was JSON
		s.vars[name] = string(b)
		// In order: the first variable of a value names it.
		for _, key := range slices.Sorted(maps.Keys(v)) {
			s.keep(name+"."+key, v[key])
		}
	case []any:
		for i, item := range v {
			s.keep(name+"."+strconv.Itoa(i), item)
		}
	case float64:
		s.vars[name] = strconv.FormatFloat(v, 'f', -1, 64)
	}
}

var innermost = regexp.MustCompile(`\$\{[^{}]*\}`)

// fill replaces every ${} in text, the inner ones first.
func (s *side) fill(text string) (string, error) {
	var errs []error
	for range 10 {
		if !innermost.MatchString(text) {
			return text, errors.Join(errs...)
		}
		text = innermost.ReplaceAllStringFunc(text, func(m string) string {
			v, err := s.value(strings.Fields(m[2 : len(m)-1]))
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m, err))
			}
			return v
		})
	}
	return text, errors.New("${} within ${} within ...")
}

// value is what stands for words in ${}:
//
//	NAME                     a variable: one that was saved, or server (its URL), admin
//	                         (its credentials), serverKey, moderator.did (of the moderation
//	                         service), keyless.did (of one without a labeler), and .did and .key of mover and stranger, who have DIDs
//	                         elsewhere, and of web, whose DID is a host's
//	seq                      the highest number of an event that a step has met
//	basic USER PASSWORD      credentials; _ is a blank
//	lower TEXT               TEXT in small letters
//	repeat TEXT N            N times TEXT
//	now SECONDS              Unix time, that much later
//	bytes HEX N              N times some bytes
//	cut N NAME               all but the last N bytes of a variable
//	archive HEX…             an archive of one root and the block of it, which is these bytes
//	session CLAIM=VALUE …    a session token, made with the servers' secret. It has every claim it
//	                         must have but scope and sub; an empty value leaves it out. exp is in seconds
//	                         from now. Header fields are typ and alg, and key is another secret
//	service CLAIM=VALUE …    a service token, signed by key=mover or another; alg is that of the key. sig=high
//	                         has the signature in its other form, sig=short cuts it
//	moderation METHOD CLAIM=VALUE …  one of the moderation service for a method of com.atproto.admin
//	dpop VERB PATH CLAIM=VALUE …  a DPoP proof by the one key of an app, with the nonce of the latest answer that
//	                         had one; an empty value leaves a claim out
func (s *side) value(words []string) (string, error) {
	switch words[0] {
	case "basic":
		return base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(words[1]+":"+words[2], "_", " "))), nil
	case "lower":
		return strings.ToLower(words[1]), nil
	case "base64":
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(words[1:], " "))), nil
	case "repeat":
		n, err := strconv.Atoi(words[2])
		return strings.Repeat(words[1], n), err
	case "now":
		n, err := strconv.Atoi(words[1])
		return strconv.FormatInt(time.Now().Unix()+int64(n), 10), err
	case "bytes":
		raw, err := hex.DecodeString(words[1])
		if err != nil {
			return "", err
		}
		n, err := strconv.Atoi(words[2])
		return strings.Repeat(string(raw), n), err
	case "cut":
		n, err := strconv.Atoi(words[1])
		text := s.vars[strings.Join(words[2:], " ")]
		return text[:max(0, len(text)-n)], err
	case "archive":
		raw, err := hex.DecodeString(words[1])
		if err != nil {
			return "", err
		}
		cid := dagcbor.Sum(dagcbor.CodecDAGCBOR, raw)
		return string(car.Marshal(cid, car.Block{CID: cid, Data: raw})), nil
	case "session":
		return s.token(map[string]any{"typ": "at+jwt", "alg": "HS256", "aud": "did:web:localhost", "exp": "60", "key": jwtSecret}, words[1:])
	case "service":
		return s.token(map[string]any{"typ": "JWT", "alg": "ES256K", "aud": "did:web:localhost", "exp": "60", "key": "mover",
			"iss": s.vars["mover.did"], "lxm": "com.atproto.server.createAccount"}, words[1:])
	}
	if words[0] == "dpop" {
		other := map[string]any{}
		for _, word := range words[3:] {
			name, value, _ := strings.Cut(word, "=")
			if other[name] = value; value == "" {
				other[name] = nil
			}
		}
		return s.proofs(words[1], words[2], s.nonce, other), nil
	}
	if words[0] == "moderation" {
		return s.token(map[string]any{"typ": "JWT", "alg": "ES256K", "aud": "did:web:localhost", "exp": "60", "key": "moderator",
			"iss": s.vars["moderator.did"], "lxm": "com.atproto.admin." + words[1]}, words[2:])
	}
	v, ok := s.vars[words[0]]
	if !ok {
		return "nothing-called-" + words[0], nil // the step that would have set it has failed and says so
	}
	return v, nil
}

func (s *side) token(claims map[string]any, words []string) (string, error) {
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		claims[name] = value
		if value == "" {
			delete(claims, name)
		}
	}
	if list, ok := claims["aud"].(string); ok && strings.Contains(list, ",") {
		claims["aud"] = strings.Split(list, ",")
	}
	now := time.Now().Unix()
	for _, name := range []string{"exp", "nbf"} {
		if text, ok := claims[name].(string); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return "", err
			}
			claims[name] = now + n
		}
	}
	claims["iat"] = now
	head := map[string]any{}
	for _, name := range []string{"typ", "alg"} {
		if v, ok := claims[name]; ok {
			head[name] = v
		}
		delete(claims, name)
	}
	key, _ := claims["key"].(string)
	delete(claims, "key")
	form := claims["sig"]
	delete(claims, "sig")
	signed := part(head) + "." + part(claims)
	var sig []byte
	if private := s.keys[key]; private != nil {
		var err error
		if sig, err = private.HashAndSign([]byte(signed)); err != nil {
			return "", err
		}
		switch form {
		case "high":
			s := new(big.Int).Sub(orderK256, new(big.Int).SetBytes(sig[32:]))
			s.FillBytes(sig[32:])
		case "short":
			sig = sig[:63]
		}
	} else {
		size := map[any]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}[head["alg"]]
		if size == nil {
			return signed + ".", nil
		}
		mac := hmac.New(size, []byte(key))
		mac.Write([]byte(signed))
		sig = mac.Sum(nil)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// orderK256 is how many points secp256k1 has.
var orderK256, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)

func part(v any) string {
	b, _ := json.Marshal(v) // strings and numbers
	return base64.RawURLEncoding.EncodeToString(b)
}

// An answer is what came of one step.
type answer struct {
	status   int
	header   http.Header
	body     []byte
	json     any // the body, if it is JSON
	mail     *mailtest.Mail
	frames   []any      // what came over a subscription, as JSON
	closed   string     // how a subscription was closed, if it was
	cut      bool       // it breaks off
	arrivals []*arrival // what reached the services meanwhile
}

// do makes a step of the script.
func (s *side) do(ctx context.Context, st step) (a *answer, err error) {
	if st.path, err = s.fill(st.path); err != nil {
		return nil, err
	}
	switch st.method {
	case "DIRECTORY":
		return &answer{}, s.update(ctx, strings.Fields(st.path))
	case "DOCUMENT":
		return &answer{}, s.site.say(strings.Fields(st.path)...)
	case "OUTAGE":
		return &answer{}, s.gate.close(st.path)
	case "TAKEDOWN":
		return &answer{}, s.takedown(ctx, st.path)
	}
	if st.body, err = s.fill(st.body); err != nil {
		return nil, err
	}
	headers := make([]header, len(st.headers))
	for i, h := range st.headers {
		if h.value, err = s.fill(h.value); err != nil {
			return nil, err
		}
		headers[i] = h
	}
	st.headers = headers
	if st.method == "ANSWER" {
		return &answer{}, s.services.say(st)
	}
	send := s.send
	if st.method == "FRAMES" {
		send = s.frames
	}
	if a, err = send(ctx, st); err != nil {
		return nil, err
	}
	a.arrivals = s.services.arrived()
	for _, r := range a.arrivals {
		if token := r.token(); token != "" {
			r.signed = s.verify(ctx, token)
		}
	}
	s.learnCommits(a.json)
	if nonce := a.header.Get("Dpop-Nonce"); nonce != "" {
		s.nonce = nonce
	}
	for _, words := range st.then {
		switch words[0] {
		case "save":
			s.keep(words[1], a.json)
		case "archive":
			s.vars[words[1]] = string(a.body)
		case "mail":
			a.mail = s.await(words[2], true)
			if a.mail != nil {
				s.set(words[1], mailedCode.FindString(a.mail.Text))
			}
		case "letter":
			a.mail = s.await(words[1], false)
		}
	}
	return a, nil
}

// send sends a request as it is written, byte for byte, which net/http's client
// would not.
func (s *side) send(ctx context.Context, st step) (*answer, error) {
	u, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	headers := []header{{"Host", u.Host}, {"Connection", "close"}}
	body := []byte(st.body)
	if st.body != "" {
		headers = append(headers, header{"Content-Type", "application/json"}, header{"Content-Length", ""})
	}
	for _, h := range st.headers {
		at := -1
		for i := range headers {
			if strings.EqualFold(headers[i].name, h.name) {
				at = i
			}
		}
		switch {
		case h.name == "Body-Encoding":
			body = pack(h.value, body)
		case h.name == "Transfer-Encoding":
			var chunk []byte
			if len(body) > 0 {
				chunk = fmt.Appendf(nil, "%x\r\n%s\r\n", len(body), body)
			}
			body = append(chunk, "0\r\n\r\n"...)
			for i := range headers {
				if headers[i].name == "Content-Length" {
					headers[i].value = "-"
				}
			}
			headers = append(headers, h)
		case at >= 0:
			headers[at].value = h.value
		default:
			headers = append(headers, h)
		}
	}

	ctx, cancel := context.WithTimeout(ctx, launch.Patience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	request := fmt.Appendf(nil, "%s %s HTTP/1.1\r\n", st.method, st.path)
	for _, h := range headers {
		switch {
		case h.value == "-":
		case h.name == "Content-Length" && h.value == "":
			request = fmt.Appendf(request, "Content-Length: %d\r\n", len(body))
		default:
			request = fmt.Appendf(request, "%s: %s\r\n", h.name, h.value)
		}
	}
	request = append(append(request, "\r\n"...), body...)
	// A server may refuse a long body before it was read.
	go conn.Write(request)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: st.method})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		if a.cut = slices.ContainsFunc(st.then, func(words []string) bool { return words[0] == "cut" }); a.cut {
			return a, nil
		}
		return nil, err
	}
	if a.body, err = unpack(resp.Header.Get("Content-Encoding"), a.body); err != nil {
		return nil, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && json.Valid(a.body) {
		if err := json.Unmarshal(a.body, &a.json); err != nil {
			return nil, fmt.Errorf("answer %q: %w", a.body, err)
		}
	}
	return a, nil
}

// unpack undoes a Content-Encoding.
func unpack(encoding string, body []byte) ([]byte, error) {
	if len(body) == 0 {
		return nil, nil // answers to HEAD
	}
	var r io.Reader = bytes.NewReader(body)
	var err error
	switch encoding {
	case "br":
		r = brotli.NewReader(r)
	case "deflate":
		r, err = zlib.NewReader(r)
	case "gzip":
		r, err = gzip.NewReader(r)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

var mailedCode = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// await waits for the next mail to address, one with a code if that is asked for.
// It returns nil when none comes in [launch.Patience].
func (s *side) await(address string, code bool) *mailtest.Mail {
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		all := s.mails.Mails()
		for ; s.read < len(all); s.read++ {
			if m := &all[s.read]; m.To == address && (!code || mailedCode.MatchString(m.Text)) {
				s.read++
				return m
			}
		}
	}
	return nil
}

// update changes what the PLC directory has of a DID.
func (s *side) update(ctx context.Context, words []string) error {
	did := syntax.DID(words[0])
	last, err := s.plc.Last(ctx, did)
	if err != nil {
		return err
	}
	if slices.Contains(words, "tombstone") {
		op, err := plc.NewTombstone(last)
		if err != nil {
			return err
		}
		return s.post(ctx, did, op)
	}
	op, err := plc.Update(last, func(d *plc.Data) {
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			switch name {
			case "endpoint":
				d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: value}
			case "signingKey":
				if s.vars["kept signing key"] == "" {
					s.vars["kept signing key"] = d.VerificationMethods["atproto"]
				}
				if value == "kept" {
					value = s.vars["kept signing key"]
				}
				d.VerificationMethods["atproto"] = value
			case "handle":
				d.SetHandle(syntax.Handle(value))
			case "rotationKey":
				d.RotationKeys = []string{value}
			}
		}
	})
	if err != nil {
		return err
	}
	return s.post(ctx, did, op)
}

func (s *side) post(ctx context.Context, did syntax.DID, op plc.Operation) error {
	key, err := parseKey(rotationKey)
	if err != nil {
		return err
	}
	if err := op.Sign(key); err != nil {
		return err
	}
	return s.plc.Submit(ctx, did, op)
}

// takedown takes an account down.
func (s *side) takedown(ctx context.Context, did string) error {
	a, err := s.send(ctx, step{
		method: "POST", path: "/xrpc/com.atproto.admin.updateSubjectStatus",
		headers: []header{{"Authorization", "Basic " + s.vars["admin"]}},
		body:    `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + did + `"},"takedown":{"applied":true,"ref":"case"}}`,
	})
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("takedown: %d %s", a.status, a.body)
	}
	return err
}
