package blobtest

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// S3 is an S3 server in memory, with what a store of blobs asks of one bucket: objects
// put at once and in parts, read, copied, listed and removed.
type S3 struct {
	URL    string
	Bucket string
	// Fail is asked about every request, if it is there, before anything is done, and
	// answers it by returning true.
	Fail func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	objects map[string]object
	parts   map[string]map[int][]byte // by upload id
	keys    map[string]string         // of uploads under way, by their id
	next    int
}

type object struct {
	data     []byte
	modified time.Time
}

// StartS3 starts a server, which ends with the test.
func StartS3(t testing.TB) *S3 {
	s := &S3{Bucket: "blobs", objects: make(map[string]object), parts: make(map[string]map[int][]byte), keys: make(map[string]string)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Keys are those of all objects, in order.
func (s *S3) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Object is what lies under a key.
func (s *S3) Object(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	return o.data, ok
}

// Put stores an object, as somebody else's client does.
func (s *S3) Put(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(key, data)
}

// Delete removes an object that is there.
func (s *S3) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}

// UnderWay is how many uploads in parts were begun and neither completed nor given up.
func (s *S3) UnderWay() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys)
}

// BeginParts begins an upload in parts that nobody completes.
func (s *S3) BeginParts(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(key)
}

func (s *S3) begin(key string) string {
	s.next++
	id := strconv.Itoa(s.next)
	s.keys[id], s.parts[id] = key, make(map[int][]byte)
	return id
}

func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Fail != nil && s.Fail(w, r) {
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket != s.Bucket {
		refuse(w, r, http.StatusNotFound, "NoSuchBucket")
		return
	}
	var data []byte
	if r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") == "" {
		var err error
		if data, err = payload(r); err != nil {
			refuse(w, r, http.StatusBadRequest, "IncompleteBody")
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	id := q.Get("uploadId")
	if id != "" && s.keys[id] != key {
		refuse(w, r, http.StatusNotFound, "NoSuchUpload")
		return
	}
	switch {
	case key == "" && r.Method == http.MethodHead:
	case key == "" && q.Has("uploads"):
		s.listUploads(w, q)
	case key == "" && r.Method == http.MethodGet && q.Get("list-type") == "2":
		s.list(w, q)
	case r.Method == http.MethodPost && q.Has("uploads"):
		answer(w, struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			Bucket   string
			Key      string
			UploadId string
		}{Bucket: s.Bucket, Key: key, UploadId: s.begin(key)})
	case r.Method == http.MethodPut && id != "":
		n, _ := strconv.Atoi(q.Get("partNumber"))
		s.parts[id][n] = data
		w.Header().Set("ETag", etag(data))
	case r.Method == http.MethodPost && id != "":
		for _, n := range slices.Sorted(maps.Keys(s.parts[id])) {
			data = append(data, s.parts[id][n]...)
		}
		s.put(key, data)
		delete(s.keys, id)
		delete(s.parts, id)
		answer(w, struct {
			XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
			Bucket  string
			Key     string
			ETag    string
		}{Bucket: s.Bucket, Key: key, ETag: etag(data)})
	case r.Method == http.MethodDelete && id != "":
		delete(s.keys, id)
		delete(s.parts, id)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		from, _ := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
		o, ok := s.objects[strings.TrimPrefix(strings.TrimPrefix(from, "/"), s.Bucket+"/")]
		if !ok {
			refuse(w, r, http.StatusNotFound, "NoSuchKey")
			return
		}
		s.put(key, o.data)
		answer(w, struct {
			XMLName      xml.Name `xml:"CopyObjectResult"`
			ETag         string
			LastModified time.Time
		}{ETag: etag(o.data), LastModified: time.Now().UTC()})
	case r.Method == http.MethodPut:
		s.put(key, data)
		w.Header().Set("ETag", etag(data))
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		o, ok := s.objects[key]
		if !ok {
			refuse(w, r, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", etag(o.data))
		w.Header().Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", strconv.Itoa(len(o.data)))
		if r.Method == http.MethodGet {
			s.mu.Unlock()
			w.Write(o.data)
			s.mu.Lock()
		}
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, r, http.StatusNotImplemented, "NotImplemented")
	}
}

func (s *S3) put(key string, data []byte) { s.objects[key] = object{data, time.Now()} }

// list gives some objects at a time: seven, so that tests see more than one page.
func (s *S3) list(w http.ResponseWriter, q url.Values) {
	type content struct {
		Key          string
		LastModified time.Time
		ETag         string
		Size         int
	}
	var out struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name                  string
		Prefix                string
		EncodingType          string
		KeyCount              int
		IsTruncated           bool
		NextContinuationToken string
		Contents              []content
	}
	out.Name, out.Prefix, out.EncodingType = s.Bucket, q.Get("prefix"), q.Get("encoding-type")
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if !strings.HasPrefix(key, out.Prefix) || key <= q.Get("continuation-token") {
			continue
		}
		if out.KeyCount == 7 {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[6].Key
			break
		}
		o := s.objects[key]
		out.KeyCount++
		out.Contents = append(out.Contents, content{key, o.modified.UTC(), etag(o.data), len(o.data)})
	}
	if q.Get("encoding-type") == "url" {
		for i := range out.Contents {
			out.Contents[i].Key = url.QueryEscape(out.Contents[i].Key)
		}
	}
	answer(w, out)
}

func (s *S3) listUploads(w http.ResponseWriter, q url.Values) {
	type upload struct {
		Key       string
		UploadId  string
		Initiated time.Time
	}
	var out struct {
		XMLName      xml.Name `xml:"ListMultipartUploadsResult"`
		Bucket       string
		EncodingType string
		Upload       []upload
	}
	out.Bucket, out.EncodingType = s.Bucket, q.Get("encoding-type")
	for _, id := range slices.Sorted(maps.Keys(s.keys)) {
		key := s.keys[id]
		if !strings.HasPrefix(key, q.Get("prefix")) {
			continue
		}
		if q.Get("encoding-type") == "url" {
			key = url.QueryEscape(key)
		}
		out.Upload = append(out.Upload, upload{key, id, time.Now().UTC()})
	}
	answer(w, out)
}

func etag(data []byte) string {
	sum := md5.Sum(data)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/xml")
	xml.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
	}
}

// payload is what a client put, without the signatures in between.
func payload(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return io.ReadAll(r.Body)
	}
	var data []byte
	in := bufio.NewReader(r.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 32)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return data, nil
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, err
		}
		data = append(data, chunk[:n]...)
	}
}
