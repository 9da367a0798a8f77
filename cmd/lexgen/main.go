// Lexgen generates the packages below api from the documents below lexicons.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	r, err := config.Run(os.DirFS("."))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for n, d := range r.Files {
		os.MkdirAll(filepath.Dir(n), 0o777)
		os.WriteFile(n, d, 0o666)
	}
	fmt.Println(len(r.Files), r.Warnings)
}
