package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/coder/websocket"

	"portico/impl/keyring"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

const (
	posts    = "app.bsky.feed.post"
	profiles = "app.bsky.actor.profile"
	blobSize = 100_000
	// exported is how many records the repositories have that are exported and imported.
	exported = 1000
)

func (c *client) repo(name string) string { return c.server + "/xrpc/com.atproto.repo." + name }
func (c *client) sync(name string) string { return c.server + "/xrpc/com.atproto.sync." + name }

// A post is a record as people write them.
type post struct {
	Type      string    `json:"$type"`
	Text      string    `json:"text"`
	Langs     []string  `json:"langs"`
	CreatedAt time.Time `json:"createdAt"`
	Embed     any       `json:"embed,omitempty"`
}

func newPost() post {
	text := fmt.Sprintf("What a day: %x. The lake was as flat as a mirror, and nobody was there but us and a heron.", mathrand.Int64())
	return post{Type: posts, Text: text, Langs: []string{"en"}, CreatedAt: time.Now().UTC().Truncate(time.Millisecond)}
}

type write struct {
	Type       string `json:"$type,omitempty"`
	Repo       string `json:"repo,omitempty"`
	Collection string `json:"collection"`
	Key        string `json:"rkey,omitempty"`
	Record     any    `json:"record,omitempty"`
	Value      any    `json:"value,omitempty"`
}

type written struct {
	URI     string
	CID     string
	Results []written
}

func (a *account) wrote(w written) {
	for _, r := range append(w.Results, w) {
		if r.URI != "" {
			a.keys, a.cid = append(a.keys, r.URI[strings.LastIndexByte(r.URI, '/')+1:]), r.CID
		}
	}
}

func (c *client) createRecord(worker int) error {
	a := c.turn(worker)
	var out written
	err := c.call(http.MethodPost, c.repo("createRecord"), a.Access, write{Repo: a.DID, Collection: posts, Record: newPost()}, &out)
	a.wrote(out)
	return err
}

func (c *client) putRecord(worker int) error {
	a := c.turn(worker)
	profile := map[string]string{"$type": profiles, "displayName": fmt.Sprint("Person ", mathrand.Int64()), "description": "Somebody who is measured."}
	return c.call(http.MethodPost, c.repo("putRecord"), a.Access, write{Repo: a.DID, Collection: profiles, Key: "self", Record: profile}, nil)
}

// applyWrites creates 10 records.
func (c *client) applyWrites(worker int) error { return c.applyTo(c.turn(worker), 10) }

func (c *client) applyTo(a *account, n int) error {
	in := struct {
		Repo   string  `json:"repo"`
		Writes []write `json:"writes"`
	}{Repo: a.DID}
	for range n {
		in.Writes = append(in.Writes, write{Type: "com.atproto.repo.applyWrites#create", Collection: posts, Value: newPost()})
	}
	var out written
	err := c.call(http.MethodPost, c.repo("applyWrites"), a.Access, in, &out)
	a.wrote(out)
	return err
}

// written takes an account of a worker that has records of which the keys are known.
func (c *client) written(worker int) (*account, error) {
	for range c.accounts[worker].list {
		if a := c.turn(worker); len(a.keys) > 0 {
			return a, nil
		}
	}
	return nil, errors.New("there are no records: -only must name createRecord too")
}

func (c *client) deleteRecord(worker int) error {
	a, err := c.written(worker)
	if err != nil {
		return err
	}
	i := mathrand.IntN(len(a.keys))
	key := a.keys[i]
	a.keys[i] = a.keys[len(a.keys)-1]
	a.keys = a.keys[:len(a.keys)-1]
	return c.call(http.MethodPost, c.repo("deleteRecord"), a.Access, write{Repo: a.DID, Collection: posts, Key: key}, nil)
}

func (c *client) getRecord(worker int) error {
	a, err := c.written(worker)
	if err != nil {
		return err
	}
	query := url.Values{"repo": {a.DID}, "collection": {posts}, "rkey": {a.keys[mathrand.IntN(len(a.keys))]}}
	return c.call(http.MethodGet, c.repo("getRecord")+"?"+query.Encode(), "", nil, nil)
}

func (c *client) listRecords(worker int) error {
	a := c.turn(worker)
	return c.call(http.MethodGet, c.repo("listRecords")+"?limit=50&collection="+posts+"&repo="+a.DID, "", nil, nil)
}

// getBlocks asks for a record by its CID, of which the server keeps no index.
func (c *client) getBlocks(worker int) error {
	a, err := c.written(worker)
	if err != nil {
		return err
	}
	_, err = c.send(http.MethodGet, c.sync("getBlocks")+"?did="+a.DID+"&cids="+a.cid, "", "", nil)
	return err
}

// send is call with bytes of any type.
func (c *client) send(verb, url, token, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(verb, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s answers %d %.300s", verb, url, resp.StatusCode, answer)
	}
	return answer, err
}

// upload uploads bytes that nobody has had, and returns the blob as records name it.
func (c *client) upload(a *account) (blob json.RawMessage, err error) {
	body := make([]byte, blobSize)
	rand.Read(body)
	copy(body, "\x89PNG\r\n\x1a\n")
	answer, err := c.send(http.MethodPost, c.repo("uploadBlob"), a.Access, "image/png", body)
	if err != nil {
		return nil, err
	}
	var out struct{ Blob json.RawMessage }
	return out.Blob, json.Unmarshal(answer, &out)
}

func (c *client) uploadBlob(worker int) error {
	_, err := c.upload(c.turn(worker))
	return err
}

// putBlob lets the first account of each worker have a blob that a record names.
func (c *client) putBlob() error {
	return share(*workers, func(worker int) error {
		a := c.accounts[worker].list[0]
		if a.blob != "" {
			return nil
		}
		blob, err := c.upload(a)
		if err != nil {
			return err
		}
		var named struct {
			Ref struct {
				Link string `json:"$link"`
			}
		}
		if err := json.Unmarshal(blob, &named); err != nil {
			return err
		}
		record := newPost()
		record.Embed = map[string]any{"$type": "app.bsky.embed.images", "images": []any{map[string]any{"alt": "", "image": blob}}}
		a.blob = named.Ref.Link
		return c.call(http.MethodPost, c.repo("createRecord"), a.Access, write{Repo: a.DID, Collection: posts, Record: record}, nil)
	})
}

func (c *client) getBlob(worker int) error {
	a := c.accounts[worker%len(c.accounts)].list[0]
	body, err := c.send(http.MethodGet, c.sync("getBlob")+"?did="+a.DID+"&cid="+a.blob, "", "", nil)
	if err == nil && len(body) != blobSize {
		err = fmt.Errorf("blob of %d bytes", len(body))
	}
	return err
}

// An exporter has accounts with [exported] records, and archives of them.
type exporter struct {
	*client
	archives chan archive // each to be imported once
}

type archive struct {
	*account
	bytes []byte
}

// getRepo exports a repository.
func (e *exporter) getRepo(worker int) error {
	_, err := e.export(e.accounts[worker].list[0])
	return err
}

func (e *exporter) export(a *account) ([]byte, error) {
	return e.send(http.MethodGet, e.sync("getRepo")+"?did="+a.DID, "", "", nil)
}

// fillUp gives the first account of each worker its records.
func (e *exporter) fillUp() error {
	return share(*workers, func(worker int) error {
		for range exported / 100 {
			if err := e.applyTo(e.accounts[worker].list[0], 100); err != nil {
				return err
			}
		}
		return nil
	})
}

// prepareImports makes accounts, and for each the archive of a repository that is to
// become its own.
func (e *exporter) prepareImports(n int) error {
	e.archives = make(chan archive, n)
	return share(n, func(worker int) error {
		if err := e.createAccount(worker); err != nil {
			return err
		}
		list := e.accounts[worker].list
		a := list[len(list)-1]
		e.accounts[worker].list = list[:len(list)-1] // nobody else uses it
		bytes, err := newArchive(syntax.DID(a.DID))
		e.archives <- archive{a, bytes}
		return err
	})
}

// newArchive makes an archive of posts, as another server would export it.
func newArchive(did syntax.DID) ([]byte, error) {
	key, err := keyring.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	var blocks []car.Block
	b := tree.Builder{Emit: func(r tree.Row) error {
		blocks = append(blocks, car.Block{CID: r.CID, Data: r.Data})
		return nil
	}}
	at := time.Now().Add(-24 * time.Hour)
	for n := range exported {
		at = at.Add(time.Second)
		value, err := seededPost(n, at)
		if err != nil {
			return nil, err
		}
		block := car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, value), Data: value}
		if err := b.Add(posts+"/"+syntax.NewTIDFromTime(at, 0).String(), block.CID); err != nil {
			return nil, err
		}
		blocks = append(blocks, block)
	}
	root, err := b.Root()
	if err != nil {
		return nil, err
	}
	signed, err := repo.Sign(did, key, syntax.NewTIDFromTime(at, 0), root.CID)
	if err != nil {
		return nil, err
	}
	return car.Marshal(signed.Commit.CID, append([]car.Block{signed.Commit}, blocks...)...), nil
}

// importRepo imports a repository of as many records into an account that has none.
func (e *exporter) importRepo(int) error {
	select {
	case a := <-e.archives:
		_, err := e.send(http.MethodPost, e.repo("importRepo"), a.Access, "application/vnd.ipld.car", a.bytes)
		return err
	default:
		return errors.New("all archives were imported")
	}
}

// consumers is how many read the firehose where that is what is measured.
const consumers = 20

func (c *client) subscribe(ctx context.Context, query string) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, strings.Replace(c.sync("subscribeRepos"), "http", "ws", 1)+query, nil)
	if err == nil {
		conn.SetReadLimit(5 << 20)
	}
	return conn, err
}

// follow lets n consumers read the firehose until stop is called.
func (c *client) follow(ctx context.Context, n int) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	stop = func() {
		cancel()
		reading.Wait()
	}
	for range n {
		conn, err := c.subscribe(ctx, "")
		if err != nil {
			stop()
			return nil, err
		}
		reading.Go(func() {
			defer conn.CloseNow()
			for {
				if _, _, err := conn.Read(ctx); err != nil {
					return
				}
			}
		})
	}
	return stop, nil
}

// readAgain reads the first n events that the server has.
func (c *client) readAgain(ctx context.Context, n int) error {
	conn, err := c.subscribe(ctx, "?cursor=0")
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	for range n {
		if _, _, err := conn.Read(ctx); err != nil {
			return err
		}
	}
	return nil
}
