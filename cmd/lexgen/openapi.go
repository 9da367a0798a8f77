package main

import (
	"io"
	"path"

	"portico/gen"
	"portico/gen/openapi"
)

// printOpenAPI prints the document that generate writes to a file.
func printOpenAPI(c gen.Config, _ string, r *gen.Result, stdout io.Writer) error {
	_, err := stdout.Write(r.Files[path.Join(c.Out, openapi.File)])
	return err
}
