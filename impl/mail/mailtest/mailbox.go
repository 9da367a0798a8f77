package mailtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"
)

var code = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// Mailbox gives mails to a script. GET /next?to=ADDRESS answers, as JSON, subject, text and
// the emailed code in it of the first mail to that address that was not asked for yet; it
// waits ten seconds for one that is on its way. GET /unread answers the subjects and
// addresses of those that were not asked for.
func (s *Server) Mailbox() http.Handler {
	var mu sync.Mutex
	read := map[int]bool{}
	next := func(to string) *Mail {
		mu.Lock()
		defer mu.Unlock()
		for i, m := range s.Mails() {
			if !read[i] && m.To == to {
				read[i] = true
				return &m
			}
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /next", func(w http.ResponseWriter, r *http.Request) {
		to := r.FormValue("to")
		deadline := time.After(patience)
		m := next(to)
		for ; m == nil; m = next(to) {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-deadline:
				http.Error(w, "no mail came", http.StatusNotFound)
				return
			}
		}
		write(w, map[string]string{"subject": m.Subject, "text": m.Text, "code": code.FindString(m.Text)})
	})
	mux.HandleFunc("GET /unread", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		unread := []string{}
		for i, m := range s.Mails() {
			if !read[i] {
				unread = append(unread, fmt.Sprintf("%s to %s", m.Subject, m.To))
			}
		}
		write(w, unread)
	})
	return mux
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // fails when the script has gone
}
