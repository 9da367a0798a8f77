package sync_test

import (
	"testing"

	"portico/impl/servertest"
)

// unknown is a DID of which nothing is here.
const unknown = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// nothing is the blob without bytes.
const nothing = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"

func newServer(t testing.TB, change ...func(*servertest.Options)) *servertest.Server {
	t.Helper()
	return servertest.New(t, append([]func(*servertest.Options){in}, change...)...)
}

var in = servertest.In("com.atproto.sync")
