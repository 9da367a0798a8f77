package main

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
)

// blobCommand is "portico blob".
func blobCommand(o operators, envFile cli.Flag) *cli.Command {
	const one = "one account: its DID, handle or email address"
	return &cli.Command{
		Name:  "blob",
		Usage: "look after the blobs of a running server",
		Description: `ACCOUNT is a DID, a handle or an email address.

` + whereHelp + `

` + statusHelp,
		Flags: o.flags(envFile),
		Commands: []*cli.Command{
			{
				Name: "list", ArgsUsage: "ACCOUNT",
				Usage:  "list what an account has uploaded",
				Action: o.action(one, 1, 1, listBlobs),
			},
			{
				Name: "missing", ArgsUsage: "ACCOUNT",
				Usage: "list what an account's records mention and was not uploaded",
				Description: `Blobs of an account that moved here are brought by its owner's app. Ends with 1 when
some are missing.`,
				Action: o.action(one, 1, 1, missingBlobs),
			},
			{
				Name: "verify", ArgsUsage: "ACCOUNT",
				Usage: "read the bytes of all blobs of an account, and say what is wrong with them",
				Description: `Hashes every blob. What is lost comes back when its owner uploads the same bytes
again. Ends with 1 when something is wrong.`,
				Action: o.action(one, 1, 1, verifyBlobs),
			},
		},
	}
}

// shownBlobs is what is printed in JSON.
type shownBlobs struct {
	DID   syntax.DID                  `json:"did"`
	Blobs []operatorapi.ListBlobsBlob `json:"blobs"`
}

// blobs reads all pages of a list of blobs of the account that is named, for which p is
// the first request.
func (con *console) blobs(ctx context.Context, c *cli.Command, p operatorapi.ListBlobsParams) (*shownBlobs, error) {
	a, err := con.find(ctx, c.Args().First())
	if err != nil {
		return nil, err
	}
	client := con.patient()
	all := &shownBlobs{a.DID, []operatorapi.ListBlobsBlob{}}
	for p.DID = a.DID; ; {
		page, err := client.ListBlobs(ctx, &p)
		if err != nil {
			return nil, err
		}
		all.Blobs = append(all.Blobs, page.Blobs...)
		if p.Cursor = page.Cursor; p.Cursor == nil {
			return all, nil
		}
	}
}

func listBlobs(ctx context.Context, con *console, c *cli.Command) error {
	all, err := con.blobs(ctx, c, operatorapi.ListBlobsParams{Limit: 500})
	if err != nil {
		return err
	}
	if con.json {
		return con.printJSON(all)
	}
	rows := make([][]string, len(all.Blobs))
	for i, b := range all.Blobs {
		rows[i] = []string{b.CID.String(), b.State, number(b.Size), optional(b.MimeType)}
	}
	return con.table("There are no blobs.", "CID STATE BYTES TYPE", rows)
}

func missingBlobs(ctx context.Context, con *console, c *cli.Command) error {
	all, err := con.blobs(ctx, c, operatorapi.ListBlobsParams{Limit: 500, Missing: new(true)})
	if err != nil {
		return err
	}
	if con.json {
		return errors.Join(con.printJSON(all), stillWrong(len(all.Blobs)))
	}
	rows := make([][]string, len(all.Blobs))
	for i, b := range all.Blobs {
		rows[i] = []string{b.CID.String(), b.Record.String()}
	}
	return errors.Join(con.table("No blob is missing.", "CID RECORD", rows), stillWrong(len(all.Blobs)))
}

func verifyBlobs(ctx context.Context, con *console, c *cli.Command) error {
	// Few at a time: all bytes of a page are read for one answer.
	all, err := con.blobs(ctx, c, operatorapi.ListBlobsParams{Limit: 20, Verify: new(true)})
	if err != nil {
		return err
	}
	read, wrong := len(all.Blobs), []operatorapi.ListBlobsBlob{}
	for _, b := range all.Blobs {
		if b.Problem != nil {
			wrong = append(wrong, b)
		}
	}
	if con.json {
		all.Blobs = wrong
		return errors.Join(con.printJSON(all), stillWrong(len(wrong)))
	}
	for _, b := range wrong {
		if err := con.say("%s: %s", b.CID, *b.Problem); err != nil {
			return err
		}
	}
	if len(wrong) == 0 {
		err = con.say("%d blobs, all whole", read)
	} else {
		err = con.say("%d blobs, %d of them not whole", read, len(wrong))
	}
	return errors.Join(err, stillWrong(len(wrong)))
}
