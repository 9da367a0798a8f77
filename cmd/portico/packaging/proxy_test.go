//go:build packaging

package packaging

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"portico/cmd/portico/launch"
)

const (
	serverName    = "pds.example.com" // that the examples have
	adminPassword = "f3c5a6c1d0e94b7ea8f0"
	clientAddress = "127.0.0.77"     // of who asks here
	serverPort    = "127.0.0.1:2583" // where the examples look for the server
)

// A door is a proxy in front of a server: as the world sees it.
type door struct {
	*testing.T
	server     *launch.Server
	proxy      *exec.Cmd
	plain, tls string // addresses
	client     *http.Client
}

// The examples are started with a server behind them, and asked over HTTPS what people, apps and
// relays ask.
func TestProxies(t *testing.T) {
	directory, err := launch.StartServer(t.Context(), binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(directory.Kill)
	for _, tt := range []struct {
		name  string
		start func(*door, string) // what runs it, with its files in a folder
		waits bool                // requests for a server that is being started
	}{
		{"caddy", caddy, true},
		{"nginx", nginx, false},
		{"haproxy", haproxy, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &door{T: t}
			d.server, err = launch.StartServer(t.Context(), binary, t.TempDir(),
				"PDS_HOSTNAME="+serverName, "PORTICO_BIND=127.0.0.1", "PORTICO_TRUSTED_PROXIES=1", "PDS_DID_PLC_URL="+directory.Directory,
				"PDS_ADMIN_PASSWORD="+adminPassword, "PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_INVITE_REQUIRED=false",
				"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=5c1d9a4e0b7f38261a9d4c7e2f60b58313e8a7c6d5f4b3a2918070605f4e3d2c",
				"PDS_BLOB_UPLOAD_LIMIT=100000000", "PORTICO_LOG_LEVEL=debug")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.server.Kill() })
			d.plain, d.tls = d.address(), d.address()
			tt.start(d, t.TempDir())
			d.lookAround(tt.name == "caddy")
			d.restart(tt.waits)
		})
	}
}

func (d *door) address() string {
	port, err := launch.FreePort()
	if err != nil {
		d.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func port(address string) string {
	_, port, _ := strings.Cut(address, ":")
	return port
}

// example is a file of deploy in which each pair of lines, of the file and what is there in
// this test instead, was replaced. Each has to be there.
func (d *door) example(name string, pairs ...string) string {
	d.Helper()
	b, err := os.ReadFile("../deploy/" + name)
	if err != nil {
		d.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			d.Fatalf("%s has no %q", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func (d *door) write(path, text string) string {
	d.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		d.Fatal(err)
	}
	return path
}

// serve starts a proxy that is in the foreground, and waits until it listens.
func (d *door) serve(roots *x509.CertPool, env []string, program string, args ...string) {
	d.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		d.Fatalf("%v; make packaging needs it", err)
	}
	var log safeBuffer
	d.proxy = exec.Command(path, args...)
	d.proxy.Env = append(launch.Environ(), env...)
	d.proxy.Stdout, d.proxy.Stderr = &log, &log
	if err := d.proxy.Start(); err != nil {
		d.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.proxy.Wait() }()
	d.Cleanup(func() {
		if d.Failed() {
			d.Logf("%s wrote\n%s", program, log.String())
			d.Logf("the server wrote\n%s", d.server.Log())
		}
		d.proxy.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(launch.Patience); ; {
		conn, err := net.Dial("tcp", d.tls)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			d.Fatalf("%s ended: %v\n%s", program, err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			d.Fatalf("%s does not listen\n%s", program, log.String())
		}
	}
	d.client = &http.Client{
		Transport: &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				to := d.tls
				if strings.HasSuffix(address, ":80") {
					to = d.plain
				}
				from := &net.TCPAddr{IP: net.ParseIP(clientAddress)}
				return (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, to)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	d.Cleanup(d.client.CloseIdleConnections)
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// caddy makes its certificates by an authority of its own, which stands for the one of the world.
func caddy(d *door, dir string) {
	at := strings.TrimPrefix(d.server.URL, "http://localhost:")
	config := d.write(filepath.Join(dir, "Caddyfile"), d.example("Caddyfile",
		"\n{\n\t# Before", "\n{\n\tlocal_certs\n\tskip_install_trust\n\tadmin off\n\thttp_port "+port(d.plain)+"\n\thttps_port "+port(d.tls)+"\n\t# Before",
		serverPort, "127.0.0.1:"+at))
	env := []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		d.Setenv(name, dir)
	}
	run(d.T, "caddy", "validate", "--config", config, "--adapter", "caddyfile")
	original, _ := filepath.Abs("../deploy/Caddyfile")
	if _, errs := run(d.T, "caddy", "validate", "--config", original, "--adapter", "caddyfile"); strings.Contains(errs, "not formatted") {
		d.Errorf("caddy fmt would write it differently: %s", errs)
	}
	roots := x509.NewCertPool()
	d.serve(roots, env, "caddy", "run", "--config", config, "--adapter", "caddyfile")
	// The authority and the certificate of the server are made now.
	root := filepath.Join(dir, "caddy/pki/authorities/local/root.crt")
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(root)
		if err == nil && roots.AppendCertsFromPEM(text) {
			if _, _, err = d.tryAsk("GET", base+"/xrpc/_health", nil); err == nil {
				return
			}
		}
		if time.Now().After(deadline) {
			d.Fatalf("caddy makes no certificate: %v", err)
		}
	}
}

func nginx(d *door, dir string) {
	roots, certificate, key := d.certify(dir)
	site := d.write(filepath.Join(dir, "portico.conf"), d.example("nginx.conf",
		"listen 443 ssl http2;", "listen "+d.tls+" ssl http2;",
		"    listen [::]:443 ssl http2;\n", "", "listen 80;", "listen "+d.plain+";", "    listen [::]:80;\n", "",
		"/etc/letsencrypt/live/pds.example.com/fullchain.pem", certificate, "/etc/letsencrypt/live/pds.example.com/privkey.pem", key,
		serverPort, strings.Replace(strings.TrimPrefix(d.server.URL, "http://"), "localhost", "127.0.0.1", 1)))
	// What Debian's nginx.conf is around it, in folders of this test.
	config := d.write(filepath.Join(dir, "nginx.conf"), "daemon off; pid "+dir+"/pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n"+
		"client_body_temp_path "+dir+"/body; proxy_temp_path "+dir+"/proxy; fastcgi_temp_path "+dir+"/f; uwsgi_temp_path "+dir+"/u; scgi_temp_path "+dir+"/s;\n"+
		"include "+site+";\n}\n")
	if _, errs := run(d.T, "nginx", "-t", "-q", "-c", config); errs != "" {
		d.Errorf("nginx -t says %s", errs)
	}
	d.serve(roots, nil, "nginx", "-c", config, "-g", "master_process off;")
}

func haproxy(d *door, dir string) {
	roots, certificate, key := d.certify(dir)
	both := filepath.Join(dir, "both.pem")
	var text []byte
	for _, path := range []string{certificate, key} {
		b, err := os.ReadFile(path)
		if err != nil {
			d.Fatal(err)
		}
		text = append(text, b...)
	}
	d.write(both, string(text))
	config := d.write(filepath.Join(dir, "haproxy.cfg"), d.example("haproxy.cfg",
		"bind :::443 v4v6 ssl crt /etc/haproxy/certs/ ", "bind "+d.tls+" ssl crt "+both+" ",
		"bind :::80 v4v6", "bind "+d.plain,
		serverPort, strings.Replace(strings.TrimPrefix(d.server.URL, "http://"), "localhost", "127.0.0.1", 1)))
	if out, errs := run(d.T, "haproxy", "-c", "-q", "-f", config); out+errs != "" {
		d.Errorf("haproxy -c says %s%s", out, errs)
	}
	d.serve(roots, nil, "haproxy", "-db", "-f", config)
}

// certify writes a certificate for the names of the examples, which is its own authority.
func (d *door) certify(dir string) (roots *x509.CertPool, certificate, key string) {
	d.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serverName}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: []string{serverName, "*." + serverName}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		d.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		d.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	certificate = d.write(filepath.Join(dir, "fullchain.pem"), string(text))
	key = d.write(filepath.Join(dir, "privkey.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return roots, certificate, key
}

// ask sends a request and reads its answer.
func (d *door) ask(method, url string, body io.Reader, header ...string) (*http.Response, []byte) {
	d.Helper()
	resp, b, err := d.tryAsk(method, url, body, header...)
	if err != nil {
		d.Fatalf("%s %s: %v", method, url, err)
	}
	return resp, b
}

func (d *door) tryAsk(method, url string, body io.Reader, header ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(d.Context(), method, url, body)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

// logs waits until the log of the server has text: its lines are written together.
func (d *door) logs(text string) {
	d.Helper()
	for deadline := time.Now().Add(launch.Patience); !strings.Contains(d.server.Log(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.Fatalf("the log of the server has no %q", text)
		}
	}
}

const base = "https://" + serverName

// lookAround asks everything that a proxy can get wrong.
func (d *door) lookAround(onDemand bool) {
	d.Helper()
	resp, _ := d.ask("GET", "http://"+serverName+"/xrpc/_health?a=b", nil)
	if to := resp.Header.Get("Location"); resp.StatusCode/100 != 3 || to != base+"/xrpc/_health?a=b" {
		d.Errorf("over HTTP: %s, to %q", resp.Status, to)
	}
	resp, b := d.ask("GET", base+"/xrpc/_health", nil)
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		d.Fatalf("health: %s %s %s", resp.Proto, resp.Status, b)
	}
	id := resp.Header.Get("X-Request-Id")
	if id == "" {
		d.Error("the answer does not say what the request is called")
	}
	d.logs(id)
	resp, b = d.ask("HEAD", base+"/xrpc/_health", nil)
	if resp.StatusCode != http.StatusOK || len(b) != 0 {
		d.Errorf("HEAD: %s, %d bytes", resp.Status, len(b))
	}
	resp, _ = d.ask("OPTIONS", base+"/xrpc/com.atproto.server.createSession", nil,
		"Origin", "https://app.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
	if resp.StatusCode/100 != 2 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		d.Errorf("a browser asks whether it may: %s, %v", resp.Status, resp.Header)
	}

	// The address of a client is the one that the proxy saw, and the host the one that was asked for.
	resp, b = d.ask("GET", base+"/xrpc/alt.portico.operator.getRequest", nil, "Authorization", basic,
		"X-Forwarded-For", "198.51.100.7", "X-Forwarded-For", "203.0.113.9, 192.0.2.1")
	var arrived struct{ Host, Address string }
	if err := json.Unmarshal(b, &arrived); err != nil || resp.StatusCode != http.StatusOK {
		d.Fatalf("how it arrived: %s %s", resp.Status, b)
	}
	if arrived.Address != clientAddress || arrived.Host != serverName {
		d.Errorf("from %s for %s, with a made-up X-Forwarded-For, arrived %s", clientAddress, serverName, b)
	}

	alice := d.signUp("alice")
	for name, want := range map[string]string{"alice": alice.DID, "nobody": "User not found"} {
		url := "https://" + name + "." + serverName + "/.well-known/atproto-did"
		resp, b, err := d.tryAsk("GET", url, nil)
		if name == "nobody" && onDemand {
			// For a made-up name there is not even a certificate.
			if err == nil {
				d.Errorf("%s is answered %s", url, resp.Status)
			}
			d.logs(`"path":"/tls-check"`)
			continue
		}
		if err != nil || string(b) != want {
			d.Errorf("%s: %s, %v, want %s", url, b, err, want)
		}
	}

	// What writes of an app are: large, and over a connection that is kept.
	d.client.CloseIdleConnections()
	reused := 0
	ctx := httptrace.WithClientTrace(d.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			reused++
		}
	}})
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, "GET", base+"/xrpc/_health", nil)
		if err != nil {
			d.Fatal(err)
		}
		resp, err := d.client.Do(req)
		if err != nil {
			d.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if reused != 2 {
		d.Errorf("of three requests %d came over a connection that was there", reused)
	}

	events, seen := d.subscribe(), 0
	const size = 60_000_000
	large := bytes.Repeat([]byte("blob of a test. "), size/16)
	for _, known := range []bool{true, false} { // how long it is
		var body io.Reader = bytes.NewReader(large)
		if !known {
			body = io.MultiReader(body)
		}
		resp, b = d.ask("POST", base+"/xrpc/com.atproto.repo.uploadBlob", body, "Content-Type", "text/plain", "Authorization", "Bearer "+alice.AccessJWT)
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(b), fmt.Sprint(size)) {
			d.Errorf("a blob of %d bytes, length known: %v: %s %s", size, known, resp.Status, b)
		}
	}
	for i := range 5 {
		d.post(alice, fmt.Sprint("post ", i))
	}
	for seen < 5 {
		_, frame, err := events.Read(d.Context())
		if err != nil {
			d.Fatalf("the firehose ends after %d posts: %v", seen, err)
		}
		if bytes.Contains(frame, []byte("#commit")) && bytes.Contains(frame, []byte("app.bsky.feed.post/")) {
			seen++
		}
	}
	events.CloseNow()
	resp, b = d.ask("GET", base+"/xrpc/com.atproto.sync.getRepo?did="+alice.DID, nil)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/vnd.ipld.car" || !bytes.Contains(b, []byte("post 4")) {
		d.Errorf("an archive: %s, %d bytes", resp.Status, len(b))
	}
}

var basic = "Basic " + "YWRtaW46ZjNjNWE2YzFkMGU5NGI3ZWE4ZjA=" // admin and adminPassword

type account struct {
	DID       string `json:"did"`
	AccessJWT string `json:"accessJwt"`
}

func (d *door) signUp(name string) (a account) {
	d.Helper()
	body := fmt.Sprintf(`{"handle":"%[1]s.%[2]s","email":"%[1]s@example.com","password":"correct horse"}`, name, serverName)
	resp, b := d.ask("POST", base+"/xrpc/com.atproto.server.createAccount", strings.NewReader(body), "Content-Type", "application/json")
	if err := json.Unmarshal(b, &a); err != nil || resp.StatusCode != http.StatusOK {
		d.Fatalf("sign up: %s %s", resp.Status, b)
	}
	return a
}

func (d *door) post(a account, text string) {
	d.Helper()
	body := fmt.Sprintf(`{"repo":"%s","collection":"app.bsky.feed.post","record":{"text":"%s","createdAt":"2026-03-01T12:00:00Z"}}`, a.DID, text)
	resp, b := d.ask("POST", base+"/xrpc/com.atproto.repo.createRecord", strings.NewReader(body),
		"Content-Type", "application/json", "Authorization", "Bearer "+a.AccessJWT)
	if resp.StatusCode != http.StatusOK {
		d.Fatalf("post: %s %s", resp.Status, b)
	}
}

// subscribe follows the firehose as relays do, over HTTP/1.1.
func (d *door) subscribe() *websocket.Conn {
	d.Helper()
	transport := d.client.Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = false
	transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	conn, _, err := websocket.Dial(d.Context(), "wss://"+serverName+"/xrpc/com.atproto.sync.subscribeRepos",
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		d.Fatalf("subscribe: %v", err)
	}
	conn.SetReadLimit(8 << 20)
	d.Cleanup(func() { conn.CloseNow() })
	return conn
}

// restart starts the server again behind the proxy while it is asked, which waits for it, or
// says 502 as long as it is away.
func (d *door) restart(waits bool) {
	d.Helper()
	events := d.subscribe()
	ended := make(chan error, 1)
	go func() {
		for {
			if _, _, err := events.Read(d.Context()); err != nil {
				ended <- err
				return
			}
		}
	}()
	if err := d.server.Stop(); err != nil {
		d.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(launch.Patience):
		d.Error("a consumer of the firehose does not notice that the server is gone")
	}
	asked := make(chan error, 1)
	begin := time.Now()
	go func() {
		resp, b, err := d.tryAsk("GET", base+"/xrpc/_health", nil)
		switch {
		case err != nil:
			asked <- err
		case waits && resp.StatusCode != http.StatusOK, !waits && resp.StatusCode != http.StatusBadGateway:
			asked <- fmt.Errorf("%s %s", resp.Status, b)
		default:
			asked <- nil
		}
	}()
	if !waits {
		if err := <-asked; err != nil {
			d.Errorf("while the server is away: %v", err)
		}
	}
	var err error
	if d.server, err = d.server.Again(d.Context()); err != nil {
		d.Fatal(err)
	}
	if waits {
		if err := <-asked; err != nil {
			d.Errorf("asked while the server was away: %v", err)
		}
		d.Logf("who asked while the server was away was answered after %v", time.Since(begin).Round(time.Millisecond))
	}
	// The firehose, too, goes on through the same door.
	events = d.subscribe()
	bob := d.signUp("bob")
	for {
		_, frame, err := events.Read(d.Context())
		if err != nil {
			d.Fatalf("the firehose after the restart: %v", err)
		}
		if bytes.Contains(frame, []byte(bob.DID)) {
			break
		}
	}
}
