package authorize

import (
	"net/url"
	"testing"
)

func TestWhereBrowsersMayBeSent(t *testing.T) {
	for address, want := range map[string]bool{
		"https://app.example.com/callback?x=y": true, "http://127.0.0.1:8080/cb": true, "http://[::1]/cb": true, "com.example.app:/cb": true,
		"javascript:alert(1)": false, "JavaScript:alert(1)": false, "javascript://app.example.com/%0aalert(1)": false, "data:text/html,x": false, "vbscript:x": false,
		"http://app.example.com/": false, "http://localhost/": false, "https:/cb": false, "https://me@app.example.com/": false, "com.example.app:alert(1)": false,
		"file:///etc/passwd": false, "/callback": false, "": false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := leads(u); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
