package referencetest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Surround gives a server of the directory what it asks: the operations of its DIDs to the
// PLC directory at that URL, which is empty, and hosts to those that are of did:web. These
// have ports that stand in their DIDs, so that one test at a time can use them.
func (w *World) Surround(t testing.TB, directory string) {
	t.Helper()
	for _, o := range w.Plc.Operations {
		if o.Nullified {
			continue
		}
		resp, err := http.Post(directory+"/"+o.DID, "application/json", bytes.NewReader(o.Operation))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("operation of %s: %s %s %v", o.DID, resp.Status, answer, err)
		}
	}
	for did, document := range w.DIDWebDocuments {
		l, err := net.Listen("tcp", "127.0.0.1:"+strings.TrimPrefix(did, "did:web:localhost%3A"))
		if err != nil {
			t.Fatal(err)
		}
		host := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/.well-known/did.json" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Write(document)
		}))
		host.Listener.Close()
		host.Listener = l
		host.Start()
		t.Cleanup(host.Close)
	}
}
