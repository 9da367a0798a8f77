//go:build compare

package compare

import (
	"database/sql"
	varint "encoding/binary"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"

	"portico/impl/repo/dagcbor"
)

// TestLeaving moves an account from Portico to the reference with the official
// client.
func TestLeaving(t *testing.T) {
	network := startNetwork(t)
	there := startReference(t, network, []string{
		"PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=did:web:there.example.com", "PDS_SERVICE_HANDLE_DOMAINS=.there.test",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=1b0d2f4c6b8e1a3957c4d6e8f0a2b4c6d8e0f1a3b5c7d9e1f3a5b7c9d1e3f5a7"})
	data := t.TempDir()
	here := startPortico(t, network, []string{
		"PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=did:web:here.example.com", "PDS_DATA_DIRECTORY=" + data})
	mails := httptest.NewServer(here.mails.Mailbox())
	defer mails.Close()
	repositories := httptest.NewServer(exports(t, data))
	defer repositories.Close()

	out, err := exec.CommandContext(t.Context(), node, "leave.mjs",
		here.url, there.url, network.directory, mails.URL, repositories.URL, adminPassword).CombinedOutput()
	if err != nil {
		t.Errorf("leave.mjs: %v\n%s\nreference wrote at last\n%s\nportico wrote at last\n%s", err, out, tail(there.process), tail(here.process))
	}
}

// exports answers with the repository of the account did, a CAR file, from the
// database of a server that runs: com.atproto.sync.getRepo is not served yet.
func exports(t *testing.T, data string) http.Handler {
	store, err := sql.Open("sqlite", "file:"+filepath.Join(data, "portico.sqlite")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	export := func(r *http.Request) ([]byte, error) {
		did := r.FormValue("did")
		var root, commit []byte
		if err := store.QueryRowContext(r.Context(), `SELECT commit_cid, commit_block FROM repo WHERE did = ?`, did).Scan(&root, &commit); err != nil {
			return nil, err
		}
		head := dagcbor.CID(root)
		header, err := dagcbor.Marshal(map[string]any{"version": int64(1), "roots": []any{head}})
		if err != nil {
			return nil, err
		}
		car := frame(frame(nil, header), append(root, commit...))
		rows, err := store.QueryContext(r.Context(), `SELECT cid, data FROM node WHERE did = ?`, did)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var name, block []byte
			if err := rows.Scan(&name, &block); err != nil {
				return nil, err
			}
			car = frame(car, append(name, block...))
		}
		return car, rows.Err()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		car, err := export(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.ipld.car")
		w.Write(car) // fails when the script has gone
	})
}

// frame appends a part of a CAR file, which its length goes before.
func frame(car, part []byte) []byte {
	return append(varint.AppendUvarint(car, uint64(len(part))), part...)
}
