package main

import (
	"context"
	"fmt"
	"slices"

	"portico/db/dbtest"
)

// postgres are methods whose round trips are counted.
var postgres = []work{
	{name: "getSession", requests: 4000, bind: by((*client).getSession)},
	{name: "refreshSession", requests: 1500, bind: by((*client).refreshSession)},
	{name: "createRecord", requests: 1500, bind: by((*client).createRecord)},
}

func (b *bench) postgres(ctx context.Context) (*table, error) {
	if !dbtest.Available() {
		note(fmt.Errorf("nothing is measured on Postgres: there is no initdb, on PATH or under /usr/lib/postgresql"))
		return nil, nil
	}
	urls, err := dbtest.Databases(ofServer, ofPeer)
	if err != nil {
		return nil, err
	}
	var subjects []*subject
	for i, of := range []struct{ who, binary string }{{ofServer, b.binary}, {ofPeer, *peer}} {
		if of.binary == "" || isReference(of.binary) {
			continue
		}
		s, err := startSubject(ctx, of.who, of.binary, b.dir+"/postgres-"+of.who, append(slices.Clone(b.env), "PORTICO_DATABASE_URL="+urls[i]))
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, s)
		b.subjects["postgres"], b.started = subjects, append(b.started, s.Process)
	}
	t := &table{mode: "postgres"}
	t.print = func() {
		fmt.Printf("On Postgres, %d connections: the server's processor time, without that of Postgres, and until when half of the requests,\n"+
			"and 99 of 100, were answered.\n\n", *workers)
		w := newWriter()
		fmt.Fprintf(w, "method\trequests\tserver\thalf\tp99\t%s\n", head("peer", "half", "p99", "server ÷ peer", "rounds", "half ÷ peer's", "rounds"))
		for _, r := range t.rows {
			server := r.of(ofServer)
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t", r.name, r.requests, server.time(), show(server.figure(sample.median).median), show(server.figure(sample.p99).median))
			if p := r.of(ofPeer); p != nil {
				cpu, half := server.over(p, sample.each), server.over(p, sample.median)
				fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s\t%.2f\t%s\t", p.time(), show(p.figure(sample.median).median), show(p.figure(sample.p99).median),
					cpu.median, cpu.spread(), half.median, half.spread())
			}
			fmt.Fprintln(w)
		}
		w.Flush()
	}
	t.rows, err = bind(postgres, subjects)
	return t, err
}
