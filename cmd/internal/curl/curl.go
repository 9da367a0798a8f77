// Package curl is as much of curl as the documents of this project use, so that their
// tests walk through them on a machine that has no curl. An option that is not among
// these few is refused: either the document does without, or it is added here.
package curl

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// Main is the command. Like curl's own, its status is 0 whatever the server answers.
func Main() {
	if err := Run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		os.Exit(2)
	}
}

// Run makes the request that the arguments describe and copies the body of the answer
// to stdout. The options are -s, -d DATA, -H HEADER, -u USER:PASSWORD and -X METHOD.
func Run(args []string, stdout io.Writer) error {
	var target, method, user, data string
	header := http.Header{}
	for len(args) > 0 {
		option := args[0]
		args = args[1:]
		if !strings.HasPrefix(option, "-") {
			if target != "" {
				return fmt.Errorf("more than one URL: %s", option)
			}
			target = option
			continue
		}
		if option == "-s" {
			continue
		}
		if len(args) == 0 {
			return fmt.Errorf("option %s is unknown or lacks its value", option)
		}
		value := args[0]
		args = args[1:]
		switch option {
		case "-d":
			data = value
		case "-u":
			user = value
		case "-X":
			method = value
		case "-H":
			name, text, ok := strings.Cut(value, ":")
			if !ok {
				return fmt.Errorf("%q is no header", value)
			}
			header.Set(name, strings.TrimSpace(text))
		default:
			return fmt.Errorf("option %s is not among those that the documents use", option)
		}
	}
	if target == "" {
		return errors.New("no URL")
	}
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	if data != "" && method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, target, strings.NewReader(data))
	if err != nil {
		return err
	}
	if data != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name := range header {
		req.Header.Set(name, header.Get(name))
	}
	if name, password, ok := strings.Cut(user, ":"); ok {
		req.SetBasicAuth(name, password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(stdout, res.Body)
	return err
}
