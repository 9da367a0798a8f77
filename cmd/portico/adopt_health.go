package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"portico/impl/reference/adopt"
)

// healthTimeout is how long a server may take to say that it runs.
const healthTimeout = 5 * time.Second

// answersHealth reports whether an account server answers at a URL. A proxy in front of one
// that is stopped does not answer so.
func answersHealth(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/xrpc/_health", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	var health struct {
		Version string `json:"version"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 4096)).Decode(&health)
	return err == nil && response.StatusCode == http.StatusOK && health.Version != ""
}

// checkAdopted returns an error when the data directory is of an adoption that is not done,
// or the server that it was adopted from still answers. It is asked at the first start only:
// later it is this server that answers there.
func checkAdopted(ctx context.Context, s *settings) error {
	mark, _, err := adopt.ReadMark(s.DataDirectory)
	if errors.Is(err, fs.ErrNotExist) || s.DatabaseURL != "" {
		return nil
	}
	if err != nil {
		return err
	}
	if !exists(s.databaseFile()) {
		return unfit(fmt.Errorf("the adoption of %s into %s is not finished: run \"portico adopt %s --into %s\" again, it goes on",
			mark.Source, s.DataDirectory, mark.Source, s.DataDirectory))
	}
	for _, url := range mark.Old {
		if answersHealth(ctx, url) {
			return fmt.Errorf("the server that this one was adopted from still answers at %s: two servers must not be one. Stop it, and see to it that "+
				"nothing starts it again. If what answers is another one, remove %s/adopted, and start again", url, s.DataDirectory)
		}
	}
	return nil
}
