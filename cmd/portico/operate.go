package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/mattn/go-isatty"
	"github.com/urfave/cli/v3"

	adminapi "portico/api/atproto/admin"
	api "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
)

// What the process ends with. Scripts rely on the numbers; statusHelp tells them.
const (
	statusFailed      = 1
	statusUsage       = 2
	statusNotFound    = 3
	statusRefused     = 4
	statusUnreachable = 5
	// statusSettings is EX_CONFIG of sysexits.h. It is not one of the small numbers so that
	// a service manager can tell a start that is of no use to repeat.
	statusSettings = 78
)

const statusHelp = `Ends with
  0  done
  1  failed, or was not confirmed
  2  used wrongly
  3  there is no such account, code or domain
  4  the server refused, also because of a wrong admin password
  5  no server answered`

const whereHelp = `Asks the server that --pds-host or ATP_PDS_HOST names; without either the one on
this machine, whose port and admin password are found as "portico serve" finds
them: in the environment, --env-file and the data directory. Next to a
development server nothing needs to be given.`

// failure is an error that ends the process with a status other than statusFailed.
type failure struct {
	status int
	error
}

func (f *failure) Unwrap() error { return f.error }

// exitStatus is what the process ends with after err.
func exitStatus(err error) int {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	if _, ok := errors.AsType[settingsError](err); ok {
		return statusSettings
	}
	if _, ok := errors.AsType[cli.ExitCoder](err); ok {
		return statusUsage // help was asked for about something that there is not
	}
	return statusFailed
}

// shownError is an error for scripts.
type shownError struct {
	Error   string `json:"error"` // the name that the server gave it, or what the status stands for
	Message string `json:"message"`
	Status  int    `json:"status"` // of the process
}

var statusNames = map[int]string{
	statusFailed: "Failed", statusUsage: "Usage", statusNotFound: "NotFound", statusRefused: "Refused",
	statusUnreachable: "Unreachable", statusSettings: "Settings",
}

// printError tells err to a person, or to a script where the arguments ask for JSON.
func printError(w io.Writer, err error, args []string) {
	json := slices.ContainsFunc(args, func(arg string) bool {
		name, value, given := strings.Cut(arg, "=")
		return (name == "--json" || name == "-json") && (!given || value == "true" || value == "1")
	})
	if !json {
		fmt.Fprintln(w, "portico:", legible(err.Error()))
		return
	}
	out := shownError{Error: statusNames[exitStatus(err)], Message: err.Error(), Status: exitStatus(err)}
	if answered, ok := errors.AsType[*xrpc.Error](err); ok && answered.Name != "" {
		out.Error = answered.Name
	}
	_ = (&console{out: w}).printJSON(out)
}

func fail(status int, format string, args ...any) error {
	return &failure{status, fmt.Errorf(format, args...)}
}

// unfit is err as one that a start meets again until somebody has mended the settings,
// or the data that they lead to.
func unfit(err error) error { return &failure{statusSettings, err} }

func usage(format string, args ...any) error { return fail(statusUsage, format, args...) }

// console is one command of an operator: the server it asks, as its admin, and
// the person or script it answers.
type console struct {
	admin    *adminapi.Client
	server   *api.Client
	operator *operatorapi.Client

	target    *target
	in        *bufio.Reader
	out, errs io.Writer
	random    io.Reader
	now       func() time.Time
	person    bool // somebody sits at in, and can be asked
	json      bool
	subject   syntax.DID // the account that the command is about, once it was found
}

// operators makes the commands that talk to a running server.
type operators struct {
	config    func(*cli.Command) configuration
	out, errs io.Writer
}

// flags are those that every command of a group has.
func (o operators) flags(envFile cli.Flag) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "pds-host", Usage: "ask the server at `URL` (or ATP_PDS_HOST, PDS_HOST)"},
		&cli.StringFlag{Name: "admin-password", Usage: "its admin `PASSWORD`; others on this machine may see it, so better set PDS_ADMIN_PASSWORD"},
		envFile,
		jsonFlag(),
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON, one document, and errors as JSON too"}
}

// action is a command that takes from least to most arguments, which what names.
func (o operators) action(what string, least, most int, do func(context.Context, *console, *cli.Command) error) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if n := c.Args().Len(); n < least || n > most {
			name := strings.TrimPrefix(c.FullName(), c.Root().Name+" ")
			if most == 0 {
				return usage("%s takes no arguments, not even %q", name, c.Args().First())
			}
			return usage("%s takes %s", name, what)
		}
		con := &console{
			in: bufio.NewReader(c.Root().Reader), out: o.out, errs: o.errs, random: o.config(c).Rand, now: o.config(c).Now,
			person: isTerminal(c.Root().Reader), json: c.Bool("json"),
		}
		target, err := o.config(c).target(c.String("pds-host"), c.String("admin-password"))
		if err != nil {
			return err
		}
		con.target = target
		con.connect(target)
		return target.explain(ctx, con.signature(ctx, do(ctx, con, c)))
	}
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// target is a server and the right to operate it.
type target struct {
	host     string // base URL
	password secret
	from     string // where the password is from, to say when it is wrong
	given    bool   // whether the host was named, not found in the settings
	// bypass exempts from request limits, where it stands beside the password.
	bypass secret
}

// target finds the server to talk to. host and password are what flags say, each may
// be empty. Nothing is written.
func (c configuration) target(host, password string) (*target, error) {
	t := &target{host: host, password: secret(password), from: "--admin-password"}
	var file []envPair
	if c.EnvFile != "" {
		f, err := readEnvFile(c.EnvFile)
		if err != nil {
			return nil, &failure{statusUsage, err}
		}
		file = f.pairs
	}
	if t.host == "" {
		t.host, _ = given(c.Environ, file, "ATP_PDS_HOST", "PDS_HOST")
	}
	if t.host != "" {
		var err error
		if t.host, err = parseHost(t.host); err != nil {
			return nil, err
		}
		t.given = true
	}
	if t.password == "" {
		v, name := given(c.Environ, file, "PDS_ADMIN_PASSWORD")
		t.password, t.from = secret(v), name
		if err := t.meant(c.Environ, file); err != nil {
			return nil, err
		}
		if t.password != "" {
			v, _ = given(c.Environ, file, "PDS_RATE_LIMIT_BYPASS_KEY")
			t.bypass = secret(v)
		}
	}
	if t.given && t.password != "" {
		return t, nil
	}

	if t.given && !isLocal(t.host) {
		// The secrets of this machine's server are for no other.
		return nil, usage("the admin password of %s is not known: set PDS_ADMIN_PASSWORD", t.host)
	}
	s, err := c.read()
	if err := unusable(s, err); err != nil {
		return nil, &failure{statusUsage, err}
	}
	if t.host == "" {
		t.host = s.localURL()
		// Where no port is set, the server may have been started with one.
		if port, _ := given(c.Environ, file, "PDS_PORT"); port == "" && s.databaseFile() != "" {
			t.host = cmp.Or(db.ServedAt(s.DataDirectory), t.host)
		}
	}
	t.bypass = s.RateLimitBypassKey
	if t.password == "" {
		if t.password, err = s.keptAdminPassword(); err != nil {
			return nil, err
		}
		t.from = filepath.Join(s.DataDirectory, secretsName)
	}
	return t, nil
}

// meant returns an error when the password stands among the settings of a server that
// the host is not.
func (t *target) meant(environ []string, file []envPair) error {
	u, err := url.Parse(t.host)
	if err != nil || t.password == "" || u.Scheme != "https" || isLoopback(u.Hostname()) {
		return err // on this machine and in its network servers go by other names
	}
	if v, _ := given(environ, nil, t.from); v != "" {
		file = nil
	} else {
		environ = nil
	}
	owner, _ := given(environ, file, "PDS_HOSTNAME")
	if owner == "" || strings.EqualFold(owner, u.Hostname()) {
		return nil
	}
	return usage("the admin password in %s is that of %s, not of %s, for which --admin-password gives one", t.from, owner, t.host)
}

// given is the value of the first of names that is set in the environment, or else
// in the lines of a file, and its name.
func given(environ []string, file []envPair, names ...string) (value, name string) {
	for _, name := range names {
		for _, pair := range slices.Backward(environ) {
			if n, v, _ := strings.Cut(pair, "="); n == name && v != "" {
				return v, name
			}
		}
	}
	for _, name := range names {
		for _, p := range slices.Backward(file) {
			if p.name == name && p.value != "" {
				return p.value, name
			}
		}
	}
	return "", ""
}

// unusable is what of the problems of settings keeps a client from finding the
// server. What else is wrong with them is the server's business.
func unusable(s *settings, err error) error {
	if s == nil {
		return err
	}
	problems, _ := errors.AsType[settingsError](err)
	problems = slices.DeleteFunc(slices.Clone(problems), func(p problem) bool {
		return !slices.Contains([]string{"PDS_HOSTNAME", "PDS_PORT", "PORTICO_BIND", "PDS_DATA_DIRECTORY"}, p.variable)
	})
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// localURL is where the server of these settings listens. Its public URL may lead
// over a proxy that this machine does not reach.
func (s *settings) localURL() string {
	host := "127.0.0.1"
	if s.Bind.IsValid() && !s.Bind.IsUnspecified() {
		host = s.Bind.String()
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(s.Port))
}

// keptAdminPassword is the admin password in the secrets file, which is not made
// here.
func (s *settings) keptAdminPassword() (secret, error) {
	const hint = `set PDS_ADMIN_PASSWORD, or name the server's settings with --env-file`
	if !slices.Contains(s.fromFile(), "PDS_ADMIN_PASSWORD") {
		return "", usage("the admin password is not known: %s", hint)
	}
	path := filepath.Join(s.DataDirectory, secretsName)
	secrets, err := readSecrets(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usage("the admin password is not known: there is no %s. Run this in the directory where the server was started, %s", path, hint)
	}
	if err != nil {
		return "", fmt.Errorf("read secrets: %w", err)
	}
	if secrets["PDS_ADMIN_PASSWORD"] == "" {
		return "", usage("the admin password is not known: it is not in %s; %s", path, hint)
	}
	return secret(secrets["PDS_ADMIN_PASSWORD"]), nil
}

// parseHost reads the URL of a server. A host name alone means https, or http on
// this machine.
func parseHost(text string) (string, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = "https://" + text
		if isLocal(full) {
			full = "http://" + text
		}
	}
	u, err := url.Parse(full)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", usage("%q is not the URL of a server such as https://pds.example.com", withoutUser(text))
	}
	return u.Scheme + "://" + u.Host, nil
}

// isLocal says whether a URL leads to this machine.
func isLocal(host string) bool {
	u, err := url.Parse(host)
	return err == nil && isLoopback(u.Hostname())
}

// errPlain keeps the password from networks where others could read it.
var errPlain = errors.New("the admin password is not sent without encryption")

// connect makes the clients.
func (con *console) connect(t *target) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if strings.HasPrefix(t.host, "http://") {
		// Looking at the address that is dialled leaves no name and no proxy to
		// be deceived by. A server that the settings name is this machine's.
		transport.Proxy = nil
		dialer := &net.Dialer{Timeout: 10 * time.Second}
		if t.given {
			dialer.Control = onlyPrivate
		}
		transport.DialContext = dialer.DialContext
	}
	client := xrpc.Client{
		Host: t.host,
		HTTP: &http.Client{
			Transport: transport, Timeout: time.Minute,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		MaxAnswer: 64 << 20, // accounts come with their invite codes
	}
	if t.bypass != "" {
		client.Header = http.Header{"X-Ratelimit-Bypass": {string(t.bypass)}}
	}
	con.server = &api.Client{Client: client}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+string(t.password)))
	client.Authorization = func(context.Context, *xrpc.Method) (string, error) { return basic, nil }
	con.admin = &adminapi.Client{Client: client}
	con.operator = &operatorapi.Client{Client: client}
}

// patient is con.operator for what goes through all that an account has, of which nobody
// can tell how long it takes: it waits until the context or the connection ends.
func (con *console) patient() *operatorapi.Client {
	client, unbounded := *con.operator, *con.operator.HTTP
	unbounded.Timeout = 0
	client.HTTP = &unbounded
	return &client
}

func onlyPrivate(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := a.Addr().Unmap()
	if ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() {
		return nil
	}
	return errPlain
}

// asAdmin returns the client of com.atproto.server with the admin password. Only
// methods for admins get it.
func (con *console) asAdmin() *api.Client {
	return &api.Client{Client: con.admin.Client}
}

// explain says what an error of a call means for an operator, and for a script.
func (t *target) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; what was asked of the server may have happened")
	}
	if errors.Is(err, errPlain) {
		return fail(statusUsage, "%w over the network: say https://, or reach %s through a tunnel", errPlain, t.host)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		if e.Timeout() {
			return fail(statusUnreachable, "%s did not answer in time; what was asked of it may have happened (%w)", t.host, e.Err)
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return fail(statusUnreachable, "who answers at %s does not prove to be that server: %w", t.host, e.Err)
		}
		if !t.given {
			return fail(statusUnreachable, "no server answers at %s: is it running? PDS_PORT says at which port, --pds-host names another server (%w)", t.host, e.Err)
		}
		return fail(statusUnreachable, "no server answers at %s: is it running? --pds-host names another (%w)", t.host, e.Err)
	}
	answered, ok := errors.AsType[*xrpc.Error](err)
	if !ok {
		return err
	}
	message := printable(strings.TrimSpace(answered.Message))
	switch {
	case answered.Status/100 == 3:
		return fmt.Errorf("%s sends elsewhere, to %s: name that with --pds-host", t.host, printable(answered.Header.Get("Location")))
	case answered.Status == http.StatusUnauthorized:
		return fail(statusRefused, "%s refuses the admin password (from %s)", t.host, t.from)
	case answered.Status == http.StatusNotImplemented,
		answered.Status == http.StatusNotFound && answered.Name == "",
		strings.HasPrefix(answered.Message, "No service configured for "):
		return fail(statusRefused, "%s does not know the method: is it a Portico, of this version?", t.host)
	case answered.Status < 500 && slices.Contains([]string{"AccountNotFound", "DomainNotFound", "NotFound"}, answered.Name):
		return &failure{statusNotFound, told{message, answered}}
	case answered.Status < 500:
		return &failure{statusRefused, told{"the server refused: " + strings.TrimSpace(message+" "+label(answered)), answered}}
	}
	if answered.Status == http.StatusBadGateway {
		return told{fmt.Sprintf("another server, which this one needs, failed it: %s. Which and why stands in the log of %s; "+
			"what concerns DIDs goes to the PLC directory (PDS_DID_PLC_URL)", message, t.host), answered}
	}
	return told{"the server failed: " + strings.TrimSpace(message+" "+label(answered)), answered}
}

// told is an error of a server in words for a person.
type told struct {
	text     string
	answered *xrpc.Error
}

func (t told) Error() string { return t.text }
func (t told) Unwrap() error { return t.answered }

// label is the name of an error where it says more than that there was one.
func label(e *xrpc.Error) string {
	if e.Name == "" || e.Name == "InvalidRequest" {
		if e.Message == "" {
			return strconv.Itoa(e.Status)
		}
		return ""
	}
	return "(" + printable(e.Name) + ")"
}

// find returns the account that a person names: by DID, handle or email address.
func (con *console) find(ctx context.Context, name string) (*operatorapi.Account, error) {
	a, err := con.operator.GetAccount(ctx, &operatorapi.GetAccountParams{Account: name})
	if errors.Is(err, operatorapi.ErrGetAccountAccountNotFound) {
		return nil, fail(statusNotFound, "there is no account %s", printable(name))
	}
	if err == nil {
		con.subject = a.DID
	}
	return a, err
}

// signature makes of a directory's refusal of what the server has signed for the DID of
// an account what account repair says of it: the directory repeats the operation, and
// tells nobody why.
func (con *console) signature(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*xrpc.Error](err)
	if !ok || con.subject == "" || !strings.HasPrefix(refused.Message, "Invalid signature on op: ") {
		return err
	}
	out, failure := con.operator.InspectAccount(ctx, &operatorapi.InspectAccountParams{DID: con.subject})
	if failure == nil {
		for _, f := range out.Findings {
			if f.Name == "did_rotation_key" {
				return fail(statusRefused, "the PLC directory refused: %s", printable(f.Message))
			}
		}
	}
	return fail(statusRefused, "the PLC directory refused the signature of the server; what is wrong with the DID, portico account repair %s says", con.subject)
}

// ready is find for commands that change an account. One under creation does not take
// that: methods answer as if it was not there, and tell the network that it is deleted.
func (con *console) ready(ctx context.Context, name string) (*operatorapi.Account, error) {
	a, err := con.find(ctx, name)
	if err == nil && a.Status == operatorapi.AccountStatusCreating {
		return nil, fail(statusRefused, "%s is under creation: what can be done about that, account repair says", a.Handle)
	}
	return a, err
}

// confirm asks a person whether to go on, who does so by typing want, or yes where
// want is empty. A script has to say --yes.
func (con *console) confirm(ctx context.Context, yes bool, question, want string) error {
	if yes {
		return nil
	}
	if !con.person {
		return usage("nothing was done: without a terminal to ask at, --yes is needed")
	}
	fmt.Fprint(con.errs, legible(question))
	answer, err := con.line(ctx)
	if err != nil {
		return err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	if want != "" && answer == strings.ToLower(want) || want == "" && (answer == "y" || answer == "yes") {
		return nil
	}
	return errors.New("not confirmed: nothing was done")
}

// line reads a line, and stops waiting for it when ctx ends. At the end of the input
// it is what came so far.
func (con *console) line(ctx context.Context) (string, error) {
	type read struct {
		text string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		text, err := con.in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		done <- read{strings.TrimRight(text, "\r\n"), err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return "", fmt.Errorf("read standard input: %w", r.err)
		}
		return r.text, nil
	case <-ctx.Done():
		fmt.Fprintln(con.errs)
		return "", fail(statusFailed, "interrupted: nothing was done")
	}
}

// password is one that --password gives, one from standard input if --password-stdin
// says so, or a new one.
func (con *console) password(ctx context.Context, c *cli.Command) (_ string, generated bool, err error) {
	switch {
	case c.IsSet("password") && c.Bool("password-stdin"):
		return "", false, usage("--password and --password-stdin do not go together")
	case c.IsSet("password") && c.String("password") == "":
		return "", false, usage("--password is empty")
	case c.IsSet("password"):
		return c.String("password"), false, nil
	case !c.Bool("password-stdin"):
		raw := make([]byte, 15)
		if _, err := io.ReadFull(con.random, raw); err != nil {
			return "", false, fmt.Errorf("make a password: %w", err)
		}
		return strings.ToLower(base32.StdEncoding.EncodeToString(raw)), true, nil
	}
	if con.person {
		fmt.Fprint(con.errs, "Password (it can be seen): ")
	}
	text, err := con.line(ctx)
	if err == nil && text == "" {
		return "", false, usage("there is no password on standard input")
	}
	return text, false, err
}

// printJSON prints a document.
func (con *console) printJSON(v any) error {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(con.out, legible(b.String()))
	return err
}

// legible is text with the runes escaped that could do something to a terminal, as JSON
// does it, so that JSON stays the same. Lines and tabs stay.
func legible(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) && r != utf8.RuneError {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// table prints rows below a head, a dash for what is empty; without rows it says so.
func (con *console) table(none string, head string, rows [][]string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(con.out, none)
		return err
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(head, " ", "\t"))
	for _, row := range rows {
		for i := range row {
			row[i] = cmp.Or(printable(row[i]), "-")
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// facts prints names and values; what has no value is left out.
func (con *console) facts(pairs ...string) error {
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", pair[0], printable(pair[1]))
		}
	}
	return t.Flush()
}

// say prints a line for people.
func (con *console) say(format string, args ...any) error {
	_, err := io.WriteString(con.out, legible(fmt.Sprintf(format, args...))+"\n")
	return err
}

// collect reads pages of up to size items, from a cursor on ("": from the start), until
// there are limit (0: no limit). next is where the list goes on, nil where it ends.
func collect[T any](from string, limit, size int, page func(cursor *string, n int64) ([]T, *string, error)) (items []T, next *string, err error) {
	next = xrpc.NonZero(from)
	for {
		n := size
		if limit > 0 {
			n = min(size, limit-len(items))
		}
		var some []T
		some, next, err = page(next, int64(n))
		if err != nil {
			return nil, nil, err
		}
		items = append(items, some...)
		switch {
		case len(some) == 0:
			return items, nil, nil
		case next == nil || limit > 0 && len(items) >= limit:
			return items, next, nil
		}
	}
}
