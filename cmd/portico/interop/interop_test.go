//go:build interop

package interop

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"portico/cmd/portico/launch"
	"portico/db"
)

// rotationKey is the server's PLC rotation key in these tests.
const rotationKey = "5c1d9a4e0b7f38261a9d4c7e2f60b58313e8a7c6d5f4b3a2918070605f4e3d2c"

// binary is the portico binary under test; node is Node.
var binary, node string

func TestMain(m *testing.M) {
	launch.RunTests(m, &binary, func() (err error) {
		node, err = launch.Node()
		return err
	})
}

// account is what client.mjs prints and the Go client makes.
type account struct {
	DID      syntax.DID `json:"did"`
	Handle   string     `json:"handle"`
	Email    string     `json:"email"`
	Password string     `json:"password"`
}

func TestClients(t *testing.T) {
	for _, directory := range []struct {
		name  string
		start func(*testing.T) (url string) // "" for the server's own
	}{
		{"embedded directory", func(*testing.T) string { return "" }},
		{"real directory", startDirectory},
	} {
		t.Run(directory.name, func(t *testing.T) {
			env := []string{"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + rotationKey}
			plc := directory.start(t)
			if plc != "" {
				env = append(env, "PDS_DID_PLC_URL="+plc)
			}
			server, err := launch.StartServer(t.Context(), binary, t.TempDir(), env...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Kill)
			if plc == "" {
				plc = server.Directory
			}

			var accounts []account
			t.Run("TypeScript", func(t *testing.T) { accounts = append(accounts, clientInTypeScript(t, server.URL)) })
			t.Run("Go", func(t *testing.T) { accounts = append(accounts, clientInGo(t, server.URL)) })
			keys := map[syntax.DID]atcrypto.PublicKey{}
			t.Run("identity", func(t *testing.T) {
				for _, a := range accounts {
					keys[a.DID] = checkIdentity(t, server.URL, plc, a)
				}
			})
			// Nothing else may hold the database open while it is read.
			if err := server.Stop(); err != nil {
				t.Fatal(err)
			}
			t.Run("repository", func(t *testing.T) {
				for _, a := range accounts {
					checkRepository(t, server.Data, a, keys[a.DID])
				}
			})
			if t.Failed() {
				t.Log(server.Log())
			}
		})
	}
}

// startDirectory starts the real PLC directory and returns its URL.
func startDirectory(t *testing.T) string {
	t.Helper()
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	p, err := launch.Start(t.Context(), url+"/_health", ".", nil, node, "plc.mjs", fmt.Sprint(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return url
}

func clientInTypeScript(t *testing.T, server string) account {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), node, "client.mjs", server, "ts-client.test", "ts-client@example.com", "correct horse battery")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("client.mjs: %v\n%s", err, errs.String())
	}
	var a account
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatalf("client.mjs printed %q: %v", out.String(), err)
	}
	return a
}

// get reads a JSON document.
func get(t *testing.T, url string, out any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
}

// checkIdentity checks what the directory says of the account and returns the key
// in its DID document, as indigo understands it.
func checkIdentity(t *testing.T, server, plc string, a account) atcrypto.PublicKey {
	t.Helper()
	var doc identity.DIDDocument
	get(t, plc+"/"+a.DID.String(), &doc)
	id := identity.ParseIdentity(&doc)
	if id.DID != a.DID {
		t.Errorf("the document of %s is that of %s", a.DID, id.DID)
	}
	if handle, err := id.DeclaredHandle(); err != nil || handle.String() != a.Handle {
		t.Errorf("%s: handle %s, %v; want %s", a.DID, handle, err, a.Handle)
	}
	if endpoint := id.PDSEndpoint(); endpoint != server {
		t.Errorf("%s: service at %s, want %s", a.DID, endpoint, server)
	}

	var data struct {
		RotationKeys        []string          `json:"rotationKeys"`
		VerificationMethods map[string]string `json:"verificationMethods"`
		AlsoKnownAs         []string          `json:"alsoKnownAs"`
	}
	get(t, plc+"/"+a.DID.String()+"/data", &data)
	if want := []string{rotationDIDKey(t)}; !slices.Equal(data.RotationKeys, want) {
		t.Errorf("%s: rotation keys %v, want %v", a.DID, data.RotationKeys, want)
	}
	key, err := id.PublicKey()
	if err != nil || data.VerificationMethods["atproto"] != key.DIDKey() || len(data.VerificationMethods) != 1 {
		t.Errorf("%s: verification methods %v, document's key %v, %v", a.DID, data.VerificationMethods, key, err)
	}
	if want := []string{"at://" + a.Handle}; !slices.Equal(data.AlsoKnownAs, want) {
		t.Errorf("%s: also known as %v, want %v", a.DID, data.AlsoKnownAs, want)
	}
	return key
}

// rotation is the server's rotation key.
func rotation(t *testing.T) *atcrypto.PrivateKeyK256 {
	t.Helper()
	raw, err := hex.DecodeString(rotationKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func rotationDIDKey(t *testing.T) string {
	t.Helper()
	public, err := rotation(t).PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public.DIDKey()
}

// checkRepository reads the account's repository from the database of a server
// that has stopped (no method of com.atproto.sync gives it out yet) and verifies
// it with indigo against the key that the directory named.
func checkRepository(t *testing.T, dir string, a account, key atcrypto.PublicKey) {
	t.Helper()
	store, err := db.Open(t.Context(), db.Config{Dir: dir, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	state, err := store.Repo(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	root, err := cid.Cast(state.CommitCID)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := store.Nodes(t.Context(), a.DID, nil, 1000)
	if err != nil || len(nodes) != state.Nodes {
		t.Fatalf("%d nodes of %s, %v; counted are %d", len(nodes), a.DID, err, state.Nodes)
	}
	stored := map[string][]byte{string(state.CommitCID): state.CommitBlock}
	for _, n := range nodes {
		stored[string(n.CID)] = n.Data
	}
	blocks := repo.NewTinyBlockstore()
	load := func(id cid.Cid) []byte {
		data := stored[string(id.Bytes())]
		// The CID is computed anew: the database's word for it is not enough.
		if sum, err := id.Prefix().Sum(data); err != nil || sum != id {
			t.Fatalf("block %s of %s has the CID %s, %v", id, a.DID, sum, err)
		}
		block, err := block.NewBlockWithCid(data, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := blocks.Put(t.Context(), block); err != nil {
			t.Fatal(err)
		}
		return data
	}

	var commit repo.Commit
	if err := commit.UnmarshalCBOR(bytes.NewReader(load(root))); err != nil {
		t.Fatal(err)
	}
	if err := commit.VerifyStructure(); err != nil {
		t.Error(err)
	}
	if commit.DID != a.DID.String() || commit.Rev != state.Rev || commit.Prev != nil {
		t.Errorf("commit of %s, revision %s after %v; want %s, %s after nothing", commit.DID, commit.Rev, commit.Prev, a.DID, state.Rev)
	}
	if err := commit.VerifySignature(key); err != nil {
		t.Errorf("commit of %s: %v", a.DID, err)
	}
	load(commit.Data)
	tree, err := mst.LoadTreeFromStore(t.Context(), blocks, commit.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Verify(); err != nil {
		t.Error(err)
	}
	if !tree.IsEmpty() {
		t.Errorf("the repository of %s is not empty", a.DID)
	}
}
