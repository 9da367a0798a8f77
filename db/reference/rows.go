package reference

import (
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// What is in the tables. Dates are texts as [FormatTime] writes them, CIDs and JSON texts
// too; columns that can be NULL are pointers, whatever the schema promises.

// Of account.sqlite.
type (
	// Actor is an account with what its own row has. The row, of the same DID, is missing
	// for a sign-up without a password: then Email is nil.
	Actor struct {
		bun.BaseModel `bun:"table:actor,alias:a"`

		DID           string  `bun:"did,pk"`
		Handle        *string `bun:"handle"`
		CreatedAt     string  `bun:"createdAt"`
		TakedownRef   *string `bun:"takedownRef"`
		DeactivatedAt *string `bun:"deactivatedAt"`
		DeleteAfter   *string `bun:"deleteAfter"`

		Email            *string `bun:"email"`
		PasswordScrypt   *string `bun:"passwordScrypt"`
		EmailConfirmedAt *string `bun:"emailConfirmedAt"`
		InvitesDisabled  bool    `bun:"invitesDisabled"`
	}
	AppPassword struct {
		bun.BaseModel `bun:"table:app_password,alias:p"`

		DID            string `bun:"did,pk"`
		Name           string `bun:"name,pk"`
		PasswordScrypt string `bun:"passwordScrypt"`
		CreatedAt      string `bun:"createdAt"`
		Privileged     bool   `bun:"privileged"`
	}
	RefreshToken struct {
		bun.BaseModel `bun:"table:refresh_token,alias:t"`

		ID              string  `bun:"id,pk"`
		DID             string  `bun:"did"`
		ExpiresAt       string  `bun:"expiresAt"`
		NextID          *string `bun:"nextId"`
		AppPasswordName *string `bun:"appPasswordName"`
	}
	EmailToken struct {
		bun.BaseModel `bun:"table:email_token,alias:e"`

		Purpose     string `bun:"purpose,pk"`
		DID         string `bun:"did,pk"`
		Token       string `bun:"token"`
		RequestedAt string `bun:"requestedAt"`
	}
	InviteCode struct {
		bun.BaseModel `bun:"table:invite_code,alias:i"`

		Code          string `bun:"code,pk"`
		AvailableUses int64  `bun:"availableUses"`
		Disabled      bool   `bun:"disabled"`
		ForAccount    string `bun:"forAccount"`
		CreatedBy     string `bun:"createdBy"`
		CreatedAt     string `bun:"createdAt"`
	}
	InviteCodeUse struct {
		bun.BaseModel `bun:"table:invite_code_use,alias:u"`

		Code   string `bun:"code,pk"`
		UsedBy string `bun:"usedBy,pk"`
		UsedAt string `bun:"usedAt"`
	}
	// RepoRoot is of a store; account.sqlite has a copy of each, which may lag.
	RepoRoot struct {
		bun.BaseModel `bun:"table:repo_root,alias:r"`

		DID       string `bun:"did,pk"`
		CID       string `bun:"cid"`
		Rev       string `bun:"rev"`
		IndexedAt string `bun:"indexedAt"`
	}
)

// Of sequencer.sqlite.
type Event struct {
	bun.BaseModel `bun:"table:repo_seq,alias:e"`

	Seq         int64  `bun:"seq,pk"`
	DID         string `bun:"did"`
	Type        string `bun:"eventType"`
	Body        []byte `bun:"event"`
	Invalidated bool   `bun:"invalidated"`
	SequencedAt string `bun:"sequencedAt"`
}

// Of store.sqlite.
type (
	Block struct {
		bun.BaseModel `bun:"table:repo_block,alias:b"`

		CID     string `bun:"cid,pk"`
		RepoRev string `bun:"repoRev"`
		Size    int64  `bun:"size"`
		Content []byte `bun:"content"`
	}
	Record struct {
		bun.BaseModel `bun:"table:record,alias:r"`

		URI         string  `bun:"uri,pk"`
		CID         string  `bun:"cid"`
		Collection  string  `bun:"collection"`
		RKey        string  `bun:"rkey"`
		RepoRev     string  `bun:"repoRev"`
		IndexedAt   string  `bun:"indexedAt"`
		TakedownRef *string `bun:"takedownRef"`
	}
	Blob struct {
		bun.BaseModel `bun:"table:blob,alias:b"`

		CID         string  `bun:"cid,pk"`
		MimeType    string  `bun:"mimeType"`
		Size        int64   `bun:"size"`
		TempKey     *string `bun:"tempKey"`
		Width       *int64  `bun:"width"`
		Height      *int64  `bun:"height"`
		CreatedAt   string  `bun:"createdAt"`
		TakedownRef *string `bun:"takedownRef"`
	}
	RecordBlob struct {
		bun.BaseModel `bun:"table:record_blob,alias:b"`

		BlobCID   string `bun:"blobCid,pk"`
		RecordURI string `bun:"recordUri,pk"`
	}
	Backlink struct {
		bun.BaseModel `bun:"table:backlink,alias:l"`

		URI    string `bun:"uri,pk"`
		Path   string `bun:"path,pk"`
		LinkTo string `bun:"linkTo"`
	}
	Preference struct {
		bun.BaseModel `bun:"table:account_pref,alias:p"`

		ID        int64  `bun:"id,pk"`
		Name      string `bun:"name"`
		ValueJSON string `bun:"valueJson"`
	}
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// FormatTime writes a time as the tables have it, in UTC with milliseconds, so that the
// order of the texts is that of the times.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// ParseTime reads a date of the tables.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("date %q: %w", s, err)
	}
	if t = t.UTC(); t.IsZero() {
		return t, fmt.Errorf("date %q: out of range", s)
	}
	return t, nil
}
