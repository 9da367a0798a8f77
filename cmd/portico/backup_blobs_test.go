package main

import (
	"bytes"
	"context"
	encoding "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
)

// A poster is somebody who writes to a server.
type poster struct {
	url, DID, AccessJWT string
}

// ask calls a method with a body of some type, or gets what it answers when there is none.
func (p *poster) ask(ctx context.Context, method, contentType, body string, out any) error {
	verb := http.MethodPost
	if contentType == "" {
		verb = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, verb, p.url+"/xrpc/com.atproto."+method, strings.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if p.AccessJWT != "" {
		request.Header.Set("Authorization", "Bearer "+p.AccessJWT)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d %s", method, answer.StatusCode, text)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = text
		return nil
	}
	return encoding.Unmarshal(text, out)
}

// post writes a record with a key that names a blob with the text.
func (p *poster) post(ctx context.Context, key, text string) error {
	var uploaded struct{ Blob encoding.RawMessage }
	if err := p.ask(ctx, "repo.uploadBlob", "text/plain", text, &uploaded); err != nil {
		return err
	}
	record := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":%q,"record":{"blob":%s}}`, p.DID, key, uploaded.Blob)
	return p.ask(ctx, "repo.createRecord", "application/json", record, new(struct{}))
}

// While somebody writes records with blobs and deletes them, backups are made. Each has
// all the blobs that its database knows, and a server on it serves them.
func TestBackupOfBlobsWhileOthersWrite(t *testing.T) {
	dir := t.TempDir()
	url, stop := serveIn(t, dir)
	alice := &poster{url: url}
	account := `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`
	if err := alice.ask(t.Context(), "server.createAccount", "application/json", account, alice); err != nil {
		t.Fatal(err)
	}
	if err := alice.post(t.Context(), "kept", "this one stays"); err != nil {
		t.Fatal(err)
	}
	ended, enough := make(chan error, 1), make(chan struct{})
	wrote := make(chan int)
	go func() {
		defer close(wrote)
		for n := 0; ; n++ {
			err := alice.post(t.Context(), fmt.Sprint(n), fmt.Sprint("note ", n))
			if err == nil && n >= 2 {
				gone := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"%d"}`, alice.DID, n-2)
				err = alice.ask(t.Context(), "repo.deleteRecord", "application/json", gone, new(struct{}))
			}
			if err != nil {
				ended <- err
				return
			}
			select {
			case <-enough:
				ended <- nil
				return
			case wrote <- n:
			default:
			}
		}
	}()
	folders := t.TempDir()
	var last string
	for round := range 4 {
		if _, ok := <-wrote; !ok {
			t.Fatal(<-ended)
		}
		last = filepath.Join(folders, fmt.Sprint(round))
		out, _, err := portico(t, []string{"PDS_DATA_DIRECTORY=" + dir}, "backup", "--json", last)
		if err != nil {
			t.Fatal(err)
		}
		var made folderBackup
		if err := encoding.Unmarshal([]byte(out), &made); err != nil {
			t.Fatal(err)
		}
		count, missing := checkBlobs(t, last)
		if made.Blobs.Count != count || made.Blobs.Missing != len(missing) || count == 0 {
			t.Errorf("backup %d says %+v of %d blobs, %d missing", round, made.Blobs, count, len(missing))
		}
		// On a busy machine all copies may be behind: then of what is deleted.
		for _, cid := range missing {
			if err := alice.ask(t.Context(), "sync.getBlob?did="+alice.DID+"&cid="+cid, "", "", new([]byte)); err == nil {
				t.Errorf("backup %d has no %s, which is there", round, cid)
			}
		}
	}
	close(enough)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	stop()

	// What becomes of the first server is nothing to the backup.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	alice.url, _ = serveIn(t, last)
	var record struct {
		Value struct {
			Blob struct {
				Ref struct {
					Link string `json:"$link"`
				}
			}
		}
	}
	if err := alice.ask(t.Context(), "repo.getRecord?collection=com.example.note&rkey=kept&repo="+alice.DID, "", "", &record); err != nil {
		t.Fatal(err)
	}
	var text []byte
	if err := alice.ask(t.Context(), "sync.getBlob?did="+alice.DID+"&cid="+record.Value.Blob.Ref.Link, "", "", &text); err != nil || string(text) != "this one stays" {
		t.Errorf("the blob is %q, %v", text, err)
	}
	if err := alice.post(t.Context(), "later", "after the restore"); err != nil {
		t.Error(err)
	}
	if out, _, err := portico(t, []string{"PDS_DATA_DIRECTORY=" + last}, "repo", "verify", alice.DID); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Blobs that another server has left are served from where they are, and are in backups; a
// record that goes takes nothing along there.
func TestBlobsLeftInAFolder(t *testing.T) {
	dir, left := t.TempDir(), filepath.Join(t.TempDir(), "blocks")
	url, stop := serveIn(t, dir)
	alice := &poster{url: url}
	account := `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`
	if err := alice.ask(t.Context(), "server.createAccount", "application/json", account, alice); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"stays": "this one stays", "goes": "this one goes"}
	for key, text := range texts {
		if err := alice.post(t.Context(), key, text); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := os.Rename(filepath.Join(dir, blobsName), left); err != nil {
		t.Fatal(err)
	}
	environ := []string{"PDS_DATA_DIRECTORY=" + dir, "PORTICO_BLOBSTORE_LEFT_LOCATION=" + left}
	s, _ := startFor(t, environ...)
	alice.url = s.PublicURL.String()
	gone := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":"goes"}`, alice.DID)
	if err := alice.ask(t.Context(), "repo.deleteRecord", "application/json", gone, new(struct{})); err != nil {
		t.Fatal(err)
	}
	for key, text := range texts {
		name := dagcbor.Sum(dagcbor.CodecRaw, []byte(text)).String()
		var got []byte
		err := alice.ask(t.Context(), "sync.getBlob?did="+alice.DID+"&cid="+name, "", "", &got)
		if there := err == nil && string(got) == text; there != (key == "stays") {
			t.Errorf("%s: %q, %v", key, got, err)
		}
		if b, err := os.ReadFile(filepath.Join(left, alice.DID, name)); err != nil || string(b) != text {
			t.Errorf("%s is left as %q, %v", key, b, err)
		}
	}
	copied := filepath.Join(t.TempDir(), "backup")
	if _, _, err := portico(t, environ, "backup", copied); err != nil {
		t.Fatal(err)
	}
	if count, missing := checkBlobs(t, copied); count != 1 || len(missing) > 0 {
		t.Errorf("a backup has %d blobs, and lacks %v", count, missing)
	}
}

// checkBlobs looks for every blob that the database of a backup knows, and counts those
// that are there.
func checkBlobs(t *testing.T, folder string) (count int, missing []string) {
	t.Helper()
	known, err := openCopy(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	defer known.Close()
	disk, err := blob.OpenDisk(filepath.Join(folder, blobsName), "", blob.Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := known.StoredBlobs(t.Context(), db.StoredBlob{}, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		name := blob.PermanentName(row.DID, store.CID(row.CID))
		r, _, err := disk.Open(t.Context(), name)
		if err != nil && row.TempKey != "" {
			r, _, err = disk.Open(t.Context(), blob.TemporaryName(row.DID, row.TempKey))
		}
		if errors.Is(err, blob.ErrNotFound) {
			missing = append(missing, store.CID(row.CID).String())
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		count++
		cid, _, err := blob.Sum(r)
		if r.Close(); err != nil || !bytes.Equal(cid[:], row.CID) {
			t.Errorf("%s is %s, %v", name, cid, err)
		}
	}
	return count, missing
}

// What a setting names stays where it is when the data directory is another one: there a
// server on a backup would find the blobs of now.
func TestBackupSaysWhereItsBlobsAre(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		blobs   int
		want    string
	}{
		{"unset", nil, 1, "  PDS_DATA_DIRECTORY=/copy portico serve"},
		{"elsewhere", []string{"PDS_BLOBSTORE_DISK_LOCATION=/blobs"}, 1, "  PDS_BLOBSTORE_DISK_LOCATION=/copy/blobs PDS_DATA_DIRECTORY=/copy portico serve"},
		{"where they are anyhow", []string{"PDS_BLOBSTORE_DISK_LOCATION=/pds/blobs"}, 1, "  PDS_BLOBSTORE_DISK_LOCATION=/copy/blobs PDS_DATA_DIRECTORY=/copy portico serve"},
		{"temporary ones", []string{"PDS_BLOBSTORE_DISK_TMP_LOCATION=/tmp/blobs"}, 1, "  PDS_BLOBSTORE_DISK_TMP_LOCATION=/copy/blobs/tempt PDS_DATA_DIRECTORY=/copy portico serve"},
		{"no blobs", []string{"PDS_BLOBSTORE_DISK_LOCATION=/blobs"}, 0, "  PDS_DATA_DIRECTORY=/copy portico serve"},
	} {
		b := &folderBackup{
			Folder: "/copy", Blobs: &backupBlobs{Count: tt.blobs},
			settings: mustRead(t, append(tt.environ, "PDS_DATA_DIRECTORY=/pds")...),
		}
		lines := strings.Split(b.report(""), "\n")
		if got := lines[len(lines)-1]; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
