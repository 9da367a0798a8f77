// Lexgen generates the packages below api from the documents below lexicons.
//
//	lexgen [-C folder] [generate]   write what changed, delete what is no longer produced
//	lexgen [-C folder] check        print what generate would change; exit 1 when there is anything
//	lexgen [-C folder] list         print every document and what is made of it
//	lexgen [-C folder] openapi      print the OpenAPI document of what is generated
//	lexgen [-C folder] diff [-format text|json|markdown|github] [-ignore RULE[:NSID]]… [OLD [NEW]]
//	                                print what changed between two trees of lexicons, and whom it breaks
//	lexgen [-C folder] pull NSID|AUTHORITY…
//	                                bring lexicons from where they are published, proven
//	lexgen [-C folder] sync FOLDER  bring the lexicons to the state of a checkout of upstream
//	lexgen [-C folder] upstream [-registry URL] VERSION
//	                                bring the lexicons to what npm's @atproto/api carries
//	lexgen [-C folder] new -lexicons FOLDER [-exclude PATTERN] [-skip-invalid] [-merge=ask] OUT
//	                                start a project of its own from the documents below FOLDER
//
// It works in the module that the folder is in (usually the current one), which has to be
// its own. With -dangling=raw, a ref to a document that is not there is raw JSON and no
// problem.
//
// New settles clashes of names and packages in the configuration of the project, and leaves
// out documents that cannot be used: its exit status is 3 then, or 0 with -skip-invalid.
// What the documents refer to and do not have it takes from the lexicons of this module.
// With -merge=ask it settles nothing, leaves nothing out, and prints what has to be decided.
//
// OLD and NEW of diff are folders or git revisions: usually the last commit and the
// working tree. Its exit status is 0 when nothing changed, 1 when what changed is
// compatible, 2 when it breaks clients or the server, and 3 when a tree has problems or the
// command line is wrong. What -ignore is about does not count; gen/RULES.md has the rules.
package main

import (
	"os"

	"portico/gen/command"
)

func main() {
	os.Exit(tool().Main(os.Args[1:], os.Stdout, os.Stderr))
}

func tool() command.Tool {
	return command.Tool{
		Config: config, File: "cmd/lexgen/config.go", Run: "make generate", Check: "make check",
		More: map[string]command.Command{"new": newProject, "upstream": fromUpstream},
	}
}
