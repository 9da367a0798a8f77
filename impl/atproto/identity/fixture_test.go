package identity_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

// A fixture is a server whose DIDs and handles the tests change.
type fixture struct{ *servertest.Server }

type (
	answer = servertest.Answer
	user   = servertest.User
)

func newFixture(t testing.TB, change ...func(*servertest.Options)) *fixture {
	t.Helper()
	here := func(o *servertest.Options) {
		o.Namespace = "com.atproto.identity"
		o.HandleDomains = []string{".test", ".at.pds.test"}
	}
	return &fixture{servertest.New(t, append([]func(*servertest.Options){here}, change...)...)}
}

// signUp is SignUp, of which the directory's list of requests does not tell.
func (f *fixture) signUp(name string) user {
	f.Helper()
	u := f.SignUp(name)
	f.PLC.Asked()
	return u
}

// signature asks for a code for signPlcOperation.
func (f *fixture) signature(u user) string {
	f.Helper()
	f.Empty(f.Post("requestPlcOperationSignature", "", u.Access))
	return f.Code("plc_operation")
}

// sign has the server sign an operation with the fields given as the inside of a
// JSON object.
func (f *fixture) sign(u user, fields string) plc.Operation {
	f.Helper()
	if fields != "" {
		fields = "," + fields
	}
	var out struct{ Operation plc.Operation }
	f.Accepted(f.Post("signPlcOperation", `{"token":"`+f.signature(u)+`"`+fields+`}`, u.Access)).Decode(f, &out)
	return out.Operation
}

// submission is the body of submitPlcOperation.
func (f *fixture) submission(op plc.Operation) string {
	f.Helper()
	b, err := json.Marshal(map[string]any{"operation": op})
	f.Check(err)
	return string(b)
}

// signed is an operation, made of JSON values, with the server's signature.
func (f *fixture) signed(fields map[string]any) plc.Operation {
	f.Helper()
	b, err := json.Marshal(fields)
	f.Check(err)
	op, err := plc.ParseObject(b)
	f.Check(err)
	f.Check(plc.Operation(op).Sign(f.Rotation))
	return op
}

// last is what the directory has of a DID, and how many operations.
func (f *fixture) last(did syntax.DID) (plc.Data, int) {
	f.Helper()
	log, err := f.PLC.Log(f.Context(), did)
	f.Check(err)
	d, _ := log[len(log)-1].Data()
	return d, len(log)
}

// told checks the handles that the network was told of, in the order of events; "-"
// stands for an event without.
func (f *fixture) told(did syntax.DID, want ...string) {
	f.Helper()
	events, err := f.DB.Events(f.Context(), 0, 1000)
	f.Check(err)
	var got []string
	for _, e := range events {
		if e.DID != did || e.Kind != "#identity" {
			continue
		}
		// DAG-CBOR of a map of did and, if it is there, handle, which comes last, after
		// one byte of its length.
		_, h, ok := strings.Cut(string(e.Body), "handle")
		if !ok {
			got = append(got, "-")
			continue
		}
		got = append(got, h[1:])
	}
	if !slices.Equal(got, want) {
		f.Errorf("the network was told of %q, want %q", got, want)
	}
}
