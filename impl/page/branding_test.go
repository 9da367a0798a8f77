package page

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseColor(t *testing.T) {
	for text, want := range map[string]string{
		"#fff": "#ffffff", "#1a2B3c": "#1a2b3c", "rgb(1, 2, 3)": "#010203", "rgb(1 2 3)": "#010203", "hsl(0, 100%, 50%)": "#ff0000",
		"hsl(210deg 40% 17%)": "#1a2b3d", "rgb(255,255,255)": "#ffffff",
	} {
		c, err := ParseColor(text)
		if err != nil || c.String() != want {
			t.Errorf("%q: %v %v, want %s", text, c, err, want)
		}
	}
	for _, text := range []string{
		"", "red", "#ffff", "#12345g", "rgb(256, 0, 0)", "rgb(1,2)", "hsl(361, 0%, 0%)", "hsl(0, 101%, 0%)", "#fff; } body { display: none", "url(x)", "#fff\n", "rgba(1,2,3,.5)",
	} {
		if c, err := ParseColor(text); err == nil {
			t.Errorf("%q is %v", text, c)
		}
	}
}

// Whatever colour an operator likes, what is written in it or on it can be read.
func TestTextCanBeRead(t *testing.T) {
	for r := 0; r < 256; r += 17 {
		for g := 0; g < 256; g += 17 {
			for b := 0; b < 256; b += 17 {
				c := Color{uint8(r), uint8(g), uint8(b)}
				for _, back := range []Color{lightBack, darkBack, {0xff, 0xff, 0xff}, {0x12, 0x16, 0x1c}} {
					ground := lightBack
					if back.luminance() < 0.2 {
						ground = darkBack
					}
					accent := c.on(ground)
					if accent.contrast(back) < 4.5 || accent.ink().contrast(accent) < 4.5 {
						t.Fatalf("%v became %v on %v", c, accent, back)
					}
				}
			}
		}
	}
	if (Color{0x24, 0x58, 0xc5}).on(lightBack) != (Color{0x24, 0x58, 0xc5}) {
		t.Error("a colour that can be read is changed")
	}
}

func TestSource(t *testing.T) {
	for address, want := range map[string]string{
		"https://app.example/callback?x=y": "https://app.example", "http://127.0.0.1:8080/cb": "http://127.0.0.1:8080", "https://APP.example:8443/": "https://app.example:8443",
		"dev.app.example:/cb":  "dev.app.example:",
		"http://[::1]:8080/cb": "", "https://a.example;script-src/": "", "https://user@app.example/": "", "https://*/": "", "https://*.example/": "", "javascript:alert(1)": "",
		"data:text/html,x": "", "https:///x": "", "https://a.example:999999/": "", "a.b'unsafe:/x": "",
	} {
		u, err := url.Parse(address)
		if err != nil {
			if want != "" {
				t.Error(err)
			}
			continue
		}
		if source, ok := Source(u); ok != (want != "") || ok && source != want {
			t.Errorf("%s: %q %v, want %q", address, source, ok, want)
		}
	}
}

func TestBranding(t *testing.T) {
	b := Branding{
		LogoURL: "https://cdn.example/logo.png", HomeURL: "https://example.com", TermsURL: "javascript:alert(1)", PrivacyURL: "https://example.com/privacy",
		Primary: &Color{0xff, 0xee, 0}, Warning: &Color{1, 2, 3},
	}
	if address, origin := b.logo(); address != "https://cdn.example/logo.png" || origin != "https://cdn.example" {
		t.Errorf("logo %q of %q", address, origin)
	}
	if l := b.links(); len(l) != 2 || l[0] != (Link{"https://example.com", "Home"}) || l[1].Text != "Privacy policy" {
		t.Errorf("links %v", l)
	}
	style := b.style()
	if !strings.Contains(style, "--note-line: #010203;") || !strings.Contains(style, "--accent: #") || !strings.Contains(style, "prefers-color-scheme: dark") || strings.Contains(style, "--bad") {
		t.Errorf("style %s", style)
	}
	if s := (Branding{}).style(); s != "" {
		t.Errorf("style of nothing %q", s)
	}
	for _, logo := range []string{"", "data:image/png;base64,AA", "https://a.example; script-src *", "javascript:x", "/logo.png"} {
		if address, _ := (Branding{LogoURL: logo}).logo(); address != "" {
			t.Errorf("logo %q is %q", logo, address)
		}
	}
}
