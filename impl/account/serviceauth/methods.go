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

// privileged methods are refused to ordinary app passwords.
var privileged = set(
	"com.atproto.server.createAccount",
	"chat.bsky.actor.deleteAccount",
	"chat.bsky.actor.exportAccountData",
	"chat.bsky.convo.deleteMessageForSelf",
	"chat.bsky.convo.getConvo",
	"chat.bsky.convo.getConvoForMembers",
	"chat.bsky.convo.getLog",
	"chat.bsky.convo.getMessages",
	"chat.bsky.convo.leaveConvo",
	"chat.bsky.convo.listConvos",
	"chat.bsky.convo.muteConvo",
	"chat.bsky.convo.sendMessage",
	"chat.bsky.convo.sendMessageBatch",
	"chat.bsky.convo.unmuteConvo",
	"chat.bsky.convo.updateRead",
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

// Privileged reports whether a method is closed to ordinary app passwords. Case does not matter.
func Privileged(method string) bool { return privileged[strings.ToLower(method)] }
