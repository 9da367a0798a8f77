package servertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/resolve"
)

// ModService is a moderation service: its document is in the internet of every
// server, with [Server.ModKey] and [Server.LabelKey].
const ModService = "did:web:mod.example"

// An Internet resolves the handles and DIDs that a test puts there. Of other DIDs
// those of did:plc are in the directory, and a did:web of localhost is fetched from
// its host; all else is not found.
//
// Documents come through the server's cache: what was resolved once is kept for a
// day of the clock, unless it is asked for anew or forgotten.
type Internet struct {
	*resolve.Cache
	*world

	kept documents
}

// A world is what is out there, for all nodes of a server.
type world struct {
	mu        sync.Mutex
	handles   map[syntax.Handle]syntax.DID
	documents map[syntax.DID]*resolve.Document // nil: there is none
	asked     []syntax.Handle
	// kept are the documents of accounts here that nodes share.
	kept *resolve.Memory
}

// newInternet returns what one node sees of the world: with one that is nil, of a new one. store
// is nil where there is one node alone.
func newInternet(w *world, directoryURL string, store *db.DB, now func() time.Time, log *slog.Logger) *Internet {
	if w == nil {
		w = &world{handles: map[syntax.Handle]syntax.DID{}, documents: map[syntax.DID]*resolve.Document{}, kept: resolve.NewMemory(1000)}
	}
	i := &Internet{world: w, kept: documents{store, w.kept, resolve.NewMemory(1000)}}
	elsewhere := (&resolve.DIDs{Directory: directoryURL, Web: resolve.NewClient(true), Timeout: time.Minute}).Fetch
	i.Cache = &resolve.Cache{
		Store: i.kept, Now: now, Log: log,
		StaleAfter: resolve.ExpireAfter, // so that nothing is refreshed in the background
		Fetch: func(ctx context.Context, did syntax.DID) (*resolve.Document, error) {
			i.mu.Lock()
			doc, ok := i.documents[did]
			i.mu.Unlock()
			switch {
			case doc != nil:
				return doc, nil
			case ok, did.Method() == "web" && !strings.HasPrefix(did.Identifier(), "localhost%3A"):
				return nil, fmt.Errorf("%s: %w", did, resolve.ErrNotFound)
			}
			return elsewhere(ctx, did)
		},
	}
	return i
}

// ResolveHandle is how the server finds out whose a handle of elsewhere is.
func (i *Internet) ResolveHandle(_ context.Context, h syntax.Handle) (syntax.DID, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = append(i.asked, h)
	if did, ok := i.handles[h]; ok {
		return did, nil
	}
	return "", resolve.ErrNotFound
}

// Asked are the handles that were asked for until now.
func (i *Internet) Asked() []syntax.Handle {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]syntax.Handle(nil), i.asked...)
}

// Point makes h a handle of did.
func (i *Internet) Point(h syntax.Handle, did syntax.DID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handles[h] = did
}

// Publish puts a document there, in place of any other; the cache keeps what it has.
func (i *Internet) Publish(doc *resolve.Document) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.documents[doc.DID] = doc
}

// Unpublish leaves a DID without a document, even if the directory has one.
func (i *Internet) Unpublish(did syntax.DID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.documents[did] = nil
}

// documents keep those of accounts for all nodes, as the database does for the program, and
// others for one.
type documents struct {
	db          *db.DB
	shared, own *resolve.Memory
}

func (d documents) of(ctx context.Context, did syntax.DID) *resolve.Memory {
	if d.db == nil {
		return d.own
	}
	if _, err := d.db.AccountByDID(ctx, did); err != nil {
		return d.own
	}
	return d.shared
}

func (d documents) DIDDocument(ctx context.Context, did syntax.DID) ([]byte, time.Time, error) {
	return d.of(ctx, did).DIDDocument(ctx, did)
}

func (d documents) SaveDIDDocument(ctx context.Context, did syntax.DID, document []byte, fetched, since time.Time) error {
	return d.of(ctx, did).SaveDIDDocument(ctx, did, document, fetched, since)
}

func (d documents) DeleteDIDDocument(ctx context.Context, did syntax.DID, since time.Time) error {
	return errors.Join(d.own.DeleteDIDDocument(ctx, did, since), d.shared.DeleteDIDDocument(ctx, did, since))
}

// Forget empties the caches of the document of did, those of all nodes.
func (s *Server) Forget(did syntax.DID) {
	s.Helper()
	for _, n := range s.Nodes() {
		s.Check(n.Internet.kept.DeleteDIDDocument(context.Background(), did, time.Time{}))
	}
}

// Publish puts the document of a DID into the internet that names a handle, unless
// it is "", and keys by the names of their verification methods.
func (s *Server) Publish(did syntax.DID, handle string, keys map[string]atcrypto.PrivateKey) {
	s.Helper()
	type object map[string]any
	doc := object{"@context": []string{"https://www.w3.org/ns/did/v1"}, "id": did}
	if handle != "" {
		doc["alsoKnownAs"] = []string{"at://" + handle}
	}
	var methods []object
	for name, key := range keys {
		public, err := key.PublicKey()
		s.Check(err)
		methods = append(methods, object{
			"id": did.String() + "#" + name, "type": "Multikey", "controller": did, "publicKeyMultibase": public.Multibase(),
		})
	}
	doc["verificationMethod"] = methods
	raw, err := json.Marshal(doc)
	s.Check(err)
	s.PublishJSON(did, raw)
}

// PublishJSON puts a document into the internet as it is.
func (s *Server) PublishJSON(did syntax.DID, document []byte) {
	s.Helper()
	doc, err := resolve.ParseDocument(did, document)
	s.Check(err)
	s.Internet.Publish(doc)
}

// NewIdentity puts a DID into the internet that has nothing but a new signing key,
// which it returns.
func (s *Server) NewIdentity(did syntax.DID) *atcrypto.PrivateKeyK256 {
	s.Helper()
	key := Must(atcrypto.GeneratePrivateKeyK256())
	s.Publish(did, "", map[string]atcrypto.PrivateKey{"atproto": key})
	return key
}
