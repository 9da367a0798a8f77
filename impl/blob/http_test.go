package blob_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"portico/impl/blob"
)

// Bodies as a server gets them: what a client says of its upload's length is a lie, or it
// goes away. No file is left of any.
func TestUploadsThatLie(t *testing.T) {
	d, _ := openDisk(t, blob.Bounds{})
	results := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up, err := d.Upload(r.Context(), alice, r.Body, 1000, r.Header.Get("Content-Type"))
		if err == nil {
			err = fmt.Errorf("taken: %d bytes of %s", up.Size, up.Type)
			d.Remove(r.Context(), blob.TemporaryName(alice, up.Key))
		}
		results <- err
	}))
	t.Cleanup(server.Close)
	long := strings.Repeat("x", 1001)
	for _, tt := range []struct {
		name, request string
		want          error
		text          string
	}{
		{"fewer bytes than said", "Content-Length: 500\r\n\r\nabc", blob.ErrBody, ""},
		{"none of those said", "Content-Length: 500\r\n\r\n", blob.ErrBody, ""},
		{"more bytes than said", "Content-Length: 3\r\nContent-Type: a/b; c=d\r\n\r\nabcdef", nil, "taken: 3 bytes of a/b"},
		{"more than may be", "Content-Length: 1001\r\n\r\n" + long, blob.ErrTooLarge, ""},
		{"more than may be, in chunks", "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + long + "\r\n0\r\n\r\n", blob.ErrTooLarge, ""},
		{"chunks that end", "Transfer-Encoding: chunked\r\n\r\n10\r\nabc", blob.ErrBody, ""},
		{"chunks that are none", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzzz\r\n", blob.ErrBody, ""},
		{"a type that is none", "Content-Length: 3\r\nContent-Type: \x01\"<script>\r\n\r\nabc", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+tt.request)
			c.(*net.TCPConn).CloseWrite()
			resp, _ := http.ReadResponse(bufio.NewReader(c), nil)
			c.Close()
			if resp != nil && resp.StatusCode == http.StatusBadRequest {
				return // the server itself refused it
			}
			err = <-results
			if tt.want != nil && !errors.Is(err, tt.want) || tt.text != "" && err.Error() != tt.text {
				t.Errorf("%v; want %v %s", err, tt.want, tt.text)
			}
		})
	}
	for f, err := range d.Files(t.Context(), "") {
		t.Errorf("left behind: %v, %v", f.Name, err)
	}
}
