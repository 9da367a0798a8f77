package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"portico/impl/blob"
)

const (
	leaseName = "lease.json"
	// leaseFor is how long nobody else writes to a bucket in which a process was killed.
	leaseFor = 2 * time.Minute
	// partSize is how much of a part is in memory while it is sent: a part of a snapshot
	// has at most ten thousand of them.
	partSize = 16 << 20
	// patience is how long a request may take, beside the bytes that it carries.
	patience = 2 * time.Minute
)

// Bucket is a [Store] in an S3 bucket, below a prefix.
type Bucket struct {
	client *minio.Core
	bucket string
	prefix string // ends in a slash, unless it is empty
}

// ParseBucket reads s3://BUCKET/PREFIX.
func ParseBucket(place string) (bucket, prefix string, err error) {
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path, "//") {
		return "", "", fmt.Errorf("%q is not of the form s3://BUCKET/PREFIX", place)
	}
	return u.Host, strings.Trim(u.Path, "/"), nil
}

// OpenBucket returns the store in a bucket, below a prefix that may be empty. It sends
// nothing yet.
func OpenBucket(config blob.S3Config, prefix string) (*Bucket, error) {
	client, err := config.Core()
	if err != nil {
		return nil, fmt.Errorf("bucket of backups: %w", err)
	}
	if prefix != "" {
		prefix += "/"
	}
	return &Bucket{client: client, bucket: config.Bucket, prefix: prefix}, nil
}

func (b *Bucket) String() string { return "s3://" + b.bucket + "/" + strings.TrimSuffix(b.prefix, "/") }

// Check implements [Store].
func (b *Bucket) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ok, err := b.client.BucketExists(ctx, b.bucket)
	if err == nil && !ok {
		err = errors.New("no such bucket")
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", b.bucket, err)
	}
	return nil
}

// A lease says who writes, and until when nobody else does.
type lease struct {
	Holder string    `json:"holder"`
	Host   string    `json:"host"` // for people
	Until  time.Time `json:"until"`
}

func (b *Bucket) lease(ctx context.Context) (l lease, err error) {
	r, _, err := b.Open(ctx, leaseName)
	if errors.Is(err, ErrNotFound) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, 1<<10))
	if err == nil && json.Unmarshal(text, &l) != nil {
		l = lease{} // it is nobody's
	}
	return l, err
}

func (b *Bucket) putLease(ctx context.Context, l lease) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return b.Put(ctx, leaseName, bytes.NewReader(text), int64(len(text)))
}

// Lock implements [Store]: by an object that is renewed for as long as the lock is held,
// and of which whoever wrote last has it.
func (b *Bucket) Lock(ctx context.Context) (*Hold, error) {
	was, err := b.lease(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", leaseName, err)
	}
	if was.Holder != "" && time.Now().Before(was.Until) && was.Until.Before(time.Now().Add(2*leaseFor)) {
		return nil, fmt.Errorf("%w to %s by %s, or was until it was killed: it is waited for until %s",
			ErrBusy, b, printable(was.Host), was.Until.UTC().Format(time.TimeOnly))
	}
	host, _ := os.Hostname()
	mine := lease{Holder: rand.Text(), Host: host}
	renew := func(ctx context.Context) error {
		mine.Until = time.Now().Add(leaseFor)
		return b.putLease(ctx, mine)
	}
	// still is ErrLost when another has written.
	still := func(ctx context.Context) error {
		now, err := b.lease(ctx)
		if err == nil && now.Holder != mine.Holder {
			err = fmt.Errorf("%w, by %s", ErrLost, printable(now.Host))
		}
		return err
	}
	if err := renew(ctx); err != nil {
		return nil, fmt.Errorf("write %s: %w", leaseName, err)
	}
	if err := still(ctx); err != nil {
		return nil, fmt.Errorf("read %s: %w", leaseName, err)
	}
	held, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for {
			select {
			case <-held.Done():
				return
			case <-time.After(leaseFor / 4):
			}
			err := still(held)
			if err == nil {
				err = renew(held)
			}
			if errors.Is(err, ErrLost) || err != nil && time.Now().After(mine.Until) {
				cancel(fmt.Errorf("%w: %w", ErrLost, err))
				return
			}
		}
	})
	release := func() error {
		cancel(nil)
		renewing.Wait()
		ending, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer stop()
		if err := still(ending); err != nil {
			return nil // it is another's
		}
		return b.Remove(ending, leaseName)
	}
	if err := b.clear(held); err != nil {
		return nil, errors.Join(fmt.Errorf("clear away what was not finished: %w", err), release())
	}
	return &Hold{Context: held, Still: still, Release: release}, nil
}

// clear gives up the uploads in parts that were never completed.
func (b *Bucket) clear(ctx context.Context) error {
	for u := range b.client.ListIncompleteUploads(ctx, b.bucket, b.prefix+"snapshots/", true) {
		if u.Err != nil {
			return u.Err
		}
		if err := b.client.AbortMultipartUpload(ctx, b.bucket, u.Key, u.UploadID); err != nil && !errors.Is(meaning(err), ErrNotFound) {
			return err
		}
	}
	return nil
}

func meaning(err error) error {
	if code := minio.ToErrorResponse(err).Code; code == minio.NoSuchKey || code == minio.NoSuchUpload {
		return ErrNotFound
	}
	return err
}

func (b *Bucket) key(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("%q: %w", printable(name), err)
	}
	return b.prefix + name, nil
}

// A watch ends a context when nothing happens for too long: a request that hangs would
// hang for ever.
type watch struct {
	*time.Timer
	stop context.CancelCauseFunc
}

func watched(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watch{time.AfterFunc(patience, func() { cancel(blob.ErrTimeout) }), cancel}
}

func (w *watch) happened() { w.Reset(patience) }

func (w *watch) end() {
	w.Stop()
	w.stop(nil)
}

// A watchedReader is what a request reads or is read from.
type watchedReader struct {
	io.Reader
	ctx  context.Context
	seen *watch
}

func (r *watchedReader) Read(p []byte) (int, error) {
	// Who gives bytes may take longer than any request.
	r.seen.Stop()
	n, err := r.Reader.Read(p)
	r.seen.happened()
	return n, err
}

// Put implements [Store].
func (b *Bucket) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	if size >= 0 {
		r = io.LimitReader(r, size)
	}
	ctx, seen := watched(ctx)
	defer seen.end()
	_, err = b.client.Client.PutObject(ctx, b.bucket, key, &watchedReader{r, ctx, seen}, size, minio.PutObjectOptions{PartSize: partSize})
	return because(ctx, err)
}

// because is an error with the reason why its context ended.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return meaning(err)
}

// Open implements [Store].
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	key, err := b.key(name)
	if err != nil {
		return nil, 0, err
	}
	ctx, seen := watched(ctx)
	r, info, _, err := b.client.GetObject(ctx, b.bucket, key, minio.GetObjectOptions{})
	seen.Stop()
	if err != nil {
		err = because(ctx, err)
		seen.end()
		return nil, 0, err
	}
	return &body{r, ctx, seen}, info.Size, nil
}

// A body is read from the bucket: each piece of it in time.
type body struct {
	r    io.ReadCloser
	ctx  context.Context
	seen *watch
}

func (b *body) Read(p []byte) (int, error) {
	b.seen.happened()
	n, err := b.r.Read(p)
	b.seen.Stop()
	if err != nil && err != io.EOF {
		err = because(b.ctx, err)
	}
	return n, err
}

func (b *body) Close() error {
	b.seen.end()
	return b.r.Close()
}

// Remove implements [Store].
func (b *Bucket) Remove(ctx context.Context, name string) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	ctx, seen := watched(ctx)
	defer seen.end()
	err = because(ctx, b.client.RemoveObject(ctx, b.bucket, key, minio.RemoveObjectOptions{}))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// List implements [Store].
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		ctx, seen := watched(ctx)
		defer seen.end() // which ends the client's own goroutines, too
		for o := range b.client.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}) {
			seen.Stop()
			if o.Err != nil {
				yield(Object{}, because(ctx, o.Err))
				return
			}
			name := strings.TrimPrefix(o.Key, b.prefix)
			if checkName(name) == nil && !yield(Object{Name: name, Size: o.Size, Modified: o.LastModified}, nil) {
				return
			}
			seen.happened()
		}
		if err := context.Cause(ctx); err != nil {
			yield(Object{}, err)
		}
	}
}
