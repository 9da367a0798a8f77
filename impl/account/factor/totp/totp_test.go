package totp_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"portico/impl/account/factor/totp"
)

// vector is the secret of RFC 6238, appendix B.
func vector(t *testing.T) totp.Secret {
	t.Helper()
	s, err := totp.Read([]byte("12345678901234567890"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The vectors of RFC 6238 have eight digits, of which ours are the last six.
func TestVectorsOfRFC6238(t *testing.T) {
	s := vector(t)
	for _, tt := range []struct {
		at   int64
		want string
	}{
		{59, "287082"}, {1111111109, "081804"}, {1111111111, "050471"}, {1234567890, "005924"}, {2000000000, "279037"}, {20000000000, "353130"},
	} {
		if got := s.Code(totp.StepAt(time.Unix(tt.at, 0))); got != tt.want {
			t.Errorf("at %d: %s, want %s", tt.at, got, tt.want)
		}
	}
}

func TestFind(t *testing.T) {
	s, now := vector(t), time.Unix(1234567890, 0)
	step := totp.StepAt(now)
	for _, tt := range []struct {
		off  int64
		want bool
	}{{-2, false}, {-1, true}, {0, true}, {1, true}, {2, false}} {
		got, ok := s.Find(s.Code(step+tt.off), now)
		if ok != tt.want || ok && got != step+tt.off {
			t.Errorf("a code %d steps off: %d, %t", tt.off, got-step, ok)
		}
	}
	for _, wrong := range []string{"", "00592", "0059240", "00592x", "005 924", strings.Repeat("0", 1<<16)} {
		if _, ok := s.Find(wrong, now); ok {
			t.Errorf("%.20q is taken for a code", wrong)
		}
	}
}

func TestValid(t *testing.T) {
	for text, want := range map[string]bool{"005924": true, "": false, "00592": false, "0059241": false, "00592A": false, "٠٠٥٩٢٤": false, "-05924": false} {
		if totp.Valid(text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
}

func TestSecret(t *testing.T) {
	s := vector(t)
	if got := s.Text(); got != "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" {
		t.Error(got)
	}
	got := s.URI("My: PDS & Co", "alice+x@mail.test")
	want := "otpauth://totp/My%20%20PDS%20%26%20Co:alice%2Bx%40mail.test?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=My%20%20PDS%20%26%20Co&algorithm=SHA1&digits=6&period=30"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fmt.Sprintf("%v %+v %#v %s", s, s, s, s); got != "REDACTED REDACTED REDACTED REDACTED" {
		t.Error(got)
	}
	for _, n := range []int{0, 19, 21} {
		if _, err := totp.Read(make([]byte, n)); !errors.Is(err, totp.ErrSecret) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	one, err := totp.New(rand.Reader)
	other, err2 := totp.New(rand.Reader)
	if err != nil || err2 != nil || one == other {
		t.Error("not two secrets", err, err2)
	}
	if _, err := totp.New(bytes.NewReader(nil)); err == nil {
		t.Error("a secret out of nothing")
	}
}

// Every reader looks for the corners first.
func TestDraw(t *testing.T) {
	p, err := totp.Draw(vector(t).URI("PDS", "alice.test"))
	if err != nil {
		t.Fatal(err)
	}
	const corner = "M4 4h7v1h-7z"
	if !strings.HasPrefix(p.Path, corner) || !strings.Contains(p.Path, fmt.Sprintf("M%d 4h7v1h-7z", p.Size-4-7)) || (p.Size-8-17)%4 != 0 {
		t.Errorf("%d: %s", p.Size, p.Path)
	}
	if _, err := totp.Draw(strings.Repeat("x", 5000)); err == nil {
		t.Error("more than fits was drawn")
	}
}
