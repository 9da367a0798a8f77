// Package app lets people use the official client on the built binary, with Bluesky's own
// AppView behind it, which reads the firehose and answers what the app asks. It installs
// them from npm, once; make app runs it.
package app
