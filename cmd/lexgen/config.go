package main

import (
	"slices"

	"portico/gen"
	"portico/gen/model"
)

// config says what is generated. A collision of names or a package cycle stops the
// generator with a message that tells what to add here.
var config = gen.Config{
	Lexicons: "lexicons",
	Out:      "api",
	OpenAPI:  "AT Protocol",
	Errors:   undeclared,
	Model: model.Config{
		Emit:        slices.Concat(upstream, []string{"alt.portico.*"}),
		Merge:       map[string]string{"app.bsky": "bsky", "chat.bsky": "chatbsky"},
		Rename:      map[string]string{"app.bsky.embed.record:/defs/view/properties/record": "EmbedRecordViewContent"},
		Import:      "portico/api",
		Initialisms: []string{"DID", "URI", "URL", "CID", "JWT", "ID", "NSID", "TID", "PLC", "JSON", "HTML", "IP"},
	},
}

// upstream are the documents that the package of npm is asked for. What these refer to comes
// with them.
var upstream = slices.Concat([]string{"com.atproto.*"}, records, methods)

// records are the types of records of other authorities that are checked here.
var records = []string{
	"app.bsky.actor.profile", "app.bsky.actor.status", "app.bsky.feed.generator", "app.bsky.feed.like", "app.bsky.feed.post",
	"app.bsky.feed.postgate", "app.bsky.feed.repost", "app.bsky.feed.threadgate", "app.bsky.graph.block", "app.bsky.graph.follow",
	"app.bsky.graph.list", "app.bsky.graph.listblock", "app.bsky.graph.listitem", "app.bsky.graph.starterpack",
	"app.bsky.graph.verification", "app.bsky.labeler.service", "app.bsky.notification.declaration", "chat.bsky.actor.declaration",
	"com.germnetwork.declaration",
}

// methods are those of app views that a server has a part in.
var methods = []string{
	"app.bsky.actor.getPreferences", "app.bsky.actor.getProfile", "app.bsky.actor.getProfiles", "app.bsky.actor.putPreferences",
	"app.bsky.feed.getActorLikes", "app.bsky.feed.getAuthorFeed", "app.bsky.feed.getFeed", "app.bsky.feed.getPostThread",
	"app.bsky.feed.getTimeline", "app.bsky.notification.registerPush", "app.bsky.notification.unregisterPush",
}

// undeclared are the names of errors that methods of the server answer with and no lexicon
// lists; a test of cmd/portico holds them to those that xrpc.Undeclared is given.
var undeclared = []string{
	"AccountDeactivated", "AccountNotFound", "AccountQuarantined", "AccountTakedown", "AlreadyExists", "AuthMissing",
	"BadJwt", "BadJwtAudience", "BadJwtIss", "BadJwtLexiconMethod", "BadJwtSignature", "BadJwtType",
	"BlobNotFound", "HandleNotAvailable", "InvalidHandle", "InvalidMimeType", "InvalidPassword", "InvalidPhoneVerification",
	"InvalidResponse", "InvalidSize", "JwtExpired", "MissingJwt", "MissingTokenId", "NotFound",
	"RepoDeactivated", "RepoNotFound", "RepoTakendown", "ScopeMissingError", "UnsupportedDomain", "UntrustedIss",
	"invalid_dpop_proof", "invalid_token", "use_dpop_nonce",
}
