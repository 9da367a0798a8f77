package floor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/labstack/echo/v4"
)

var clock = syntax.NewTIDClock(0)

// sha2 is the number that CIDs have for SHA-256.
const sha2 = 0x12

func sum(block []byte) (cid.Cid, error) {
	return cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: sha2, MhLength: -1}.Sum(block)
}

// repository is the row of an account's repository.
type repository struct {
	active  bool // the account; only when it was read
	rev     string
	commit  cid.Cid
	block   []byte // of the commit
	records int
}

// sign makes the commit that leads to the node with this CID.
func sign(did string, key *atcrypto.PrivateKeyK256, node cid.Cid) (repository, error) {
	c := repo.Commit{DID: did, Version: repo.ATPROTO_REPO_VERSION, Rev: clock.Next().String(), Data: node}
	if err := c.Sign(key); err != nil {
		return repository{}, err
	}
	var b bytes.Buffer
	if err := c.MarshalCBOR(&b); err != nil {
		return repository{}, err
	}
	id, err := sum(b.Bytes())
	return repository{rev: c.Rev, commit: id, block: b.Bytes()}, err
}

// emptyNode is the tree of a repository without records, {"e": [], "l": null}.
var emptyNode = []byte{0xa2, 0x61, 'e', 0x80, 0x61, 'l', 0xf6}

func emptyRepo(did string, key *atcrypto.PrivateKeyK256) (repository, error) {
	node, err := sum(emptyNode)
	if err != nil {
		return repository{}, err
	}
	return sign(did, key, node)
}

type created struct {
	URI    string `json:"uri"`
	CID    string `json:"cid"`
	Commit struct {
		CID string `json:"cid"`
		Rev string `json:"rev"`
	} `json:"commit"`
	Status string `json:"validationStatus"`
}

// createRecord writes in one transaction the record, one node, the commit that is signed
// for it, and the event that tells of all three. The node is of the size of one but has
// only this record in it: there is no tree that would be read, searched and kept in shape.
// Nor is the record checked against a lexicon, are blobs and links looked for, or
// subscribers woken.
func (s *server) createRecord(c echo.Context) error {
	t := s.bearer(c, accessScope)
	if t == nil {
		return badToken(c)
	}
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return err
	}
	var in struct {
		Repo, Collection string
		Record           json.RawMessage
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Repo != t.Subject {
		return refuse(c, http.StatusBadRequest, "InvalidRequest", "Invalid body")
	}
	record, err := atdata.UnmarshalJSON(in.Record)
	if err != nil {
		return refuse(c, http.StatusBadRequest, "InvalidRequest", "Invalid record")
	}
	ctx := c.Request().Context()
	key, err := s.store.key(ctx, t.Subject)
	if err != nil {
		return err
	}
	w := written{did: t.Subject, path: in.Collection + "/" + clock.Next().String()}
	if w.value, err = atdata.MarshalCBOR(record); err != nil {
		return err
	}
	if w.cid, err = sum(w.value); err != nil {
		return err
	}
	w.node = bytes.Repeat(append([]byte(w.path), w.cid.Bytes()...), 5)
	node, err := sum(w.node)
	if err != nil {
		return err
	}
	if w.repository, err = sign(t.Subject, key, node); err != nil {
		return err
	}
	w.event, err = atdata.MarshalCBOR(map[string]any{
		"repo": t.Subject, "rev": w.rev, "commit": atdata.CIDLink(w.commit), "tooBig": false, "time": time.Now().UTC().Format(time.RFC3339),
		"ops":    []any{map[string]any{"action": "create", "path": w.path, "cid": atdata.CIDLink(w.cid)}},
		"blocks": atdata.Bytes(bytes.Join([][]byte{w.block, w.node, w.value}, nil)),
	})
	if err != nil {
		return err
	}
	if err := s.store.write(&w); err != nil {
		return err
	}
	out := created{URI: "at://" + w.did + "/" + w.path, CID: w.cid.String(), Status: "valid"}
	out.Commit.CID, out.Commit.Rev = w.commit.String(), w.rev
	return c.JSON(http.StatusOK, out)
}

func (s *server) getRecord(c echo.Context) error {
	did, path := c.QueryParam("repo"), c.QueryParam("collection")+"/"+c.QueryParam("rkey")
	id, value, err := s.store.record(c.Request().Context(), did, path)
	if err != nil {
		return err
	}
	record, err := atdata.UnmarshalCBOR(value)
	if err != nil {
		return fmt.Errorf("%s/%s: %w", did, path, err)
	}
	return c.JSON(http.StatusOK, struct {
		URI   string         `json:"uri"`
		CID   string         `json:"cid"`
		Value map[string]any `json:"value"`
	}{"at://" + did + "/" + path, id.String(), record})
}
