package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"portico/cmd/portico/launch"
)

// A subject is a binary that is measured: a server for the methods of users, and one with
// many accounts for the lists of operators. The zero subject is nobody's.
type subject struct {
	server  *launch.Server
	lists   *lists
	methods []*target
	pages   []*target
}

// startSubject starts the server of a binary in dir. get and post are what its methods
// are compared with; n says how many requests there are in all.
func startSubject(ctx context.Context, binary, dir string, env []string, n func(int) int, get, post *target) (_ *subject, err error) {
	s := new(subject)
	defer func() {
		if err != nil {
			s.kill()
		}
	}()
	if s.server, err = launch.StartServer(ctx, binary, dir+"/data", env...); err != nil {
		return nil, err
	}
	c := newClient(s.server.URL, "")
	if err := c.signUp(*workers * 25); err != nil {
		return nil, err
	}
	add := func(name string, bare *target, requests int, do func(worker int) error) {
		s.methods = append(s.methods, &target{name: name, bare: bare, process: s.server.Process, requests: n(requests), do: do})
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

	return s, nil
}

// startLists starts the server with many accounts, which the database that this program
// makes may be too new for.
func (s *subject) startLists(ctx context.Context, binary, dir string, env []string, n func(int) int) (err error) {
	if s.lists, err = startLists(ctx, binary, dir+"/lists", env, newClient("", "").http); err != nil {
		return err
	}
	s.pages, err = s.lists.targets(n(400))
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
	if peer == nil {
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
	if s.server != nil {
		errs = append(errs, s.server.Stop())
	}
	return errors.Join(errs...)
}
