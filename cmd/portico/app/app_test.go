//go:build app

package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"testing"

	"portico/cmd/portico/launch"
	"portico/db/dbtest"
)

const adminPassword = "6d0c3f5be92a4718"

// binary is the portico binary under test; node is Node.
var binary, node string

func TestMain(m *testing.M) {
	launch.RunTests(m, &binary, func() (err error) {
		node, err = launch.Node()
		return err
	})
}

// Several people use Bluesky's app: what they do reaches the real app view and comes back.
func TestApp(t *testing.T) {
	for _, tt := range []struct {
		name     string
		database func(*testing.T) (env []string)
	}{
		{"SQLite", func(*testing.T) []string { return nil }},
		{"Postgres", func(t *testing.T) []string {
			return []string{
				"PORTICO_DATABASE_URL=" + dbtest.PostgresURL(t),
				"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee",
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startNetwork(t)
			server, err := launch.StartServer(t.Context(), binary, t.TempDir(), append(tt.database(t), n.settings()...)...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Kill)
			story := exec.CommandContext(t.Context(), node, "story.mjs", server.URL, n.url("services"), n.url("appView"), adminPassword)
			if out, err := story.CombinedOutput(); err != nil {
				t.Fatalf("story.mjs: %v\n%s\nthe server wrote\n%s\nthe network wrote\n%s", err, out, tail(server.Log()), tail(n.Log()))
			}
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// tail is the end of what a program wrote.
func tail(log string) string { return log[max(0, len(log)-6000):] }

// network is what network.mjs starts around a server that is yet to be started.
type network struct {
	*launch.Process
	ports               map[string]int
	AppView, Moderation string // DIDs
}

func startNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{ports: map[string]int{}}
	for _, name := range []string{"pds", "plc", "appView", "services", "bsync", "dataPlane"} {
		port, err := launch.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		n.ports[name] = port
	}
	ports, err := json.Marshal(n.ports)
	if err != nil {
		t.Fatal(err)
	}
	n.Process, err = launch.Start(t.Context(), n.url("services"), "", []string{"NODE_ENV=test"}, node, "network.mjs", string(ports), dbtest.EmptyPostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url("services"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *network) url(of string) string { return fmt.Sprintf("http://localhost:%d", n.ports[of]) }

// settings are those of a server in the network.
func (n *network) settings() []string {
	return []string{
		fmt.Sprintf("PDS_PORT=%d", n.ports["pds"]),
		"PDS_DEV_MODE=true",
		"PDS_ADMIN_PASSWORD=" + adminPassword,
		"PDS_JWT_SECRET=3e6f1f0a6c1b4a5f9d0c8e7b2a4d6f81",
		"PDS_SERVICE_HANDLE_DOMAINS=.test",
		"PDS_DID_PLC_URL=" + n.url("plc"),
		"PDS_BSKY_APP_VIEW_URL=" + n.url("appView"),
		"PDS_BSKY_APP_VIEW_DID=" + n.AppView,
		"PDS_MOD_SERVICE_URL=" + n.url("services"),
		"PDS_MOD_SERVICE_DID=" + n.Moderation,
	}
}
