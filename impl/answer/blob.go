package answer

import (
	"errors"
	"net/http"
	"time"

	"portico/api/xrpc"
	"portico/impl/blob"
)

// blobsAgain is how long a store of blobs that has too much to do, or is away, is best left alone.
const blobsAgain = 10 * time.Second

// Blobs answers a store of blobs that is full, away, does not answer in time, or has too much to
// do. Its part was not done then, and the same request may be made again.
func Blobs(err error) error {
	switch {
	case errors.Is(err, blob.ErrBusy), errors.Is(err, blob.ErrFull):
		return xrpc.NotEnoughResources(blobsAgain).Because(err)
	case errors.Is(err, blob.ErrTimeout):
		return &xrpc.Error{Status: http.StatusGatewayTimeout, Message: "Operation timed out, please try again.", Cause: err}
	case errors.Is(err, blob.ErrAway):
		away := xrpc.NotEnoughResources(blobsAgain).Because(err)
		away.Message, away.ByCaller = "The store of blobs does not answer, please try again later.", false
		return away
	}
	return err
}
