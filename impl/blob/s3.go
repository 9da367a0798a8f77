package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"golang.org/x/sync/errgroup"

	"portico/impl/repo/dagcbor"
)

// S3 is a [Store] in a bucket, under the keys of the reference: blocks/DID/CID for
// permanent blobs, tmp/DID/KEY for temporary ones, quarantine/DID/CID for those taken
// down. Partial files are uploads in parts that were never completed.
//
// An upload is first written to a file on disk, without a name, and sent from there, so
// that its size is known: what is sent without one is held in memory, part by part.
type S3 struct {
	client          *minio.Core
	config          S3Config
	under           underWay
	sending, asking places
}

// S3Config says which bucket, where, and how to reach it.
type S3Config struct {
	Bucket string
	// Region may be empty where the endpoint has none.
	Region string
	// Endpoint is a URL without a path, http or https; empty is Amazon's.
	Endpoint string
	// ForcePathStyle asks for ENDPOINT/BUCKET/KEY, not BUCKET.ENDPOINT/KEY.
	ForcePathStyle bool
	// AccessKeyID and SecretAccessKey may both be empty: then the AWS_ variables,
	// AWS's file of credentials and the instance's role are tried in turn.
	AccessKeyID, SecretAccessKey string
	// UploadTimeout is how long sending one blob to the store may take; 0 is 20 seconds.
	// RequestTimeout is how long any other request may; 0 is the same.
	UploadTimeout, RequestTimeout time.Duration
	// Spool is the folder that uploads are written to; empty is the system's for
	// temporary files.
	Spool  string
	Bounds Bounds
	// Transport is nil, or what requests go through.
	Transport http.RoundTripper
	// Observe is told of each request when the head of its answer has come, whose status is 0 if
	// it has not. It may be nil.
	Observe func(ctx context.Context, verb string, status int, began time.Time, took time.Duration)

	retries int // 0 is the client's default
}

// prefixes are the keys' beginnings.
var prefixes = [...]string{Permanent: "blocks/", Temporary: "tmp/", Quarantine: "quarantine/"}

// OpenS3 returns the store that config describes. It sends nothing yet: see [S3.Check].
func OpenS3(config S3Config) (*S3, error) {
	config.retries = tries
	client, err := config.Core()
	if err != nil {
		return nil, err
	}
	if config.UploadTimeout == 0 {
		config.UploadTimeout = 20 * time.Second
	}
	if config.RequestTimeout == 0 {
		config.RequestTimeout = config.UploadTimeout
	}
	return &S3{
		client: client, config: config,
		sending: make(places, cmp.Or(config.Bounds.Sending, 64)), asking: make(places, cmp.Or(config.Bounds.Asking, 256)),
	}, nil
}

// tries is how often a request is sent to a store that is away, with a second between them at
// most: somebody waits for what it says.
const tries = 3

// Core is a client of the service that the bucket is at. It sends nothing yet.
func (c S3Config) Core() (*minio.Core, error) {
	endpoint, secure := "s3.amazonaws.com", true
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("blob store: %q is no endpoint: give http:// or https:// and a host", c.Endpoint)
		}
		endpoint, secure = u.Host, u.Scheme == "https"
	}
	if err := s3utils.CheckValidBucketName(c.Bucket); err != nil {
		return nil, fmt.Errorf("blob store: bucket %q: %w", c.Bucket, err)
	}
	if (c.AccessKeyID == "") != (c.SecretAccessKey == "") {
		return nil, errors.New("blob store: an access key's id and its secret belong together")
	}
	if c.Observe != nil {
		if c.Transport == nil {
			transport, err := minio.DefaultTransport(secure)
			if err != nil {
				return nil, fmt.Errorf("blob store: %w", err)
			}
			c.Transport = transport
		}
		c.Transport = observed{c.Transport, c.Observe}
	}
	options := &minio.Options{Secure: secure, Region: c.Region, Transport: c.Transport, BucketLookup: minio.BucketLookupAuto, MaxRetries: c.retries}
	if c.ForcePathStyle {
		options.BucketLookup = minio.BucketLookupPath
	}
	if c.AccessKeyID != "" {
		options.Creds = credentials.NewStaticV4(c.AccessKeyID, c.SecretAccessKey, "")
	} else {
		options.Creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	client, err := minio.NewCore(endpoint, options)
	if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	return client, nil
}

// observed tells of the requests that go through a transport.
type observed struct {
	http.RoundTripper
	tell func(ctx context.Context, verb string, status int, began time.Time, took time.Duration)
}

func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	answer, err := o.RoundTripper.RoundTrip(r)
	status := 0
	if err == nil {
		status = answer.StatusCode
	}
	o.tell(r.Context(), r.Method, status, began, time.Since(began))
	return answer, err
}

// Check asks whether the bucket is there and the credentials may use it.
func (s *S3) Check(ctx context.Context) error {
	ctx, cancel := s.deadline(ctx, s.config.RequestTimeout)
	defer cancel()
	ok, err := s.client.BucketExists(ctx, s.config.Bucket)
	if err == nil && !ok {
		err = errors.New("no such bucket")
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", s.config.Bucket, reason(ctx, err))
	}
	return nil
}

// probe is the key of what CheckWrites writes. It is no blob's.
const probe = "tmp/is-it-writable"

// CheckWrites is Check, and finds out whether the credentials may write and remove: it
// writes an object of a few bytes, and removes it.
func (s *S3) CheckWrites(ctx context.Context) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	ctx, cancel := s.deadline(ctx, s.config.RequestTimeout)
	defer cancel()
	const text = "whether this bucket can be written to\n"
	if _, err := s.client.Client.PutObject(ctx, s.config.Bucket, probe, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{}); err != nil {
		return fmt.Errorf("write to bucket %s: %w", s.config.Bucket, reason(ctx, err))
	}
	if err := s.client.RemoveObject(ctx, s.config.Bucket, probe, minio.RemoveObjectOptions{}); err != nil {
		return fmt.Errorf("remove %s from bucket %s: %w", probe, s.config.Bucket, reason(ctx, err))
	}
	return nil
}

func (s *S3) deadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, ErrTimeout)
}

// because is what an error of the client means: ErrAway where it is nothing else.
func because(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if known := meaning(ctx, err); known != nil {
		return known
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// reason is because for who looks at the store itself, and wants to know what it says.
func reason(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if known := meaning(ctx, err); known != nil {
		return known
	}
	return err
}

// meaning is nil for errors that have no name.
func meaning(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	if code := minio.ToErrorResponse(err).Code; code == minio.NoSuchKey || code == minio.NoSuchUpload {
		return ErrNotFound
	}
	return nil
}

func (s *S3) key(n Name) (string, error) {
	if err := n.check(); err != nil {
		return "", err
	}
	area := n.Area
	switch { // an upload in parts has the key that the whole would have
	case area == Partial && isCID(n.Key):
		area = Permanent
	case area == Partial:
		area = Temporary
	}
	return prefixes[area] + n.DID.String() + "/" + n.Key, nil
}

// spool gives a file that is gone when it is closed, or when the process ends.
func (s *S3) spool() (*os.File, error) {
	f, err := os.CreateTemp(s.config.Spool, "portico-blob-*")
	if err != nil {
		return nil, full(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// send stores the first size bytes of f. An upload that ended without an answer may have
// arrived: it is removed again.
func (s *S3) send(ctx context.Context, name Name, f *os.File, size int64) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	if err := s.sending.take(ctx); err != nil {
		return err
	}
	defer s.sending.leave()
	sending, cancel := s.deadline(ctx, s.config.UploadTimeout)
	defer cancel()
	_, err = s.client.Client.PutObject(sending, s.config.Bucket, key, io.NewSectionReader(f, 0, size), size, minio.PutObjectOptions{})
	if err == nil {
		return nil
	}
	err = because(sending, err)
	if name.Area == Temporary {
		removing, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), removeWait, ErrTimeout)
		defer cancel()
		err = errors.Join(err, s.Remove(removing, name))
	}
	return err
}

// removeWait is how long who could not upload waits for what may have arrived to be removed. A
// store that was away is so for a while: the cleaner finds what is left.
const removeWait = 2 * time.Second

// Upload implements [Store].
func (s *S3) Upload(ctx context.Context, did syntax.DID, r io.Reader, limit int64, declared string) (Upload, error) {
	if err := checkDID(did); err != nil {
		return Upload{}, err
	}
	share, err := s.under.start(did, s.config.Bounds)
	if err != nil {
		return Upload{}, err
	}
	defer share.done()
	f, err := s.spool()
	if err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	defer f.Close()
	cid, size, head, err := receive(ctx, io.MultiWriter(share, f), r, limit)
	if err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	up := Upload{Key: newKey(), CID: cid, Size: size, Type: Type(head, declared)}
	if err := s.send(ctx, TemporaryName(did, up.Key), f, size); err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	return up, nil
}

// Put implements [Store].
func (s *S3) Put(ctx context.Context, did syntax.DID, cid dagcbor.CID, r io.Reader, size int64) error {
	put := func() error {
		name := PermanentName(did, cid)
		if err := name.check(); err != nil {
			return err
		}
		f, err := s.spool()
		if err != nil {
			return err
		}
		defer f.Close()
		if err := receiveAs(ctx, f, r, cid, size); err != nil {
			return err
		}
		return s.send(ctx, name, f, size)
	}
	if err := put(); err != nil {
		return fmt.Errorf("put blob %s: %w", cid, err)
	}
	return nil
}

// MakePermanent implements [Store].
func (s *S3) MakePermanent(ctx context.Context, did syntax.DID, key string, cid dagcbor.CID) error {
	if err := s.also(ctx, TemporaryName(did, key), PermanentName(did, cid)); err != nil {
		return fmt.Errorf("make blob %s permanent: %w", cid, err)
	}
	return nil
}

// also copies an object within the store. If only the copy is there, nothing is to be
// done.
func (s *S3) also(ctx context.Context, from, to Name) error {
	source, err := s.key(from)
	if err != nil {
		return err
	}
	target, err := s.key(to)
	if err != nil {
		return err
	}
	if err := s.asking.take(ctx); err != nil {
		return err
	}
	copying, cancel := s.deadline(ctx, s.config.RequestTimeout)
	defer cancel()
	_, err = s.client.Client.CopyObject(copying,
		minio.CopyDestOptions{Bucket: s.config.Bucket, Object: target},
		minio.CopySrcOptions{Bucket: s.config.Bucket, Object: source})
	s.asking.leave()
	err = because(copying, err)
	if errors.Is(err, ErrNotFound) {
		_, err = s.Stat(ctx, to)
	}
	return err
}

// Open implements [Store].
func (s *S3) Open(ctx context.Context, name Name) (io.ReadCloser, File, error) {
	key, err := s.key(name)
	if err != nil {
		return nil, File{}, err
	}
	if err := s.asking.take(ctx); err != nil {
		return nil, File{}, err
	}
	defer s.asking.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	b := &body{ctx: ctx, cancel: cancel, patience: s.config.RequestTimeout}
	b.timer = time.AfterFunc(b.patience, func() { cancel(ErrTimeout) })
	r, info, _, err := s.client.GetObject(ctx, s.config.Bucket, key, minio.GetObjectOptions{})
	b.timer.Stop()
	if err != nil {
		err = because(ctx, err)
		cancel(nil)
		return nil, File{}, err
	}
	b.r = r
	return b, File{Name: name, Size: info.Size, Modified: info.LastModified}, nil
}

// A body is read from the store: each piece of it in time.
type body struct {
	r        io.ReadCloser
	ctx      context.Context
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	patience time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.patience)
	n, err := b.r.Read(p)
	b.timer.Stop()
	if err != nil && err != io.EOF {
		err = because(b.ctx, err)
	}
	return n, err
}

func (b *body) Close() error {
	b.cancel(nil)
	return b.r.Close()
}

// Stat implements [Store].
func (s *S3) Stat(ctx context.Context, name Name) (File, error) {
	key, err := s.key(name)
	if err != nil {
		return File{}, err
	}
	if err := s.asking.take(ctx); err != nil {
		return File{}, err
	}
	defer s.asking.leave()
	ctx, cancel := s.deadline(ctx, s.config.RequestTimeout)
	defer cancel()
	info, err := s.client.StatObject(ctx, s.config.Bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return File{}, because(ctx, err)
	}
	return File{Name: name, Size: info.Size, Modified: info.LastModified}, nil
}

// Quarantine implements [Store].
func (s *S3) Quarantine(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	if err := s.move(ctx, PermanentName(did, cid), QuarantineName(did, cid)); err != nil {
		return fmt.Errorf("quarantine blob %s: %w", cid, err)
	}
	return nil
}

// Restore implements [Store].
func (s *S3) Restore(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	if err := s.move(ctx, QuarantineName(did, cid), PermanentName(did, cid)); err != nil {
		return fmt.Errorf("restore blob %s: %w", cid, err)
	}
	return nil
}

func (s *S3) move(ctx context.Context, from, to Name) error {
	if err := s.also(ctx, from, to); err != nil {
		return err
	}
	return s.Remove(ctx, from)
}

// Remove implements [Store].
func (s *S3) Remove(ctx context.Context, name Name) error {
	key, err := s.key(name)
	if err != nil {
		return err
	}
	ctx, cancel := s.deadline(ctx, s.config.RequestTimeout)
	defer cancel()
	if name.Area == Partial {
		err = s.client.RemoveIncompleteUpload(ctx, s.config.Bucket, key)
	} else {
		err = s.client.RemoveObject(ctx, s.config.Bucket, key, minio.RemoveObjectOptions{})
	}
	if err = because(ctx, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// RemoveAccount implements [Store].
func (s *S3) RemoveAccount(ctx context.Context, did syntax.DID) error {
	if err := checkDID(did); err != nil {
		return err
	}
	all, removing := errgroup.WithContext(ctx)
	all.SetLimit(8)
	for f, err := range s.Files(removing, did) {
		all.Go(func() error {
			if err != nil {
				return err
			}
			return s.Remove(removing, f.Name)
		})
	}
	return all.Wait()
}

// Files implements [Store].
func (s *S3) Files(ctx context.Context, did syntax.DID) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // which ends the client's own goroutines, too
		of := ""
		if did != "" {
			of = did.String() + "/"
		}
		for area, prefix := range prefixes {
			for o := range s.client.ListObjectsIter(ctx, s.config.Bucket, minio.ListObjectsOptions{Prefix: prefix + of, Recursive: true}) {
				if o.Err != nil {
					yield(File{}, because(ctx, o.Err))
					return
				}
				name, ok := nameOf(Area(area), prefix, o.Key)
				if ok && !yield(File{Name: name, Size: o.Size, Modified: o.LastModified}, nil) {
					return
				}
			}
			for u := range s.client.ListIncompleteUploads(ctx, s.config.Bucket, prefix+of, true) {
				if u.Err != nil {
					yield(File{}, because(ctx, u.Err))
					return
				}
				name, ok := nameOf(Partial, prefix, u.Key)
				if ok && !yield(File{Name: name, Size: u.Size, Modified: u.Initiated}, nil) {
					return
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(File{}, err)
		}
	}
}

// nameOf reads a key of the store, if it is one.
func nameOf(area Area, prefix, key string) (Name, bool) {
	did, key, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	n := Name{Area: area, DID: syntax.DID(did), Key: key}
	return n, n.check() == nil
}
