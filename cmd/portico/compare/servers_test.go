//go:build compare

package compare

import (
	"fmt"
	"path/filepath"
	"testing"

	"portico/cmd/portico/launch"
	"portico/impl/mail/mailtest"
)

// What both servers are told, and the script may use.
const (
	jwtSecret     = "the key of session tokens while servers are compared"
	adminPassword = "operator of both servers"
	rotationKey   = "3f0e7a5c9b1d2846e8c4a6f07b915d3c2e80f4a6b7c1d9e5038264a1f9c7b5d3"
	mailFrom      = "server@example.com"
)

// startDirectory starts the PLC directory that both servers use and returns its URL.
func startDirectory(t *testing.T) string {
	t.Helper()
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	p, err := launch.Start(t.Context(), url+"/_health", "", nil, node, "reference.mjs", "plc", fmt.Sprint(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return url
}

// settings are those that both servers get in every pass. The directory is asked
// at directory.
func settings(directory string, mails *mailtest.Server) []string {
	return []string{
		"PDS_HOSTNAME=localhost",
		"PDS_DEV_MODE=true",
		"PDS_JWT_SECRET=" + jwtSecret,
		"PDS_ADMIN_PASSWORD=" + adminPassword,
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + rotationKey,
		"PDS_DID_PLC_URL=" + directory,
		"PDS_SERVICE_HANDLE_DOMAINS=.test",
		"PDS_EMAIL_SMTP_URL=" + mails.URL().String(),
		"PDS_EMAIL_FROM_ADDRESS=" + mailFrom,
	}
}

// startReference starts the reference PDS with the services that are named.
func startReference(t *testing.T, n *network, env []string, services ...string) *side {
	t.Helper()
	v := startServices(t, services)
	g := startGate(t, n.directory)
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	data, url := t.TempDir(), fmt.Sprintf("http://localhost:%d", port)
	mails := mailtest.Start(t, mailtest.Config{})
	env = append(settings(g.url, mails), n.fill(env, mails, v)...)
	env = append(env,
		fmt.Sprintf("PDS_PORT=%d", port),
		"PDS_DATA_DIRECTORY="+data,
		"PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(data, "blobs"),
		"LOG_ENABLED=true", "LOG_LEVEL=warn")
	p, err := launch.Start(t.Context(), url+"/xrpc/_health", "", env, node, "reference.mjs", "pds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return newSide(t, "reference", url, n, g, v, mails, p)
}

// startPortico starts the binary under test with the services that are named.
func startPortico(t *testing.T, n *network, env []string, services ...string) *side {
	t.Helper()
	v := startServices(t, services)
	g := startGate(t, n.directory)
	mails := mailtest.Start(t, mailtest.Config{})
	server, err := launch.StartServer(t.Context(), binary, t.TempDir(), append(settings(g.url, mails), n.fill(env, mails, v)...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return newSide(t, "portico", server.URL, n, g, v, mails, server.Process)
}

// binary is the portico binary under test; node is Node.
var binary, node string

func TestMain(m *testing.M) {
	launch.RunTests(m, &binary, func() (err error) {
		node, err = launch.Node("better-sqlite3") // the one package with a binary part
		return err
	})
}

// tail is the end of what a server wrote.
func tail(p *launch.Process) string {
	log := p.Log()
	return log[max(0, len(log)-4000):]
}
