package main

// buildCase is a change of upstream's documents, and what is said of it.
type buildCase struct {
	name   string
	edits  []edit
	want   []string // rules and directions
	breaks bool     // something that was generated is no longer there, or another type
	own    bool     // this repository uses it
}

var buildCases = []buildCase{
	{
		"description of a property", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/identifier/description", `"Who it is."`},
		},
		[]string{"text-changed: text only"}, false, false,
	},
	{
		"description of a method that is deprecated", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/description", `"Deprecated: use another."`},
		},
		[]string{"deprecated: compatible"}, false, false,
	},
	{
		"description of an error", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/errors/0/description", `"Too late."`},
		},
		[]string{"text-changed: text only"}, false, false,
	},
	{
		"input property need not be there", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/required", `["identifier"]`},
		},
		[]string{"input-property-optional: breaking for the server"}, true, true,
	},
	{
		"input property must be there", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/required", `["identifier", "password", "authFactorToken"]`},
		},
		[]string{"input-property-required: breaking for clients and the server"}, true, true,
	},
	{
		"output property need not be there", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/required", `["accessJwt", "refreshJwt", "handle"]`},
		},
		[]string{"output-property-optional: breaking for clients and the server"}, true, true,
	},
	{
		"output property must be there", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/required", `["accessJwt", "refreshJwt", "handle", "did", "email"]`},
		},
		[]string{"output-property-required: breaking for the server"}, true, true,
	},
	{
		"param need not be there", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/parameters/required", `["repo"]`},
		},
		[]string{"input-property-optional: breaking for the server"}, true, false,
	},
	{
		"param must be there", []edit{
			{"com.atproto.sync.getRepo", "/defs/main/parameters/required", `["did", "since"]`},
		},
		[]string{"input-property-required: breaking for clients and the server"}, true, true,
	},
	{
		"output list must be there", []edit{
			{"com.atproto.repo.applyWrites", "/defs/main/output/schema/required", `["results"]`},
		},
		[]string{"output-property-required: breaking for the server"}, false, false,
	},
	{
		"input list need not be there", []edit{
			{"com.atproto.repo.applyWrites", "/defs/main/input/schema/required", `["repo"]`},
		},
		[]string{"input-property-optional: a change of behaviour"}, false, false,
	},
	{
		"optional input property", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/device", `{"type": "string"}`},
		},
		[]string{"property-added: compatible"}, false, false,
	},
	{
		"required input property", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/device", `{"type": "string"}`},
			{"com.atproto.server.createSession", "/defs/main/input/schema/required/-", `"device"`},
		},
		[]string{"input-required-property-added: breaking for clients"}, false, false,
	},
	{
		"optional output property", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/device", `{"type": "string"}`},
		},
		[]string{"property-added: compatible"}, false, false,
	},
	{
		"required output property", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/device", `{"type": "string"}`},
			{"com.atproto.server.createSession", "/defs/main/output/schema/required/-", `"device"`},
		},
		[]string{"output-required-property-added: breaking for the server"}, false, false,
	},
	{
		"optional param", []edit{
			{"com.atproto.sync.getRepo", "/defs/main/parameters/properties/device", `{"type": "string"}`},
		},
		[]string{"property-added: compatible"}, false, false,
	},
	{
		"required param", []edit{
			{"com.atproto.sync.getRepo", "/defs/main/parameters/properties/device", `{"type": "string"}`},
			{"com.atproto.sync.getRepo", "/defs/main/parameters/required/-", `"device"`},
		},
		[]string{"input-required-property-added: breaking for clients"}, false, false,
	},
	{
		"optional input property is gone", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/authFactorToken", ""},
		},
		[]string{"property-removed: breaking for the server"}, true, true,
	},
	{
		"required input property is gone", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/password", ""},
			{"com.atproto.server.createSession", "/defs/main/input/schema/required", `["identifier"]`},
		},
		[]string{"input-required-property-removed: breaking for the server"}, true, true,
	},
	{
		"optional output property is gone", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/emailConfirmed", ""},
		},
		[]string{"property-removed: breaking for the server"}, true, true,
	},
	{
		"required output property is gone", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/refreshJwt", ""},
			{"com.atproto.server.createSession", "/defs/main/output/schema/required", `["accessJwt", "handle", "did"]`},
		},
		[]string{"output-required-property-removed: breaking for clients and the server"}, true, true,
	},
	{
		"param is gone", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/parameters/properties/reverse", ""},
		},
		[]string{"property-removed: breaking for the server"}, true, true,
	},
	{
		"property of another name", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/accessJwt", ""},
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/access", `{"type": "string"}`},
			{"com.atproto.server.createSession", "/defs/main/output/schema/required/0", `"access"`},
		},
		[]string{"output-required-property-added: breaking for the server", "output-required-property-removed: breaking for clients and the server"}, true, true,
	},
	{
		"property of another name, the same in Go", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/did", ""},
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/DID", `{"type": "string", "format": "did"}`},
			{"com.atproto.server.createSession", "/defs/main/output/schema/required/3", `"DID"`},
		},
		[]string{"output-required-property-added: breaking for the server", "output-required-property-removed: breaking for clients"}, false, false,
	},
	{
		"default of a param is gone", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/parameters/properties/limit/default", ""},
		},
		[]string{"default-removed: breaking for the server"}, true, true,
	},
	{
		"default of a param is another", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/parameters/properties/limit/default", "60"},
		},
		[]string{"default-changed: a change of behaviour"}, false, false,
	},
	{
		"default of a param appears", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/parameters/properties/reverse/default", "false"},
		},
		[]string{"default-added: breaking for the server"}, true, true,
	},
	{
		"default of an input property appears", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/allowTakendown/default", "false"},
		},
		[]string{"default-added: a change of behaviour"}, false, false,
	},
	{
		"output property can be null", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/nullable", `["email"]`},
		},
		[]string{"output-property-nullable: breaking for clients and the server"}, true, true,
	},
	{
		"input property cannot be null", []edit{
			{"com.atproto.repo.putRecord", "/defs/main/input/schema/nullable", ""},
		},
		[]string{"input-property-not-nullable: breaking for clients and the server"}, true, true,
	},
	{
		"output list can be null", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/output/schema/nullable", `["records"]`},
		},
		[]string{"output-property-nullable: breaking for clients"}, false, false,
	},
	{
		"message property that could be null need not be there", []edit{
			{"com.atproto.sync.subscribeRepos", "/defs/commit/nullable", ""},
			{"com.atproto.sync.subscribeRepos", "/defs/commit/required", `["seq", "rebase", "tooBig", "repo", "commit", "rev", "blocks", "ops", "blobs", "time"]`},
		},
		[]string{"output-property-optional: breaking for clients", "output-property-not-nullable: breaking for the server"}, false, false,
	},
	{
		"format of an input property", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/identifier/format", `"at-identifier"`},
		},
		[]string{"input-format-narrower: breaking for clients and the server"}, true, true,
	},
	{
		"format of an output property is gone", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/handle/format", ""},
		},
		[]string{"output-format-wider: breaking for clients and the server"}, true, true,
	},
	{
		"format of an output property has more values", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/did/format", `"at-identifier"`},
		},
		[]string{"output-format-wider: breaking for clients and the server"}, true, true,
	},
	{
		"format of an input property is another", []edit{
			{"com.atproto.identity.updateHandle", "/defs/main/input/schema/properties/handle/format", `"did"`},
		},
		[]string{"input-format-changed: breaking for clients and the server"}, true, true,
	},
	{
		"format of the elements of a list", []edit{
			{"com.atproto.server.describeServer", "/defs/main/output/schema/properties/availableUserDomains/items/format", `"handle"`},
		},
		[]string{"output-format-narrower: breaking for the server"}, true, true,
	},
	{
		"format of a param is gone", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/parameters/properties/lxm/format", ""},
		},
		[]string{"input-format-wider: breaking for the server"}, true, true,
	},
	{
		"length of an input property", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/identifier/maxLength", "512"},
		},
		[]string{"input-length-narrower: breaking for clients"}, false, false,
	},
	{
		"longer param", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/parameters/properties/aud/maxLength", "4096"},
		},
		[]string{"input-length-wider: compatible"}, false, false,
	},
	{
		"length of an output property", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/accessJwt/maxLength", "4096"},
		},
		[]string{"output-length-narrower: a change of behaviour"}, false, false,
	},
	{
		"longer bytes of a message", []edit{
			{"com.atproto.sync.subscribeRepos", "/defs/commit/properties/blocks/maxLength", "4000000"},
		},
		[]string{"output-length-wider: breaking for clients"}, false, false,
	},
	{
		"smaller range of a param", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/parameters/properties/limit/maximum", "50"},
		},
		[]string{"input-range-narrower: breaking for clients"}, false, false,
	},
	{
		"larger range of a param", []edit{
			{"com.atproto.sync.listRepos", "/defs/main/parameters/properties/limit/maximum", ""},
		},
		[]string{"input-range-wider: compatible"}, false, false,
	},
	{
		"accepted blobs", []edit{
			{"com.atproto.repo.uploadBlob", "/defs/main/output/schema/properties/blob/accept", `["image/*"]`},
		},
		[]string{"output-accept-narrower: a change of behaviour"}, false, false,
	},
	{
		"size of blobs", []edit{
			{"com.atproto.repo.uploadBlob", "/defs/main/output/schema/properties/blob/maxSize", "1000000"},
		},
		[]string{"output-size-narrower: a change of behaviour"}, false, false,
	},
	{
		"integer param is a string", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/parameters/properties/limit", `{"type": "string", "default": "50"}`},
		},
		[]string{"input-type-changed: breaking for clients and the server"}, true, true,
	},
	{
		"string is an integer", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/output/schema/properties/token/type", `"integer"`},
		},
		[]string{"output-type-changed: breaking for clients and the server"}, true, true,
	},
	{
		"string is a list", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/identifier", `{"type": "array", "items": {"type": "string"}}`},
		},
		[]string{"input-type-changed: breaking for clients and the server"}, true, true,
	},
	{
		"elements of a list are of another type", []edit{
			{"com.atproto.server.describeServer", "/defs/main/output/schema/properties/availableUserDomains/items", `{"type": "boolean"}`},
		},
		[]string{"output-type-changed: breaking for clients and the server"}, true, true,
	},
	{
		"unknown is an object", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/didDoc", `{"type": "object", "properties": {}}`},
		},
		[]string{"output-type-changed: breaking for clients and the server"}, true, true,
	},
	{
		"blob is a link", []edit{
			{"com.atproto.repo.uploadBlob", "/defs/main/output/schema/properties/blob/type", `"cid-link"`},
		},
		[]string{"output-type-changed: breaking for clients and the server"}, true, true,
	},
	{
		"ref to another object", []edit{
			{"com.atproto.repo.applyWrites", "/defs/main/output/schema/properties/commit/ref", `"com.atproto.repo.strongRef"`},
		},
		[]string{"ref-changed: breaking for clients and the server"}, true, true,
	},
	{
		"ref replaced by what it leads to", []edit{
			{"com.atproto.server.describeServer", "/defs/main/output/schema/properties/links", `{"type": "object", "properties": {"privacyPolicy": {"type": "string", "format": "uri"}, "termsOfService": {"type": "string", "format": "uri"}}}`},
		},
		[]string{"ref-inlined: breaking for the server"}, true, true,
	},
	{
		"ref to a string replaced by the string", []edit{
			{"com.atproto.sync.getHostStatus", "/defs/main/output/schema/properties/status", `{"type": "string", "knownValues": ["active", "idle", "offline", "throttled", "banned"]}`},
		},
		[]string{"ref-inlined: compatible"}, false, false,
	},
	{
		"string that is referred to is an integer", []edit{
			{"com.atproto.sync.defs", "/defs/hostStatus", `{"type": "integer"}`},
		},
		[]string{"output-type-changed: breaking for clients and the server"}, true, true,
	},
	{
		"ref spelt otherwise", []edit{
			{"com.atproto.repo.listRecords", "/defs/main/output/schema/properties/records/items/ref", `"com.atproto.repo.listRecords#record"`},
		},
		[]string{"notation-changed: text only"}, false, false,
	},
	{
		"definition of another name", []edit{
			{"com.atproto.server.listAppPasswords", "/defs/main/output/schema/properties/passwords/items/ref", `"#password"`},
			{"com.atproto.server.listAppPasswords", "/defs/password", `{"type": "object", "required": ["name", "createdAt"], "properties": {"name": {"type": "string"}, "createdAt": {"type": "string", "format": "datetime"}, "privileged": {"type": "boolean"}}}`},
			{"com.atproto.server.listAppPasswords", "/defs/appPassword", ""},
		},
		[]string{"ref-changed: breaking for the server", "definition-added: compatible", "definition-removed: breaking for the server"}, true, true,
	},
	{
		"definition that nothing refers to yet", []edit{
			{"com.atproto.server.defs", "/defs/device", `{"type": "object", "properties": {}}`},
		},
		[]string{"definition-added: compatible"}, false, false,
	},
	{
		"token is gone", []edit{
			{"com.atproto.moderation.defs", "/defs/reasonRude", ""},
		},
		[]string{"definition-removed: breaking for the server"}, true, false,
	},
	{
		"known value", []edit{
			{"com.atproto.sync.listRepos", "/defs/repo/properties/status/knownValues/-", `"lost"`},
		},
		[]string{"known-value-added: compatible"}, false, false,
	},
	{
		"known value is gone", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/status/knownValues", `["takendown", "suspended"]`},
		},
		[]string{"known-value-removed: breaking for the server"}, true, false,
	},
	{
		"values are all there are", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/status/enum", `["takendown", "suspended", "deactivated"]`},
		},
		[]string{"output-enum-narrower: breaking for the server"}, false, false,
	},
	{
		"values are all there are, without one that was known", []edit{
			{"com.atproto.server.createSession", "/defs/main/output/schema/properties/status/enum", `["takendown", "suspended"]`},
		},
		[]string{"output-enum-narrower: breaking for the server"}, true, false,
	},
	{
		"values of an input property", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/identifier/enum", `["alice", "bob"]`},
		},
		[]string{"input-enum-narrower: breaking for clients"}, false, false,
	},
	{
		"const of an input property", []edit{
			{"com.atproto.server.createSession", "/defs/main/input/schema/properties/allowTakendown/const", "true"},
		},
		[]string{"input-const-added: breaking for clients"}, false, false,
	},
	{
		"open union closes", []edit{
			{"com.atproto.admin.updateSubjectStatus", "/defs/main/input/schema/properties/subject/closed", "true"},
		},
		[]string{"input-union-closed: breaking for clients and the server"}, true, false,
	},
	{
		"closed union opens", []edit{
			{"com.atproto.repo.applyWrites", "/defs/main/input/schema/properties/writes/items/closed", "false"},
		},
		[]string{"input-union-opened: a change of behaviour"}, false, false,
	},
	{
		"variant of an open union", []edit{
			{"com.atproto.admin.updateSubjectStatus", "/defs/main/output/schema/properties/subject/refs/-", `"com.atproto.admin.defs#accountView"`},
		},
		[]string{"variant-added: compatible"}, false, false,
	},
	{
		"variant of an open union is gone", []edit{
			{"com.atproto.admin.updateSubjectStatus", "/defs/main/output/schema/properties/subject/refs/2", ""},
		},
		[]string{"variant-removed: breaking for the server"}, true, false,
	},
	{
		"variant of a closed union", []edit{
			{"com.atproto.repo.applyWrites", "/defs/main/input/schema/properties/writes/items/refs/-", `"#createResult"`},
		},
		[]string{"input-closed-variant-added: a change of behaviour"}, false, false,
	},
	{
		"variant of a closed union is gone", []edit{
			{"com.atproto.repo.applyWrites", "/defs/main/output/schema/properties/results/items/refs/2", ""},
		},
		[]string{"output-closed-variant-removed: breaking for the server"}, true, true,
	},
	{
		"union loses its last variants", []edit{
			{"com.atproto.temp.checkHandleAvailability", "/defs/main/output/schema/properties/result/refs", "[]"},
		},
		[]string{"variant-removed: breaking for the server", "variant-removed: breaking for the server"}, true, true,
	},
	{
		"message of a subscription is gone", []edit{
			{"com.atproto.sync.subscribeRepos", "/defs/main/message/schema/refs/4", ""},
		},
		[]string{"variant-removed: breaking for the server"}, true, false,
	},
	{
		"message of a subscription", []edit{
			{"com.atproto.sync.subscribeRepos", "/defs/main/message/schema/refs/-", `"#hello"`},
			{"com.atproto.sync.subscribeRepos", "/defs/hello", `{"type": "object", "properties": {}}`},
		},
		[]string{"variant-added: compatible", "definition-added: compatible"}, false, false,
	},
	{
		"params appear", []edit{
			{"com.atproto.server.describeServer", "/defs/main/parameters", `{"type": "params", "properties": {"lang": {"type": "string", "format": "language"}}}`},
		},
		[]string{"params-added: breaking for the server"}, true, true,
	},
	{
		"required params appear", []edit{
			{"com.atproto.server.getSession", "/defs/main/parameters", `{"type": "params", "required": ["lang"], "properties": {"lang": {"type": "string"}}}`},
		},
		[]string{"required-params-added: breaking for clients and the server"}, true, true,
	},
	{
		"params without any appear", []edit{
			{"com.atproto.server.describeServer", "/defs/main/parameters", `{"type": "params", "properties": {}}`},
		},
		[]string{"params-added: compatible"}, false, false,
	},
	{
		"params disappear", []edit{
			{"com.atproto.identity.resolveHandle", "/defs/main/parameters", ""},
		},
		[]string{"params-removed: breaking for the server"}, true, true,
	},
	{
		"input appears", []edit{
			{"com.atproto.server.deleteSession", "/defs/main/input", `{"encoding": "application/json", "schema": {"type": "object", "properties": {}}}`},
		},
		[]string{"input-added: breaking for clients and the server"}, true, true,
	},
	{
		"input disappears", []edit{
			{"com.atproto.server.confirmEmail", "/defs/main/input", ""},
		},
		[]string{"input-removed: breaking for clients and the server"}, true, true,
	},
	{
		"output appears", []edit{
			{"com.atproto.server.confirmEmail", "/defs/main/output", `{"encoding": "application/json", "schema": {"type": "object", "properties": {}}}`},
		},
		[]string{"output-added: breaking for the server"}, true, true,
	},
	{
		"output disappears", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/output", ""},
		},
		[]string{"output-removed: breaking for clients and the server"}, true, true,
	},
	{
		"fewer encodings", []edit{
			{"com.atproto.repo.uploadBlob", "/defs/main/input/encoding", `"image/*"`},
		},
		[]string{"input-encoding-narrower: breaking for clients"}, false, false,
	},
	{
		"another encoding", []edit{
			{"com.atproto.sync.getRepo", "/defs/main/output/encoding", `"application/octet-stream"`},
		},
		[]string{"output-encoding-changed: breaking for clients and the server"}, false, false,
	},
	{
		"another encoding than JSON", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/output/encoding", `"application/jwt"`},
		},
		[]string{"output-encoding-changed: breaking for clients and the server"}, true, true,
	},
	{
		"schema of a body is gone", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/output/schema", ""},
		},
		[]string{"output-schema-removed: breaking for clients and the server"}, true, true,
	},
	{
		"body is referred to", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/output/schema", `{"type": "ref", "ref": "#answer"}`},
			{"com.atproto.server.getServiceAuth", "/defs/answer", `{"type": "object", "required": ["token"], "properties": {"token": {"type": "string"}}}`},
		},
		[]string{"ref-inlined: compatible", "definition-added: compatible"}, false, false,
	},
	{
		"body is an object of its own", []edit{
			{"com.atproto.server.getServiceAuth", "/defs/main/output/schema", `{"type": "object", "required": ["token", "expires"], "properties": {"token": {"type": "string"}, "expires": {"type": "integer"}}}`},
		},
		[]string{"output-required-property-added: breaking for the server"}, false, false,
	},
	{
		"error", []edit{
			{"com.atproto.server.createSession", "/defs/main/errors/-", `{"name": "TooLate"}`},
		},
		[]string{"error-added: compatible"}, false, false,
	},
	{
		"error is gone", []edit{
			{"com.atproto.server.createSession", "/defs/main/errors/1", ""},
		},
		[]string{"error-removed: breaking for clients and the server"}, true, true,
	},
	{
		"error of another name", []edit{
			{"com.atproto.server.createSession", "/defs/main/errors/1/name", `"FactorRequired"`},
		},
		[]string{"error-added: compatible", "error-removed: breaking for clients and the server"}, true, true,
	},
	{
		"method", []edit{
			{"com.atproto.server.listSessions", "", `{"main": {"type": "query"}}`},
		},
		[]string{"method-added: breaking for the server"}, true, true,
	},
	{
		"subscription", []edit{
			{"com.atproto.sync.subscribeHosts", "", `{"main": {"type": "subscription", "message": {"schema": {"type": "union", "refs": ["#host"]}}}, "host": {"type": "object", "properties": {}}}`},
		},
		[]string{"method-added: breaking for the server", "definition-added: compatible"}, true, true,
	},
	{
		"method of a new namespace", []edit{
			{"com.atproto.space.getSpace", "", `{"main": {"type": "query"}}`},
		},
		[]string{"method-added: compatible"}, false, false,
	},
	{
		"method is gone", []edit{
			{"com.atproto.server.getServiceAuth", "", ""},
		},
		[]string{"method-removed: breaking for clients and the server"}, true, true,
	},
	{
		"method without types is gone", []edit{
			{"com.atproto.server.requestAccountDelete", "", ""},
		},
		[]string{"method-removed: breaking for clients and the server"}, true, true,
	},
	{
		"document of another name", []edit{
			{"com.atproto.temp.checkSignupQueue", "", ""},
			{"com.atproto.server.checkSignupQueue", "", `{"main": {"type": "query", "output": {"encoding": "application/json", "schema": {"type": "object", "required": ["activated"], "properties": {"activated": {"type": "boolean"}, "placeInQueue": {"type": "integer"}, "estimatedTimeMs": {"type": "integer"}}}}}}`},
		},
		[]string{"method-added: breaking for the server", "method-removed: breaking for clients and the server"}, true, true,
	},
	{
		"query is a procedure", []edit{
			{"com.atproto.server.describeServer", "/defs/main/type", `"procedure"`},
		},
		[]string{"method-kind-changed: breaking for clients"}, false, false,
	},
	{
		"procedure is a query", []edit{
			{"com.atproto.server.deleteSession", "/defs/main/type", `"query"`},
		},
		[]string{"method-kind-changed: breaking for clients"}, false, false,
	},
	{
		"property of a record must be there", []edit{
			{"com.atproto.lexicon.schema", "/defs/main/record/properties/title", `{"type": "string"}`},
			{"com.atproto.lexicon.schema", "/defs/main/record/required/-", `"title"`},
		},
		[]string{"shared-required-property-added: breaking for clients and the server"}, false, false,
	},
	{
		"property of a record need not be there", []edit{
			{"com.atproto.lexicon.schema", "/defs/main/record/required", "[]"},
		},
		[]string{"shared-property-optional: breaking for clients and the server"}, true, false,
	},
	{
		"key of a record", []edit{
			{"com.atproto.lexicon.schema", "/defs/main/key", `"any"`},
		},
		[]string{"record-key-wider: breaking for clients"}, false, false,
	},
	{
		"record is gone", []edit{
			{"com.atproto.lexicon.schema", "", ""},
			{"com.atproto.lexicon.resolveLexicon", "/defs/main/output/schema/properties/schema", `{"type": "unknown"}`},
		},
		[]string{"ref-inlined: breaking for clients and the server", "record-removed: breaking for clients and the server"}, true, true,
	},
	{
		"definition is generated no longer", []edit{
			{"app.bsky.labeler.service", "/defs/main/record/properties/policies", `{"type": "unknown"}`},
		},
		[]string{"generated-code: breaking for the server", "ref-inlined: breaking for clients and the server"}, true, false,
	},
	{
		"definition that goes both ways", []edit{
			{"com.atproto.repo.strongRef", "/defs/main/properties/rev", `{"type": "string"}`},
		},
		[]string{"property-added: compatible"}, false, false,
	},
	{
		"property of a definition that goes both ways", []edit{
			{"com.atproto.repo.strongRef", "/defs/main/required", `["uri"]`},
		},
		[]string{"shared-property-optional: breaking for clients and the server"}, true, true,
	},
}
