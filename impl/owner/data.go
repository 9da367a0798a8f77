package owner

import (
	"fmt"
	"io"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	syncapi "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/handover"
	"portico/impl/page"
)

// blobsShown is how many blobs a page lists.
const blobsShown = 200

func (o *owner) data() {
	const path = "/account/data"
	o.show(path, func(v *page.Visit) error { return o.showData(v, http.StatusOK, "") })
	send := func(v *page.Visit, name string, get func() (*xrpc.Body, error)) error {
		body, err := get()
		if err != nil {
			return told(err, func(status int, message string) error { return o.showData(v, status, message) })
		}
		defer body.Close()
		handover.Sending(v.Context())
		if _, err := io.Copy(v.Download(name, "application/octet-stream"), body); err != nil {
			return fmt.Errorf("pass on %s: %w", name, err)
		}
		return nil
	}
	o.change(path+"/repo", func(v *page.Visit) error {
		return send(v, "repository.car", func() (*xrpc.Body, error) {
			return o.repo(v).GetRepo(v.Context(), &syncapi.GetRepoParams{DID: v.Account.DID})
		})
	})
	o.change(path+"/blob", func(v *page.Visit) error {
		cid := v.Form("cid")
		return send(v, page.Printable(cid, 100), func() (*xrpc.Body, error) {
			return o.repo(v).GetBlob(v.Context(), &syncapi.GetBlobParams{DID: v.Account.DID, CID: syntax.CID(cid)})
		})
	})
}

func (o *owner) showData(v *page.Visit, status int, alert string) error {
	from := v.Request.URL.Query().Get("after")
	data := struct {
		Alert string
		Blobs []syntax.CID
		Next  string // where the next page begins
	}{Alert: alert}
	list, err := o.repo(v).ListBlobs(v.Context(), &syncapi.ListBlobsParams{DID: v.Account.DID, Limit: blobsShown, Cursor: xrpc.NonZero(from)})
	if err != nil {
		if err := told(err, func(_ int, message string) error { data.Alert = message; return nil }); err != nil {
			return err
		}
	} else {
		data.Blobs, data.Next = list.CIDs, xrpc.ValueOf(list.Cursor)
		if len(list.CIDs) < blobsShown {
			data.Next = ""
		}
	}
	return v.Show(status, "data.html", data)
}
