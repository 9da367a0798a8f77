// Talk asks a server by what ogen and oapi-codegen generate of the project's document, and
// prints what it was answered.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/go-faster/jx"

	oapi "portico/gen/openapi/testdata/peers/project/oapi"
	ogen "portico/gen/openapi/testdata/peers/project/ogen"
)

const (
	handle   = "alice.test"
	password = "correct horse battery staple"
	posts    = "app.bsky.feed.post"
)

// client sends a token, once it has one.
type client struct{ token string }

func (c *client) Do(r *http.Request) (*http.Response, error) {
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	return http.DefaultClient.Do(r)
}

func main() {
	if err := talk(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func talk(ctx context.Context, url string) error {
	as := new(client)
	c, err := ogen.NewClient(url, ogen.WithClient(as))
	if err != nil {
		return err
	}
	account, err := c.ComAtprotoServerCreateAccount(ctx, &ogen.ComAtprotoServerCreateAccountReq{
		Handle: handle, Email: ogen.NewOptString("alice@example.com"), Password: ogen.NewOptString(password),
	})
	if err != nil {
		return err
	}
	made, ok := account.(*ogen.ComAtprotoServerCreateAccountOK)
	if !ok {
		return fmt.Errorf("createAccount: %+v", account)
	}
	fmt.Println("createAccount", made.Handle)
	session, err := c.ComAtprotoServerCreateSession(ctx, &ogen.ComAtprotoServerCreateSessionReq{Identifier: handle, Password: "wrong"})
	if err != nil {
		return err
	}
	if refused, ok := session.(*ogen.ComAtprotoServerCreateSessionDefStatusCode); ok {
		fmt.Println("createSession", refused.StatusCode, refused.Response.Error)
	}
	write := ogen.NewComAtprotoRepoApplyWritesCreateTypedComAtprotoRepoApplyWritesReqWritesItem(ogen.ComAtprotoRepoApplyWritesCreateTyped{
		Collection: posts, Rkey: ogen.NewOptString("3lz2vkx4m5c2a"), Value: ogen.ComAtprotoRepoApplyWritesCreateTypedValue{
			"$type": jx.Raw(`"` + posts + `"`), "text": jx.Raw(`"Hello"`), "createdAt": jx.Raw(`"2026-11-30T12:00:00.000Z"`),
		},
	})
	writes := &ogen.ComAtprotoRepoApplyWritesReq{Repo: handle, Writes: []ogen.ComAtprotoRepoApplyWritesReqWritesItem{write}}
	for range 2 {
		applied, err := c.ComAtprotoRepoApplyWrites(ctx, writes)
		if err != nil {
			return err
		}
		switch applied := applied.(type) {
		case *ogen.ComAtprotoRepoApplyWritesOK:
			result, _ := applied.Results[0].GetComAtprotoRepoApplyWritesCreateResultTyped()
			fmt.Println("applyWrites", applied.Results[0].Type, strings.TrimPrefix(result.URI, "at://"+made.Did))
		case *ogen.ComAtprotoRepoApplyWritesDefStatusCode:
			fmt.Println("applyWrites", applied.StatusCode, applied.Response.Error)
		}
		as.token = made.AccessJwt
	}
	blob, err := c.ComAtprotoRepoUploadBlob(ctx, &ogen.ComAtprotoRepoUploadBlobReqWithContentType{
		ContentType: "text/plain", Content: ogen.ComAtprotoRepoUploadBlobReq{Data: strings.NewReader("Hello")},
	})
	if err != nil {
		return err
	}
	if blob, ok := blob.(*ogen.ComAtprotoRepoUploadBlobOK); ok {
		fmt.Println("uploadBlob", blob.Blob.Type, blob.Blob.MimeType, blob.Blob.Size, blob.Blob.Ref.Link)
	}
	archive, err := c.ComAtprotoSyncGetRepo(ctx, ogen.ComAtprotoSyncGetRepoParams{Did: made.Did})
	if err != nil {
		return err
	}
	if archive, ok := archive.(*ogen.ComAtprotoSyncGetRepoOK); ok {
		n, err := io.Copy(io.Discard, archive)
		fmt.Println("getRepo", n > 300, err)
	}
	list, err := c.ComAtprotoRepoListRecords(ctx, ogen.ComAtprotoRepoListRecordsParams{Repo: handle, Collection: posts})
	if err != nil {
		return err
	}
	if list, ok := list.(*ogen.ComAtprotoRepoListRecordsOK); ok {
		fmt.Println("listRecords", len(list.Records), list.Records[0].Value["text"])
	}
	return other(ctx, url, as)
}

// other asks by oapi-codegen's client.
func other(ctx context.Context, url string, as *client) error {
	c, err := oapi.NewClientWithResponses(url, oapi.WithHTTPClient(as))
	if err != nil {
		return err
	}
	list, err := c.ComAtprotoRepoListRecordsWithResponse(ctx, &oapi.ComAtprotoRepoListRecordsParams{Repo: handle, Collection: posts})
	if err != nil {
		return err
	}
	if list.JSON200 != nil {
		fmt.Println("listRecords", len(list.JSON200.Records), list.JSON200.Records[0].Value["text"])
	}
	var remove oapi.ComAtprotoRepoApplyWritesJSONBody_Writes_Item
	if err := remove.FromComAtprotoRepoApplyWritesDeleteTyped(oapi.ComAtprotoRepoApplyWritesDeleteTyped{Collection: posts, Rkey: "3lz2vkx4m5c2a"}); err != nil {
		return err
	}
	applied, err := c.ComAtprotoRepoApplyWritesWithResponse(ctx, oapi.ComAtprotoRepoApplyWritesJSONRequestBody{
		Repo: handle, Writes: []oapi.ComAtprotoRepoApplyWritesJSONBody_Writes_Item{remove},
	})
	if err != nil {
		return err
	}
	if applied.JSON200 != nil && applied.JSON200.Results != nil {
		of, err := (*applied.JSON200.Results)[0].Discriminator()
		fmt.Println("applyWrites", of, err)
	}
	session, err := c.ComAtprotoServerCreateSessionWithResponse(ctx, oapi.ComAtprotoServerCreateSessionJSONRequestBody{Identifier: handle, Password: "wrong"})
	if err != nil {
		return err
	}
	if session.JSONDefault != nil {
		fmt.Println("createSession", session.StatusCode(), session.JSONDefault.Error)
	}
	return nil
}
