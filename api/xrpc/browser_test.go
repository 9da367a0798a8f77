package xrpc

import "testing"

func TestRefusesBrowsers(t *testing.T) {
	url, _ := serveToy(t, Options{Version: "9"})
	const (
		code     = `{"error":"Forbidden","message":"Answers of this server are no scripts or styles"}`
		frame    = `{"error":"Forbidden","message":"Answers of this server are not shown in frames"}`
		worker   = `{"error":"Forbidden","message":"Answers of this server are no service workers"}`
		password = `{"error":"Forbidden","message":"Passwords are not taken from the pages of other sites"}`
		fine     = `{"version":"9"}`
		missing  = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n<pre>Cannot GET /other</pre>\n</body>\n</html>\n"
	)
	for _, tt := range []struct {
		ask     string
		headers []string
		status  int
		body    string
	}{
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: script"}, 403, code},
		{"GET /XRPC/_Health/", []string{"Sec-Fetch-Dest: script"}, 403, code},
		{"GET /xrpc%2F_health", []string{"Sec-Fetch-Dest: script"}, 403, code},
		{"GET /xrpc/com.example.toy.unknown", []string{"Sec-Fetch-Dest: worker"}, 403, code},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: sharedworker"}, 403, code},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: serviceworker", "Service-Worker: script"}, 403, worker},
		{"GET /xrpc/_health", []string{"Service-Worker: script"}, 403, worker},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: audioworklet"}, 403, code},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: paintworklet"}, 403, code},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: style"}, 403, code},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: xslt"}, 403, code},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: iframe"}, 403, frame},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: frame"}, 403, frame},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: object"}, 403, frame},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: embed"}, 403, frame},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: empty", "Sec-Fetch-Site: cross-site"}, 200, fine},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: document"}, 200, fine},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: image", "Sec-Fetch-Site: cross-site"}, 200, fine},
		{"GET /xrpc/_health", []string{"Sec-Fetch-Dest: video"}, 200, fine},
		{"GET /xrpc/_health", []string{"Authorization: Basic YTpi"}, 200, fine},
		{"GET /xrpc/_health", []string{"Authorization: Basic YTpi", "Sec-Fetch-Site: none"}, 200, fine},
		{"GET /xrpc/_health", []string{"Authorization: Basic YTpi", "Sec-Fetch-Site: same-origin"}, 200, fine},
		{"GET /xrpc/_health", []string{"Authorization: basic YTpi", "Sec-Fetch-Site: same-site"}, 403, password},
		{"GET /xrpc/_health", []string{"Authorization: Basic YTpi", "Sec-Fetch-Site: cross-site"}, 403, password},
		{"GET /xrpc/_health", []string{"Authorization: Bearer YTpi", "Sec-Fetch-Site: cross-site"}, 200, fine},
		{"GET /other", []string{"Sec-Fetch-Dest: script"}, 404, missing},
	} {
		resp, body := do(t, url, tt.ask, "", tt.headers...)
		if resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s %v: %d %s", tt.ask, tt.headers, resp.StatusCode, body)
		}
		policy := "cross-origin"
		if tt.body == missing {
			policy = ""
		}
		if got := resp.Header.Get("Cross-Origin-Resource-Policy"); got != policy {
			t.Errorf("%s %v: Cross-Origin-Resource-Policy %q", tt.ask, tt.headers, got)
		}
	}
}
