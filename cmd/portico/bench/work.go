package main

import (
	"context"
	"regexp"
	"slices"
)

// work is what a row measures, of whichever server.
type work struct {
	name     string
	requests int     // in all rounds, before -scale
	workers  int     // 0: as many as -workers says
	goal     float64 // see row
	// bind prepares a server for it and returns one request.
	bind func(s *subject) (func(worker int) error, error)
	// beside is what goes on meanwhile; may be nil.
	beside func(s *subject) (stop func(), err error)
}

// by is work for which nothing has to be prepared.
func by(request func(c *client, worker int) error) func(s *subject) (func(worker int) error, error) {
	return func(s *subject) (func(worker int) error, error) {
		return func(worker int) error { return request(s.client, worker) }, nil
	}
}

// goals are the methods that the floor has too, with how much more than it they may cost.
var goals = []work{
	{name: "checkAccountStatus", requests: 1500, goal: 1.5, bind: by((*client).checkAccountStatus)},
	{name: "createInviteCode", requests: 1500, goal: 2.2, bind: by((*client).createInviteCode)},
	{name: "refreshSession", requests: 1500, goal: 1.2, bind: by((*client).refreshSession)},
	{name: "describeServer", requests: 6000, goal: 1.15, bind: by((*client).describeServer)},
	{name: "listAppPasswords", requests: 3000, goal: 1.2, bind: func(s *subject) (func(worker int) error, error) {
		for _, of := range s.client.accounts {
			for _, a := range of.list {
				if err := s.client.createAppPasswords(a); err != nil {
					return nil, err
				}
			}
		}
		return s.client.listAppPasswords, nil
	}},
	{name: "getSession", requests: 6000, goal: 0.85, bind: by((*client).getSession)},
	{name: "getServiceAuth", requests: 3000, goal: 0.75, bind: by((*client).getServiceAuth)},
	{name: "unknown method", requests: 6000, goal: 1.1, bind: by((*client).unknownMethod)},
	{name: "health", requests: 6000, goal: 1.1, bind: by((*client).health)},
	{name: "createSession", requests: 120, goal: 0.68, bind: by((*client).createSession)},
	{name: "wrong password", requests: 120, goal: 0.68, bind: by((*client).wrongPassword)},
	{name: "createAccount", requests: 120, goal: 0.68, bind: func(s *subject) (func(worker int) error, error) {
		c := newClient(s.URL, *workers)
		c.made.Store(10_000) // other names
		return c.createAccount, nil
	}},
	{name: "bad token", requests: 6000, bind: by((*client).badToken)},
	{name: "getRecord", requests: 3000, bind: func(s *subject) (func(worker int) error, error) {
		return s.client.getRecord, s.withRecords(people)
	}},
	{name: "createRecord", requests: 1500, bind: by((*client).createRecord)},
}

// manyConnections are those of clients that come all at once.
const manyConnections = 64

// wide is asked for by many connections. Of getSession there is a goal of its own.
var wide = []work{
	{name: "getSession", requests: 20000, workers: manyConnections, bind: func(s *subject) (func(worker int) error, error) {
		return s.client.divided(manyConnections).getSession, nil
	}},
	{name: "refreshSession", requests: 4000, workers: manyConnections, bind: func(s *subject) (func(worker int) error, error) {
		return s.client.divided(manyConnections).refreshSession, nil
	}},
}

// imports is how many repositories are imported, not to be scaled: each is made before.
const imports = 20

// repositories are methods that the floor has not.
func repositories(ctx context.Context, others *passing) []work {
	exporting := func(request func(e *exporter, worker int) error) func(s *subject) (func(worker int) error, error) {
		return func(s *subject) (func(worker int) error, error) {
			e, err := s.exports()
			return func(worker int) error { return request(e, worker) }, err
		}
	}
	return []work{
		{name: "createRecord, 20 consumers", requests: 1000, bind: by((*client).createRecord), beside: func(s *subject) (func(), error) {
			return s.client.follow(ctx, consumers)
		}},
		{name: "putRecord", requests: 1500, bind: by((*client).putRecord)},
		{name: "applyWrites, 10 creates", requests: 500, bind: by((*client).applyWrites)},
		{name: "deleteRecord", requests: 1500, bind: func(s *subject) (func(worker int) error, error) {
			return s.client.deleteRecord, s.withRecords(2 * scaled(1500))
		}},
		{name: "listRecords, 50", requests: 1000, bind: exporting(func(e *exporter, worker int) error { return e.listRecords(worker) })},
		{name: "uploadBlob, 100 kB", requests: 400, bind: by((*client).uploadBlob)},
		{name: "getBlob, 100 kB", requests: 1000, bind: func(s *subject) (func(worker int) error, error) { return s.client.getBlob, s.client.putBlob() }},
		{name: "getRepo, 1,000 records", requests: 100, bind: exporting((*exporter).getRepo)},
		{name: "importRepo, 1,000 records", requests: imports, bind: exporting((*exporter).importRepo)},
		{name: "firehose, 500 events again", requests: 50, bind: func(s *subject) (func(worker int) error, error) {
			return func(int) error { return s.client.readAgain(ctx, 500) }, s.withRecords(500)
		}},
		{name: "resolveHandle", requests: 3000, bind: by((*client).resolveHandle)},
		{name: passedOn, requests: 3000, workers: passingClients, bind: func(s *subject) (func(worker int) error, error) { return others.by(s.URL, s.client), nil }},
	}
}

// matching are those whose names match a regular expression.
func matching[T any](all []T, name func(T) string, pattern *regexp.Regexp) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return !pattern.MatchString(name(t)) })
}
