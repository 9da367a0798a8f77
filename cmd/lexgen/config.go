package main

import (
	"portico/gen"
	"portico/gen/model"
)

// config says what is generated. A collision of names or a package cycle stops the
// generator with a message that tells what to add here.
var config = gen.Config{
	Lexicons: "lexicons",
	Out:      "api",
	OpenAPI:  "AT Protocol",
	Model: model.Config{
		Emit:        []string{"com.atproto.*", "alt.portico.*"},
		Import:      "portico/api",
		Initialisms: []string{"DID", "URI", "URL", "CID", "JWT", "ID", "NSID", "TID", "PLC", "JSON", "HTML", "IP"},
	},
}
