//go:build compare

package compare

import (
	"net/http/httptest"
	"os/exec"
	"testing"
)

// TestLeaving moves an account from Portico to the reference with the official
// client.
func TestLeaving(t *testing.T) {
	network := startNetwork(t)
	there := startReference(t, network, []string{
		"PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=did:web:there.example.com", "PDS_SERVICE_HANDLE_DOMAINS=.there.test",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=1b0d2f4c6b8e1a3957c4d6e8f0a2b4c6d8e0f1a3b5c7d9e1f3a5b7c9d1e3f5a7"})
	here := startPortico(t, network, []string{"PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=did:web:here.example.com"})
	mails := httptest.NewServer(here.mails.Mailbox())
	defer mails.Close()

	out, err := exec.CommandContext(t.Context(), node, "leave.mjs",
		here.url, there.url, network.directory, mails.URL, adminPassword).CombinedOutput()
	if err != nil {
		t.Errorf("leave.mjs: %v\n%s\nreference wrote at last\n%s\nportico wrote at last\n%s", err, out, tail(there.process), tail(here.process))
	}
}
