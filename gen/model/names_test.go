package model_test

import (
	"testing"

	"portico/gen/model"
)

var namer = model.Namer{Initialisms: []string{"DID", "URI", "URL", "CID", "JWT", "ID", "NSID", "TID", "PLC", "JSON", "HTML", "IP"}}

func TestNames(t *testing.T) {
	tests := []struct{ name, exported, unexported string }{
		{"createSession", "CreateSession", "createSession"},
		{"accessJwt", "AccessJWT", "accessJWT"},
		{"didDoc", "DIDDoc", "didDoc"},
		{"did", "DID", "did"},
		{"dids", "DIDs", "dids"},
		{"getRecommendedDidCredentials", "GetRecommendedDIDCredentials", "getRecommendedDIDCredentials"},
		{"signPlcOperation", "SignPLCOperation", "signPLCOperation"},
		{"plcOp", "PLCOp", "plcOp"},
		{"identifier", "Identifier", "identifier"},
		{"ipAddress", "IPAddress", "ipAddress"},
		{"uri", "URI", "uri"},
		{"htmlURLs", "HTMLURLs", "htmlURLs"},
		{"XMLThing", "XMLThing", "xMLThing"},
		{"reasonSexualNCII", "ReasonSexualNCII", "reasonSexualNCII"},
		{"putPreferencesV2", "PutPreferencesV2", "putPreferencesV2"},
		{"$bytes", "Bytes", "bytes"},
		{"@context", "Context", "context"},
		{"!no-unauthenticated", "NoUnauthenticated", "noUnauthenticated"},
		{"snake_case", "SnakeCase", "snakeCase"},
		{"4ever", "X4ever", "x4ever"},
		{"42", "X42", "x42"},
		{"über", "Über", "über"},
		{"名前", "X名前", "x名前"},
		{"👍", "U1F44D", "u1F44D"},
		{"", "X", "x"},
	}
	for _, test := range tests {
		exported := namer.Exported(test.name)
		if exported != test.exported {
			t.Errorf("Exported(%q) = %q, want %q", test.name, exported, test.exported)
		}
		if got := namer.Unexported(exported); got != test.unexported {
			t.Errorf("Unexported(%q) = %q, want %q", exported, got, test.unexported)
		}
	}
}

func TestSnake(t *testing.T) {
	for name, want := range map[string]string{
		"createSession": "create_session", "defs": "defs", "getBlobsByDID": "get_blobs_by_did",
		"putPreferencesV2": "put_preferences_v2", "a-b.cD": "a_b_c_d", "": "",
	} {
		if got := model.Snake(name); got != want {
			t.Errorf("Snake(%q) = %q, want %q", name, got, want)
		}
	}
}
