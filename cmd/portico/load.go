package main

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"portico/impl/identity/handle"
)

// settingValue is what one row of the table came to, for printing.
type settingValue struct {
	row   *setting
	name  string // of the variable; differs from the row's for patterns
	text  string // "" when secret or unset
	from  string
	whole secret // as it was given, or the default
}

// assigned is the text of a variable, and where it is from. Whoever prints it sees no secret.
type assigned struct {
	value secret
	from  string
}

// configuration is where settings are read from.
type configuration struct {
	Environ []string  // NAME=value, as os.Environ gives it
	EnvFile string    // a file of NAME=value lines that stands behind Environ; empty: none
	Rand    io.Reader // for new secrets
	Now     func() time.Time

	LockWait time.Duration // for a process that lets go of the data directory; 0: there is none
	MayEnd   bool          // nobody takes the end of this process for that of the server
}

// load reads the settings, and the secrets that they leave to the secrets file, which is
// made when there is none. Nothing is written when anything is wrong: the error then is a
// settingsError that names every problem. The settings that could be read are
// returned even so, for printing only.
func (c configuration) load() (*settings, error) {
	s, err := c.read()
	if err != nil {
		return s, err
	}
	return s, c.fill(s)
}

// fill completes what read has left to the secrets file.
func (c configuration) fill(s *settings) error {
	needed := s.fromFile()
	if len(needed) == 0 {
		return nil
	}
	secrets, made, err := openSecrets(s.DataDirectory, s.databaseFile(), needed, c.Rand, c.Now())
	if err != nil {
		return err
	}
	s.SecretsFile, s.SecretsMade = filepath.Join(s.DataDirectory, secretsName), made
	if warning := checkSecretsMode(s.SecretsFile); warning != "" {
		s.Warnings = append(s.Warnings, warning)
	}
	var problems settingsError
	for i := range s.values {
		v := &s.values[i]
		if text, ok := secrets[v.row.name]; ok && slices.Contains(needed, v.row.name) {
			v.whole = secret(text)
			if err := v.row.store(s, text); err != nil {
				problems = append(problems, problem{v.row.name, "in " + s.SecretsFile + " " + err.Error()})
			}
		}
	}
	if problems != nil {
		return problems
	}
	return nil
}

// read is load without the secrets file: the fields that it would fill stay
// empty, and nothing is written.
func (c configuration) read() (*settings, error) {
	given, warnings, err := c.gather()
	if err != nil {
		return nil, unfit(err)
	}
	return interpret(given, warnings)
}

// gather returns what is given for all variables, of which many are none of ours, and what
// is strange about the file.
func (c configuration) gather() (map[string]assigned, []string, error) {
	all := map[string]assigned{}
	for _, pair := range c.Environ {
		if name, v, ok := strings.Cut(pair, "="); ok && v != "" {
			all[name] = assigned{secret(v), "environment"}
		} else if ok {
			delete(all, name)
		}
	}
	if c.EnvFile == "" {
		return all, nil, nil
	}
	file, err := readEnvFile(c.EnvFile)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range file.pairs {
		if _, ok := all[p.name]; !ok {
			all[p.name] = assigned{secret(p.value), c.EnvFile}
		}
	}
	if warning := file.checkMode(); warning != "" {
		return all, append(file.warnings, warning), nil
	}
	return all, file.warnings, nil
}

// interpret makes settings of what was given. When anything is wrong the error is a
// settingsError that names every problem, and the settings are what could be read.
func interpret(all map[string]assigned, warnings []string) (*settings, error) {
	type text struct{ value, from string }
	var problems settingsError
	s := &settings{Warnings: slices.Clone(warnings), given: all}
	given := make(map[string]text, len(all))
	for name, g := range all {
		given[name] = text{string(g.value), g.from}
	}

	hostname := given["PDS_HOSTNAME"].value
	s.Development = hostname == "" || hostname == "localhost"

	// Values that count as unset are taken out of given, so that the checks
	// below see what the table saw.
	var others []string
	for name, t := range given {
		r := settingOf(name)
		if r == nil && !ours(name) {
			delete(given, name)
			continue
		}
		switch {
		case r == nil:
			near := nearSetting(name)
			switch {
			case near == "PDS_HOSTNAME" && hostname == "":
				problems = append(problems, problem{name, "is not a setting, and PDS_HOSTNAME is not set: without it this would be a development server, open to everybody. Is PDS_HOSTNAME meant?"})
			case near != "":
				s.Warnings = append(s.Warnings, name+" is not a setting: it has no effect; is "+near+" meant?")
			default:
				s.Warnings = append(s.Warnings, name+" is not a setting: it has no effect")
			}
			delete(given, name)
		case r.refused != "":
			if off, ok := r.read(t.value); r.kind == kindBoolean && (!ok || off == "false") {
				break
			}
			problems = append(problems, problem{name, "is set: " + r.refused})
		case r.noEffect != "":
			if r.quiet == nil || !r.quiet(t.value) {
				s.Warnings = append(s.Warnings, name+" has no effect: "+r.noEffect)
			}
			others = append(others, name)
		default:
			v, ok := r.read(t.value)
			if !ok && strings.HasPrefix(name, "PORTICO_") {
				problems = append(problems, problem{name, "is not " + r.kind.form()})
			} else if !ok {
				s.Warnings = append(s.Warnings, fmt.Sprintf("%s is not %s: it counts as unset", name, r.kind.form()))
			}
			if !ok {
				delete(given, name)
				continue
			}
			given[name] = text{v, t.from}
		}
	}

	hostname = cmp.Or(hostname, "localhost")
	for r := range settingRows {
		if r.store == nil {
			continue
		}
		t, ok := given[r.name]
		switch {
		case ok:
		case s.usesFile(r):
			t.from = "secrets file"
		case s.Development && r.dev != "":
			t = text{r.dev, "development default"}
		default:
			t = text{strings.ReplaceAll(r.def, "<hostname>", hostname), "default"}
		}
		v := settingValue{row: r, name: r.name, text: t.value, from: t.from, whole: secret(t.value)}
		if r.secret {
			v.text = ""
		}
		s.values = append(s.values, v)
		// What is made from a wrong host name would be wrong again.
		if t.value == "" || !ok && strings.Contains(r.def, "<hostname>") && checkHostname(hostname) != nil {
			continue
		}
		if err := r.store(s, t.value); err != nil {
			problems = append(problems, problem{r.name, err.Error()})
		}
	}
	slices.Sort(others)
	for _, name := range others {
		s.values = append(s.values, settingValue{row: settingOf(name), name: name, text: given[name].value, from: given[name].from, whole: secret(given[name].value)})
	}

	s.Version = cmp.Or(s.Version, version())
	s.PublicURL = &url.URL{Scheme: "https", Host: s.Hostname}
	if s.Development {
		s.PublicURL = &url.URL{Scheme: "http", Host: "localhost:" + strconv.Itoa(s.Port)}
	}
	if found := s.foreignData(); found != "" {
		problems = append(problems, problem{"PDS_DATA_DIRECTORY", "has the data of a reference PDS (" + found + "): leave that folder as it is. To take its accounts over, " +
			"stop that server and run \"portico adopt " + s.DataDirectory + " --into FOLDER\", with a new folder; to begin anew, name a new folder here"})
	}
	problems = append(problems, s.check(func(name string) string { return given[name].value })...)
	if !s.Development && s.SMTPURL == nil {
		s.Warnings = append(s.Warnings, "PDS_EMAIL_SMTP_URL is unset: mails stay in the outbox, so nobody can confirm an address, reset a password or delete an account")
	}
	if !s.Development {
		s.warnOfServices()
	}
	if file := s.databaseFile(); !s.Development && (file != "" || len(s.fromFile()) > 0) && !filepath.IsAbs(given["PDS_DATA_DIRECTORY"].value) {
		s.Warnings = append(s.Warnings, "PDS_DATA_DIRECTORY is not a whole path: the data is in "+s.DataDirectory+" because this was started there")
	}
	if !s.Development && !s.SSRFProtection {
		s.Warnings = append(s.Warnings, "PDS_DISABLE_SSRF_PROTECTION is set: strangers can make this server send requests to the inside of its network")
	}
	for _, domain := range s.HandleDomains {
		if h, err := handle.Normalize("abc" + domain); err != nil || !h.AllowedTLD() {
			s.Warnings = append(s.Warnings, fmt.Sprintf("PDS_SERVICE_HANDLE_DOMAINS has the domain %q, under which no handle is allowed: nobody can sign up there", domain))
		}
	}
	slices.Sort(s.Warnings)
	if len(problems) > 0 {
		// A variable that is wrong by itself needs no second remark.
		slices.SortStableFunc(problems, func(a, b problem) int { return cmp.Compare(a.variable, b.variable) })
		return s, slices.CompactFunc(problems, func(a, b problem) bool { return a.variable == b.variable })
	}
	return s, nil
}

// usesFile says whether the secrets file stands in for r where its variable
// is unset.
func (s *settings) usesFile(r *setting) bool {
	return r.fromFile == fileDevelopment && s.Development || r.fromFile == fileSQLite && s.DatabaseURL == ""
}

// fromFile is the names of the variables that the secrets file stands in for.
func (s *settings) fromFile() []string {
	var names []string
	for _, v := range s.values {
		if v.from == "secrets file" {
			names = append(names, v.name)
		}
	}
	return names
}

// databaseFile is the path of the SQLite database, empty with Postgres.
func (s *settings) databaseFile() string {
	if s.DatabaseURL != "" {
		return ""
	}
	return filepath.Join(s.DataDirectory, databaseName)
}

// foreignData names what shows that the data directory is that of a reference PDS;
// empty: it is not, or nothing is kept there.
func (s *settings) foreignData() string {
	if s.databaseFile() == "" && len(s.fromFile()) == 0 || exists(filepath.Join(s.DataDirectory, databaseName)) {
		return ""
	}
	var found []string
	for _, name := range []string{"account.sqlite", "sequencer.sqlite", "did_cache.sqlite", "actors"} {
		if exists(filepath.Join(s.DataDirectory, name)) {
			found = append(found, name)
		}
	}
	return strings.Join(found, ", ")
}

// databaseName is the file that package db keeps its SQLite database in.
const databaseName = "portico.sqlite"

// A shownSetting is a setting as it may be shown: of secrets only where they are from.
type shownSetting struct {
	Name  string `json:"name"`
	Value string `json:"value"` // "-" where there is none
	From  string `json:"from"`
}

// shown is every setting with its value and where that came from.
func (s *settings) shown() []shownSetting {
	all := make([]shownSetting, len(s.values))
	for i := range s.values {
		all[i] = s.values[i].shown()
	}
	return all
}

func (v *settingValue) shown() shownSetting {
	text, from := withoutUser(v.text), v.from
	switch {
	case v.row.noEffect != "":
		from += " (no effect)"
		if secretName(v.name) {
			text = "(secret)"
		}
	case v.row.secret && (from == "default" || from == "development default"):
		text, from = "-", "not set"
	case v.row.secret:
		text = "(secret)"
	case text == "", text == "0" && from == "default" && v.row.shown != "":
		text, from = "-", "not set"
		if v.row.shown != "" {
			text = "(" + v.row.shown + ")"
		}
	}
	return shownSetting{v.name, text, from}
}

// print writes the settings for a person.
func (s *settings) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVALUE\tFROM")
	for _, v := range s.shown() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Name, printable(v.Value), v.From)
	}
	return t.Flush()
}

var (
	secretNamePattern = regexp.MustCompile(`(?i)SECRET|PASSW|PASSPHRASE|TOKEN|SALT|PRIVATE|CREDENTIAL|_AUTH(_|$)|JWT|SMTP|_KEY(_|$)|_PASS(_|$)|_PWD(_|$)|DATABASE_URL`)
	userPattern       = regexp.MustCompile(`://[^/?#]*@`)
)

// secretName says whether the value of a variable, be it one that nobody knows, has to
// be hidden.
func secretName(name string) bool {
	if r := settingOf(name); r != nil && r.store != nil {
		return r.secret
	}
	return secretNamePattern.MatchString(name)
}

// withoutUser is text without the user and password of a URL in it.
func withoutUser(text string) string {
	return userPattern.ReplaceAllString(text, "://(secret)@")
}

// ours says whether a variable is meant for this program, however it is written.
func ours(name string) bool {
	name = strings.ToUpper(name)
	return strings.HasPrefix(name, "PDS") || strings.HasPrefix(name, "PORTICO")
}

// nearSetting is the setting whose name a variable mistypes by up to two letters, beside
// underscores, case and the prefix; empty when there is none.
func nearSetting(name string) string {
	bare := func(name string) string {
		name = strings.ReplaceAll(strings.ToUpper(name), "_", "")
		return strings.TrimPrefix(strings.TrimPrefix(name, "PORTICO"), "PDS")
	}
	near, least := "", 3
	for r := range settingRows {
		if r.store == nil {
			continue
		}
		want := bare(r.name)
		// Short names are near to everything.
		if d := distance(bare(name), want); d < least && 3*d < len(want) {
			near, least = r.name, d
		}
	}
	return near
}

// distance is how many letters must be put in, left out or replaced to get from a to b.
// Ours because what cli suggests is the nearest name however far it is.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// markdown is the table of settings as SETTINGS.md shows it.
func markdown() string {
	var b strings.Builder
	cell := func(text string) string {
		if text == "" || strings.Contains(text, " ") && !strings.Contains(text, "<") {
			return text
		}
		return "`" + text + "`"
	}
	for _, g := range settingsTable {
		fmt.Fprintf(&b, "**%s**\n\n", g.title)
		if g.settings[0].store == nil {
			b.WriteString("| variable | why |\n| --- | --- |\n")
			for _, r := range g.settings {
				fmt.Fprintf(&b, "| `%s` | %s |\n", r.name, r.noEffect+r.refused)
			}
			b.WriteString("\n")
			continue
		}
		b.WriteString("| variable | kind | default | in development | SIGHUP | meaning |\n| --- | --- | --- | --- | --- | --- |\n")
		for _, r := range g.settings {
			def := r.shown
			if def == "" {
				def = cell(r.def)
			}
			dev := cell(r.dev)
			if r.fromFile == fileDevelopment {
				dev = "made at the first start"
			}
			kind := string(r.kind)
			if r.secret {
				kind += ", secret"
			}
			reload := ""
			if r.reload {
				reload = "yes"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.name, kind, def, dev, reload, r.about)
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// settingsHelp is the table of settings for a terminal.
func settingsHelp() string {
	var b strings.Builder
	for _, g := range settingsTable {
		fmt.Fprintf(&b, "\n%s:\n", g.title)
		for _, r := range g.settings {
			fmt.Fprintf(&b, "\n  %s", r.name)
			if def := strings.Trim(cmp.Or(r.shown, r.def), "*"); def != "" {
				fmt.Fprintf(&b, " (%s", def)
				if r.dev != "" {
					fmt.Fprintf(&b, "; in development %s", r.dev)
				} else if r.fromFile == fileDevelopment {
					b.WriteString("; in development made at the first start")
				}
				b.WriteString(")")
			}
			b.WriteString("\n")
			for line := range wrapped(strings.ReplaceAll(r.about+r.noEffect+r.refused, "`", ""), 70) {
				b.WriteString("    " + line + "\n")
			}
		}
	}
	return strings.Trim(b.String(), "\n")
}

// wrapped is the lines of text, broken at blanks where they would be longer than width.
func wrapped(text string, width int) iter.Seq[string] {
	return func(yield func(string) bool) {
		line := ""
		for word := range strings.FieldsSeq(text) {
			if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
				if !yield(line) {
					return
				}
				line = ""
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
		if line != "" {
			yield(line)
		}
	}
}
