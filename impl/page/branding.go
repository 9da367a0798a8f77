package page

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Branding is how the operator wants a site to look. What is zero is as it is without. The
// logo is all that is loaded from elsewhere.
type Branding struct {
	LogoURL                                   string
	HomeURL, TermsURL, PrivacyURL, SupportURL string
	Primary, Error, Warning, Info, Success    *Color
}

// A Color is one of sRGB.
type Color struct{ R, G, B uint8 }

var (
	hexColor = regexp.MustCompile(`^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$`)
	rgbColor = regexp.MustCompile(`^rgb\( *([0-9]{1,3}) *[, ] *([0-9]{1,3}) *[, ] *([0-9]{1,3}) *\)$`)
	hslColor = regexp.MustCompile(`^hsl\( *([0-9]{1,3})(?:deg)? *[, ] *([0-9]{1,3})% *[, ] *([0-9]{1,3})% *\)$`)
)

var errColor = errors.New("is no colour: it has to be one like #1a2b3c, rgb(26, 43, 60) or hsl(210, 40%, 17%)")

// ParseColor reads a colour as CSS has them: #rgb, #rrggbb, rgb(…) or hsl(…).
func ParseColor(text string) (Color, error) {
	if m := hexColor.FindStringSubmatch(text); m != nil {
		digits := m[1]
		if len(digits) == 3 {
			digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
		}
		n, err := strconv.ParseUint(digits, 16, 24)
		return Color{uint8(n >> 16), uint8(n >> 8), uint8(n)}, err
	}
	number := func(text string, most int) (float64, bool) {
		n, err := strconv.Atoi(text)
		return float64(n), err == nil && n <= most
	}
	if m := rgbColor.FindStringSubmatch(text); m != nil {
		r, ok := number(m[1], 255)
		g, ok2 := number(m[2], 255)
		b, ok3 := number(m[3], 255)
		if ok && ok2 && ok3 {
			return Color{uint8(r), uint8(g), uint8(b)}, nil
		}
	}
	if m := hslColor.FindStringSubmatch(text); m != nil {
		h, ok := number(m[1], 360)
		s, ok2 := number(m[2], 100)
		l, ok3 := number(m[3], 100)
		if ok && ok2 && ok3 {
			return fromHSL(h, s/100, l/100), nil
		}
	}
	return Color{}, fmt.Errorf("%q %w", text, errColor)
}

func fromHSL(h, s, l float64) Color {
	part := func(n float64) uint8 {
		k := math.Mod(n+h/30, 12)
		return uint8(math.Round(255 * (l - s*min(l, 1-l)*max(-1, min(k-3, 9-k, 1)))))
	}
	return Color{part(0), part(8), part(4)}
}

// String is the colour as CSS has it.
func (c Color) String() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// luminance is that of WCAG 2.2.
func (c Color) luminance() float64 {
	part := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*part(c.R) + 0.7152*part(c.G) + 0.0722*part(c.B)
}

// contrast is that of WCAG 2.2, from 1 to 21.
func (c Color) contrast(with Color) float64 {
	a, b := c.luminance(), with.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// readable is contrast enough for text.
const readable = 4.5

// on is the first step from c towards black or white that can be read on back.
func (c Color) on(back Color) Color {
	towards := Color{}
	if back.luminance() < 0.18 {
		towards = Color{255, 255, 255}
	}
	mix := func(a, b uint8, share float64) uint8 {
		return uint8(math.Round(float64(a)*(1-share) + float64(b)*share))
	}
	for i := range 50 {
		share := float64(i) / 50
		step := Color{mix(c.R, towards.R, share), mix(c.G, towards.G, share), mix(c.B, towards.B, share)}
		if step.contrast(back) >= readable {
			return step
		}
	}
	return towards
}

// ink is black or white, whichever is easier to read on c.
func (c Color) ink() Color {
	white := Color{255, 255, 255}
	if c.contrast(white) >= c.contrast(Color{}) {
		return white
	}
	return Color{}
}

// The grounds that text stands on: the darker one where it is light, and the lighter one where
// it is dark. See page.css.
var (
	lightBack = Color{0xf4, 0xf6, 0xf9}
	darkBack  = Color{0x1b, 0x22, 0x2b}
)

// style are the colours as CSS, "" for none: those of text are made such that it can be read.
func (b Branding) style() string {
	var all strings.Builder
	scheme := func(back Color) {
		all.WriteString(":root {")
		text := func(name string, c *Color) {
			if c != nil {
				all.WriteString(" --" + name + ": " + c.on(back).String() + ";")
			}
		}
		line := func(name string, c *Color) {
			if c != nil {
				all.WriteString(" --" + name + ": " + c.String() + ";")
			}
		}
		text("accent", b.Primary)
		if b.Primary != nil {
			line("on-accent", new(b.Primary.on(back).ink()))
		}
		text("bad", b.Error)
		line("note-line", b.Warning)
		line("info-line", b.Info)
		line("good", b.Success)
		all.WriteString(" }")
	}
	if b.Primary == nil && b.Error == nil && b.Warning == nil && b.Info == nil && b.Success == nil {
		return ""
	}
	scheme(lightBack)
	all.WriteString("\n@media (prefers-color-scheme: dark) { ")
	scheme(darkBack)
	all.WriteString(" }\n")
	return all.String()
}

// links are those of the foot of a page.
func (b Branding) links() (all []Link) {
	for _, l := range []Link{{b.HomeURL, "Home"}, {b.TermsURL, "Terms of service"}, {b.PrivacyURL, "Privacy policy"}, {b.SupportURL, "Support"}} {
		if u, err := url.Parse(l.Path); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
			all = append(all, l)
		}
	}
	return all
}

// logo is the address of the picture, and its origin as a policy names it; "" for none.
func (b Branding) logo() (address, origin string) {
	u, err := url.Parse(b.LogoURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "", ""
	}
	origin, ok := Source(u)
	if !ok {
		return "", ""
	}
	return u.String(), origin
}

var (
	sourceOrigin = regexp.MustCompile(`^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
	sourceScheme = regexp.MustCompile(`^[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+:$`)
)

// Source is what stands for an address in a Content-Security-Policy: its origin, or its scheme
// where that is one of an app, which has a dot in it. ok is false for what none stands for: such a
// policy has no addresses of IPv6.
func Source(u *url.URL) (source string, ok bool) {
	if u.Scheme == "https" || u.Scheme == "http" {
		source = u.Scheme + "://" + strings.ToLower(u.Host)
		return source, u.User == nil && sourceOrigin.MatchString(source)
	}
	source = strings.ToLower(u.Scheme) + ":"
	return source, sourceScheme.MatchString(source)
}
