package mail

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func brand(t *testing.T) Brand {
	t.Helper()
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	return Brand{
		ServiceName: "Example & Sons", HomeURL: parse("https://example.com/home?a=1&b=2"),
		LogoURL: parse("https://example.com/logo.png"), PrimaryColor: "#aa0033",
	}
}

var noon = time.Date(2026, 3, 4, 12, 5, 0, 0, time.FixedZone("", 3600))

const testCode = "ABCDE-23456"

func letters(b Brand) map[string]Letter {
	const to, handle = "alice@example.com", "alice.example.com"
	return map[string]Letter{
		KindConfirm:           b.Confirm(to, testCode),
		KindUpdate:            b.Update(to, testCode),
		KindReset:             b.Reset(to, handle, testCode),
		KindDelete:            b.Delete(to, testCode),
		KindPLC:               b.PLCOperation(to, testCode),
		KindSignIn:            b.SignIn(to, handle, testCode),
		KindPasswordChanged:   b.PasswordChanged(to, handle, noon),
		"recovered":           b.Recovered(to, handle, noon, Recovery{}),
		"recovered_keys":      b.Recovered(to, handle, noon, Recovery{SignInCodeOff: true, AuthenticatorOff: true, ForeignKeys: []string{"did:key:zQ3shA", "did:key:\u202ezDnaeB"}}),
		"recovered_unknown":   b.Recovered(to, handle, noon, Recovery{KeysUnknown: true, Passkeys: 1}),
		"recovered_passkeys":  b.Recovered(to, handle, noon, Recovery{Passkeys: 2}),
		KindNewPlace:          b.NewPlace(to, handle, "198.51.100.1", noon),
		KindGuessed:           b.Guessed(to, handle, noon),
		KindEmailChanged:      b.EmailChanged(to, handle, noon, false),
		"email_changed_2fa":   b.EmailChanged(to, handle, noon, true),
		KindSignInCodeOn:      b.SignInCodeOn(to, handle, noon),
		KindSignInCodeOff:     b.SignInCodeOff(to, handle, noon),
		KindFactorsChanged:    b.FactorsChanged(to, handle, noon, RecoveryCodeUsed, "Recovery codes left: 3."),
		KindHostMoved:         b.HostMoved(to, handle, "did:web:alice.example", "https://old.example.com", "https://new.example.com"),
		KindDeletionDue:       b.DeletionDue(to, handle, noon),
		KindAccountDeleted:    b.AccountDeleted(to, handle, noon),
		"confirm_email_plain": Brand{ServiceName: "localhost PDS", DisableConfirmationLink: true}.Confirm(to, testCode),
	}
}

func TestLettersAreGolden(t *testing.T) {
	for name, l := range letters(brand(t)) {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".txt", "To: "+l.To+"\nSubject: "+l.Subject+"\n\n"+l.Text)
			golden(t, name+".html", l.HTML)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test ./impl/mail -update writes it):\n%s", path, diff)
	}
}

func TestLettersSayWhatClientsAndPeopleExpect(t *testing.T) {
	all := letters(brand(t))
	for _, tt := range []struct {
		kind, subject string
		both          []string // in both parts
	}{
		{"confirm_email", "Email Confirmation", []string{"Confirm your email", "ABCDE-23456", "https://bsky.app/intent/verify-email?code=ABCDE-23456", "ignore this email"}},
		{"update_email", "Email Update Requested", []string{"Update your email", "ABCDE-23456", "new email address", "ignore this email"}},
		{"reset_password", "Password Reset Requested", []string{"Reset password", "@alice.example.com", "ABCDE-23456", "new password"}},
		{"delete_account", "Account Deletion Requested", []string{"Delete your account", "To permanently delete your account", "ABCDE-23456", "your password", "change your password"}},
		{"plc_operation", "PLC Update Operation Requested", []string{"PLC update requested", "ABCDE-23456", "sensitive operation"}},
		{"sign_in", "Sign-in Code", []string{"@alice.example.com", "ABCDE-23456"}},
		{"password_changed", "Your Password Was Changed", []string{"@alice.example.com", "4 March 2026 at 11:05 UTC"}},
		{"recovered", "Your Password Was Changed", []string{"@alice.example.com", "4 March 2026 at 11:05 UTC", "app passwords no longer work"}},
		{"recovered_keys", "Your Password Was Changed", []string{"did:key:zQ3shA", "did:key:zDnaeB", "Signing in asked for a code"}},
		{"email_changed", "Your Email Address Was Changed", []string{"@alice.example.com", "4 March 2026 at 11:05 UTC"}},
		{"email_changed_2fa", "Your Email Address Was Changed", []string{"Signing in asked for a code from this address. That is now off"}},
		{"sign_in_code_on", "Sign-in Codes Turned On", []string{"@alice.example.com"}},
		{"sign_in_code_off", "Sign-in Codes Turned Off", []string{"@alice.example.com"}},
		{"factors_changed", "How to Sign In Was Changed", []string{"@alice.example.com", "4 March 2026 at 11:05 UTC", "and a recovery code", "codes left: 3"}},
		{"deletion_due", "Your Account Will Be Deleted", []string{"@alice.example.com", "4 March 2026 at 11:05 UTC"}},
		{"account_deleted", "Your Account Was Deleted", []string{"@alice.example.com"}},
	} {
		l := all[tt.kind]
		if l.Subject != tt.subject {
			t.Errorf("%s: subject %q, want %q", tt.kind, l.Subject, tt.subject)
		}
		for _, want := range tt.both {
			if !strings.Contains(l.Text, want) {
				t.Errorf("%s: the text has no %q", tt.kind, want)
			}
			if !strings.Contains(l.HTML, want) {
				t.Errorf("%s: the HTML has no %q", tt.kind, want)
			}
		}
	}
	if l := all["confirm_email"]; !strings.Contains(l.HTML, ">ABCDE-23456 is your verification code.<") {
		t.Error("confirm_email: no preview")
	}
	if l := all["confirm_email_plain"]; strings.Contains(l.HTML+l.Text, "http") {
		t.Error("confirm_email: a link although it is disabled, or one to nowhere")
	}
}

func TestNothingRemoteButTheLogo(t *testing.T) {
	for name, l := range letters(brand(t)) {
		rest := strings.ReplaceAll(l.HTML, `src="https://example.com/logo.png"`, "")
		for _, bad := range []string{"src=", "url(", "<link", "<script", "@import", "background="} {
			if strings.Contains(rest, bad) {
				t.Errorf("%s: %s", name, bad)
			}
		}
	}
}

func TestWhatAStrangerControlsIsEscaped(t *testing.T) {
	const evil = "a\"><script>x</script>\r\nBcc: eve@example.com\r\n\r\n\u202egnp.exe"
	l := brand(t).Reset("alice@example.com", evil, testCode)
	for _, bad := range []string{"<script>", "\r", "\nBcc", "\u202e"} {
		if strings.Contains(l.HTML, bad) || strings.Contains(l.Subject, bad) {
			t.Errorf("%q is in the HTML or the subject", bad)
		}
	}
	for _, bad := range []string{"\r", "\nBcc", "\u202e"} {
		if strings.Contains(l.Text, bad) {
			t.Errorf("%q is in the text", bad)
		}
	}
	if want := "a&#34;&gt;&lt;script&gt;x&lt;/script&gt;Bcc: eve@example.comgnp.exe"; !strings.Contains(l.HTML, want) {
		t.Errorf("the HTML has no %s", want)
	}
}

func TestColors(t *testing.T) {
	for color, want := range map[string]string{
		"#123":                     "solid #123;",
		"teal":                     "solid teal;",
		"rgb(1, 2, 3)":             "solid rgb(1, 2, 3);",
		"":                         "solid #067df7;",
		"red;background:url(//x/)": "solid #067df7;",
		`red"><img>`:               "solid #067df7;",
	} {
		b := Brand{ServiceName: "x", PrimaryColor: color}
		if l := b.Confirm("a@example.com", testCode); !strings.Contains(l.HTML, want) {
			t.Errorf("%q: the HTML has no %q", color, want)
		}
	}
}

func TestLettersKeepTheirCodesOutOfLogs(t *testing.T) {
	l := brand(t).SignIn("alice@example.com", "alice.example.com", testCode)
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "letter", l)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "letter", l)
	fmt.Fprintf(&b, "%v %+v %#v %s %q", l, l, l, l, l)
	if strings.Contains(b.String(), "ABCDE") {
		t.Errorf("a code was printed: %s", b.String())
	}
}

func TestRedacted(t *testing.T) {
	for name, l := range letters(brand(t)) {
		r := l.Redacted()
		if strings.Contains(r.Text+r.HTML+r.Subject, "ABCDE") {
			t.Errorf("%s: the code is still there", name)
		}
	}
	if got := Redact("code=abcde-fghij, =3DABCDE-23456; inline-block"); got != "code=*****-*****, =3D*****-*****; inline-block" {
		t.Errorf("got %s", got)
	}
}
