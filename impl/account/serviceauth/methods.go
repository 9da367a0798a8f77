package serviceauth

import "strings"

// protected methods are never called by proxy and never named in a service token: whoever holds one could take the account over.
var protected = set(
	"com.atproto.admin.sendEmail",
	"com.atproto.identity.requestPlcOperationSignature",
	"com.atproto.identity.signPlcOperation",
	"com.atproto.identity.updateHandle",
	"com.atproto.server.activateAccount",
	"com.atproto.server.confirmEmail",
	"com.atproto.server.createAppPassword",
	"com.atproto.server.deactivateAccount",
	"com.atproto.server.getAccountInviteCodes",
	"com.atproto.server.getSession",
	"com.atproto.server.listAppPasswords",
	"com.atproto.server.requestAccountDelete",
	"com.atproto.server.requestEmailConfirmation",
	"com.atproto.server.requestEmailUpdate",
	"com.atproto.server.revokeAppPassword",
	"com.atproto.server.updateEmail",
)

func set(methods ...string) map[string]bool {
	m := make(map[string]bool, len(methods))
	for _, method := range methods {
		m[strings.ToLower(method)] = true
	}
	return m
}

// Protected reports whether a method must never be reached through another service. Case does not matter.
func Protected(method string) bool { return protected[strings.ToLower(method)] }

// Administrative reports whether a method is for moderators, who are known by their service tokens. An app password mints none for
// it. Case does not matter.
func Administrative(method string) bool { return within(method, "com.atproto.admin.") }

// Privileged reports whether a method is closed to ordinary app passwords: the one that moves an account away, and all of chat,
// methods that are still to come included. Case does not matter.
func Privileged(method string) bool {
	return strings.EqualFold(method, "com.atproto.server.createAccount") || within(method, "chat.bsky.")
}

// within reports whether a method is of a namespace or of one below it, in any case.
func within(method, namespace string) bool {
	return len(method) > len(namespace) && strings.EqualFold(method[:len(namespace)], namespace)
}
