package upstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"
)

const (
	// maxRefusal is how much is read of an answer of 400 and more, in bytes, both as it is
	// sent and unpacked.
	maxRefusal = 64 << 10
	// drainTime is for a body that nobody wants: read to its end, its connection can be used
	// again.
	drainTime = 100 * time.Millisecond
)

// Refused is an answer of 400 and more.
type Refused struct {
	Status     int
	Name       string // its "error"; "" where there was none
	Message    string // its "message"; "" where there was none
	RetryAfter string // the header; "" where there was none
	Rev        string // the header atproto-repo-rev; "" where there was none
}

// Error describes it for the log, in few words however many it has.
func (r *Refused) Error() string {
	return fmt.Sprintf("upstream service answered %d %.100q %.200q", r.Status, r.Name, r.Message)
}

// refusal reads an answer of 400 and more, and closes it.
func (c *Client) refusal(res *http.Response, body *download) *Refused {
	defer body.Close()
	refused := &Refused{Status: res.StatusCode, RetryAfter: join(res.Header["Retry-After"]), Rev: join(res.Header["Atproto-Repo-Rev"])}
	isJSON := jsonOrAbsent(join(res.Header["Content-Type"]))
	within := c.o.BodyTimeout
	if !isJSON {
		within = min(within, drainTime)
	}
	// All of it is to come within the time of one piece: it is small.
	end := time.AfterFunc(within, func() { body.watch.cancel(errSilent) })
	defer end.Stop()
	text, err := io.ReadAll(io.LimitReader(body, maxRefusal+1))
	if err != nil || !isJSON || len(text) > maxRefusal {
		return refused
	}
	if text, err = c.unpack(text, res.Header["Content-Encoding"], maxRefusal); err == nil {
		refused.Name, refused.Message = said(text)
	}
	return refused
}

var jsonType = regexp.MustCompile(`(?i)application/(?:\w+\+)?json`)

// jsonOrAbsent reports whether an error of that type is read, as the reference decides it.
func jsonOrAbsent(contentType string) bool {
	return contentType == "" || jsonType.MatchString(contentType)
}

// said is what the JSON of an error says, where that is text.
func said(text []byte) (name, message string) {
	// Not a struct: it would take fields that are spelled in other cases.
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return "", ""
	}
	return asText(fields["error"]), asText(fields["message"])
}

func asText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
