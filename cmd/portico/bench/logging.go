package main

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// mostForLogging is what a line in the log may add to the cost of getSession.
const mostForLogging = 0.08

// withLog is who a server is that writes a line for each request.
const withLog = ", info"

func (b *bench) logging(ctx context.Context) (*table, error) {
	quiet, err := b.running(ctx, "FULL")
	if err != nil {
		return nil, err
	}
	r := &row{name: "getSession", requests: scaled(10000), workers: *workers}
	for _, s := range quiet {
		if s.who == ofFloor || s.who == ofPeer && isReference(*peer) {
			continue
		}
		binary := b.binary
		if s.who == ofPeer {
			binary = *peer
		}
		binary, err := intoFile(binary, b.dir+"/"+s.who+"-log")
		if err != nil {
			return nil, err
		}
		info, err := startSubject(ctx, s.who+withLog, binary, b.dir+"/"+s.who+"-info", append(slices.Clone(b.env), "PORTICO_LOG_LEVEL=info"))
		if err != nil {
			return nil, err
		}
		b.subjects["info"] = append(b.subjects["info"], info)
		b.started = append(b.started, info.Process)
		r.add(s.who, s.Process, s.client.getSession)
		r.add(info.who, info.Process, info.client.getSession)
	}
	t := &table{mode: "FULL/logging", rows: []*row{r}}
	t.print = func() {
		for _, who := range []string{ofServer, ofPeer} {
			info, warn := r.of(who+withLog), r.of(who)
			if info == nil {
				continue
			}
			adds := info.over(warn, sample.each)
			fmt.Printf("logging: a line for each getSession, to a file, adds %.1f %% (%.1f–%.1f %%) to the time of the %s, %s; goal: under %.0f %%\n",
				100*(adds.median-1), 100*(adds.least-1), 100*(adds.most-1), who, warn.time(), 100*mostForLogging)
		}
	}
	return t, nil
}

// intoFile makes a program that is a binary whose log goes into a file, as a service
// manager would send it.
func intoFile(binary, path string) (program string, err error) {
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\" 2>>'%s'\n", binary, path)
	return path + ".sh", os.WriteFile(path+".sh", []byte(script), 0o700)
}
