package servertest

import (
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/blob/rows"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
)

// TextBlob is the mention of a blob that was uploaded as plain text.
func TextBlob(body string) record.Blob {
	return record.Blob{CID: dagcbor.Sum(dagcbor.CodecRaw, []byte(body)).String(), MimeType: "text/plain", Size: int64(len(body))}
}

// Mention has a record of did mention blobs that were uploaded, in the place of those that
// it did. There need not be such a record.
func (s *Server) Mention(did syntax.DID, path string, blobs ...record.Blob) {
	s.Helper()
	var mentions []rows.Mention
	for _, b := range blobs {
		mentions = append(mentions, rows.Mention{Path: path, Blob: b})
	}
	p, err := s.Blobs.Prepare(s.Context(), did, mentions)
	s.Check(err)
	s.Write(func(tx *db.Tx) error {
		_, err := tx.LockRepo(s.Context(), did)
		if err == nil {
			err = p.Apply(s.Context(), tx, []string{path}, mentions)
		}
		return err
	})
	p.Finish(s.Context())
	s.Check(s.Blobs.Wait(s.Context()))
}

// MentionMissing has a record of did mention a blob that was not uploaded, as after an
// import.
func (s *Server) MentionMissing(did syntax.DID, path string, cid []byte) {
	s.Helper()
	s.Write(func(tx *db.Tx) error {
		_, err := tx.LockRepo(s.Context(), did)
		if err == nil {
			err = tx.PutRecordBlobs(s.Context(), did, []db.RecordBlob{{Path: path, CID: cid}})
		}
		return err
	})
}

// BlobSums are the blobs that an account has, temporary ones too.
func (s *Server) BlobSums(did syntax.DID) db.BlobSum {
	s.Helper()
	sums, err := s.DB.BlobSums(s.Context(), did)
	s.Check(err)
	return sums[did]
}
