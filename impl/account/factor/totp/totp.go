// Package totp is the codes of authenticator apps: RFC 6238 as all of them speak it, six digits
// of HMAC-SHA1 that change every thirty seconds.
//
// Of pquerna/otp it takes the codes, and not how they are validated: that says yes or no, and a
// code that is to be good once has to be told apart by its step.
package totp

import (
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"image/color"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/pquerna/otp/hotp"
)

const (
	// secretSize is as long as the hash, as RFC 4226 recommends.
	secretSize = 20
	period     = 30
	// skew is how many steps the clock of an app may be off, either way.
	skew = 1
	// Digits is how long a code is.
	Digits = 6
)

// ErrSecret says that bytes are no secret.
var ErrSecret = errors.New("not the secret of an authenticator app")

// A Secret is what an app and this server have in common.
type Secret [secretSize]byte

// New makes a secret from random, which has to be a secure source.
func New(random io.Reader) (s Secret, err error) {
	if _, err := io.ReadFull(random, s[:]); err != nil {
		return s, fmt.Errorf("make secret: %w", err)
	}
	return s, nil
}

// Read is the secret that has these bytes, or ErrSecret.
func Read(b []byte) (s Secret, err error) {
	if copy(s[:], b) != len(b) || len(b) != secretSize {
		return Secret{}, ErrSecret
	}
	return s, nil
}

// String keeps secrets out of everything that prints.
func (Secret) String() string { return "REDACTED" }

// GoString is String.
func (Secret) GoString() string { return "REDACTED" }

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Text is the secret as people type it into an app.
func (s Secret) Text() string { return encoding.EncodeToString(s[:]) }

// URI is the secret as apps read it, with the names under which they list it.
func (s Secret) URI(issuer, account string) string {
	// A colon parts the names, and apps take a plus sign for what it is.
	name := func(s string) string {
		return strings.ReplaceAll(url.QueryEscape(strings.ReplaceAll(s, ":", " ")), "+", "%20")
	}
	return "otpauth://totp/" + name(issuer) + ":" + name(account) +
		"?secret=" + s.Text() + "&issuer=" + name(issuer) + "&algorithm=SHA1&digits=6&period=30"
}

// StepAt is the step that a time lies in.
func StepAt(t time.Time) int64 { return t.Unix() / period }

// Code is the code of a step.
func (s Secret) Code(step int64) string {
	code, err := hotp.GenerateCode(s.Text(), uint64(step))
	if err != nil {
		panic("totp: " + err.Error()) // what Text encodes is always read
	}
	return code
}

// Find returns the step whose code was typed, if it is one of now or of the steps beside it.
// It takes as long whatever was typed.
func (s Secret) Find(code string, now time.Time) (step int64, ok bool) {
	for i := StepAt(now) - skew; i <= StepAt(now)+skew; i++ {
		if subtle.ConstantTimeCompare([]byte(s.Code(i)), []byte(code)) == 1 {
			step, ok = i, true
		}
	}
	return step, ok
}

// Valid reports whether a text has the form of a code.
func Valid(text string) bool {
	return len(text) == Digits && strings.Trim(text, "0123456789") == ""
}

// A Picture is a QR code: an SVG path of squares, black on white, that is Size wide and high
// with the margin that readers need.
type Picture struct {
	Path string
	Size int
}

const margin = 4

// Draw makes the picture of a URI.
func Draw(uri string) (Picture, error) {
	code, err := qr.Encode(uri, qr.M, qr.Auto)
	if err != nil {
		return Picture{}, fmt.Errorf("draw QR code: %w", err)
	}
	var b strings.Builder
	size := code.Bounds().Dx()
	black := func(x, y int) bool { return x < size && code.At(x, y) == color.Black }
	for y := range size {
		for x := 0; x < size; x++ {
			if !black(x, y) {
				continue
			}
			from := x
			for black(x, y) {
				x++
			}
			fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+margin, y+margin, x-from, x-from)
		}
	}
	return Picture{b.String(), size + 2*margin}, nil
}
