package floor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/atdata"
)

var directory = http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// register makes a DID: the hash of its first operation, which it signs and sends to the
// directory.
func (s *server) register(ctx context.Context, handle string, key *atcrypto.PrivateKeyK256) (string, error) {
	public, err := key.PublicKey()
	if err != nil {
		return "", err
	}
	rotation, err := s.rotation.PublicKey()
	if err != nil {
		return "", err
	}
	op := map[string]any{
		"type": "plc_operation", "rotationKeys": []any{rotation.DIDKey()}, "verificationMethods": map[string]any{"atproto": public.DIDKey()},
		"alsoKnownAs": []any{"at://" + handle}, "prev": nil,
		"services": map[string]any{"atproto_pds": map[string]any{"type": "AtprotoPersonalDataServer", "endpoint": "https://" + s.Hostname}},
	}
	unsigned, err := atdata.MarshalCBOR(op)
	if err != nil {
		return "", err
	}
	sig, err := s.rotation.HashAndSign(unsigned)
	if err != nil {
		return "", err
	}
	op["sig"] = base64.RawURLEncoding.EncodeToString(sig)
	signed, err := atdata.MarshalCBOR(op)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(signed)
	did := "did:plc:" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:24]
	body, err := json.Marshal(op)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Directory+"/"+did, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := directory.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the directory answers %d %s, %w", answer.StatusCode, text, err)
	}
	return did, nil
}

// document is the DID document that a new account is told.
func (s *server) document(handle, did string, key *atcrypto.PrivateKeyK256) (map[string]any, error) {
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"@context": []string{
			"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1", "https://w3id.org/security/suites/secp256k1-2019/v1",
		},
		"id": did, "alsoKnownAs": []string{"at://" + handle},
		"verificationMethod": []map[string]string{
			{"id": did + "#atproto", "type": "Multikey", "controller": did, "publicKeyMultibase": public.Multibase()},
		},
		"service": []map[string]string{
			{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://" + s.Hostname},
		},
	}, nil
}
