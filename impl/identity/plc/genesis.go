package plc

import (
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// What a first operation that a client signed may have. One with four long keys and
// the longest handle takes some 900 bytes; a rotation key is left for later, because
// the directory takes five.
const (
	maxGenesis     = 8 << 10 // as JSON, as it was sent
	maxGenesisKeys = 4
	genesisFields  = 7
	maxDIDKey      = 64 // of the curves that may sign operations; reading a long one takes long
)

// A GenesisError is why a first operation that a client signed is not taken. Its
// text is for the client, and has nothing of the operation in it but DIDs.
type GenesisError struct{ Reason string }

func (e *GenesisError) Error() string { return e.Reason }

func unfit(format string, args ...any) error {
	return &GenesisError{fmt.Sprintf(format, args...)}
}

// Terms are what a server demands of the first operation of an account that is to
// live on it.
type Terms struct {
	Handle       syntax.Handle // in lower case
	Endpoint     string        // of the server
	RotationKeys []string      // of the server, did:keys, one of which is enough
}

// ParseGenesis reads the first operation that a client signed for its DID, and
// returns it with the DID that it makes and the did:key of the account. It has the
// terms' handle, the terms' server and one signing key, and nothing else; a few
// rotation keys, the server's among them at any place; and a signature by one of them.
// Whether the private half of the signing key is on the server, and whether the DID is
// new, is not its question.
//
// Every error is a *GenesisError. Of more than 8 KiB nothing is read.
func ParseGenesis(b []byte, t Terms) (op Operation, did syntax.DID, signingKey string, err error) {
	if len(b) > maxGenesis {
		return nil, "", "", unfit("invalid plc operation: more than %d bytes", maxGenesis)
	}
	op, err = Parse(b)
	if err != nil || op.Type() != TypeOperation {
		return nil, "", "", unfit("invalid plc operation: not a signed operation of type plc_operation")
	}
	if signingKey, err = t.check(op); err != nil {
		return nil, "", "", err
	}
	if did, err = DID(op); err != nil {
		return nil, "", "", unfit("invalid plc operation: it makes no DID")
	}
	return op, did, signingKey, nil
}

func (t Terms) check(op Operation) (signingKey string, err error) {
	d, _ := op.Data() // a regular operation has it
	pds, hasPDS := d.Services["atproto_pds"]
	signingKey = d.VerificationMethods["atproto"]
	switch {
	case len(op) != genesisFields || !op.PlainServices():
		return "", unfit("invalid plc operation: unknown field")
	case op["prev"] != nil:
		return "", unfit("invalid plc operation: prev is not null")
	case d.Handle() != t.Handle.String():
		return "", unfit("provided handle does not match DID document handle")
	case len(d.AlsoKnownAs) != 1:
		return "", unfit("invalid plc operation: alsoKnownAs has more than the handle")
	case !hasPDS || pds.Endpoint != t.Endpoint:
		return "", unfit("DID document pds endpoint does not match service endpoint")
	case pds.Type != ServiceType:
		return "", unfit("invalid plc operation: incorrect type of atproto_pds")
	case len(d.Services) != 1:
		return "", unfit("invalid plc operation: services has more than atproto_pds")
	case !isCanonical(signingKey):
		return "", unfit("invalid plc operation: verificationMethods has no did:key for atproto")
	case len(d.VerificationMethods) != 1:
		return "", unfit("invalid plc operation: verificationMethods has more than atproto")
	case len(d.RotationKeys) == 0 || len(d.RotationKeys) > maxGenesisKeys:
		return "", unfit("invalid plc operation: %d rotation keys, which must be 1 to %d", len(d.RotationKeys), maxGenesisKeys)
	}
	for i, key := range d.RotationKeys {
		switch {
		case !isCanonical(key):
			return "", unfit("invalid plc operation: invalid rotation key")
		case slices.Contains(d.RotationKeys[:i], key):
			return "", unfit("invalid plc operation: repeated rotation key")
		}
	}
	if !slices.ContainsFunc(t.RotationKeys, func(own string) bool { return slices.Contains(d.RotationKeys, own) }) {
		return "", unfit("PLC DID does not include service rotation key")
	}
	if _, err := op.Verify(d.RotationKeys); err != nil {
		return "", unfit("invalid plc operation: signature is not a canonical one of a rotation key")
	}
	return signingKey, nil
}

// isCanonical says whether key is the one text of a did:key that may sign operations:
// a key that could be written in two ways could be there twice.
func isCanonical(key string) bool {
	if len(key) > maxDIDKey {
		return false
	}
	public, err := atcrypto.ParsePublicDIDKey(key)
	return err == nil && public.DIDKey() == key
}
