package importer

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo/store"
)

// A change is one row to write or to remove.
type change struct {
	putNode      *db.Node
	deleteNode   *db.Place
	putRecord    *db.Record
	mentions     []db.RecordBlob // of putRecord
	deleteRecord string
}

// changes are some that are written together.
type changes struct {
	putNodes      []db.Node
	deleteNodes   []db.Place
	putRecords    []db.Record
	mentions      []db.RecordBlob
	deleteRecords []string
	rows, bytes   int
}

func (c *changes) add(one change) {
	c.rows++
	switch {
	case one.putNode != nil:
		c.putNodes = append(c.putNodes, *one.putNode)
		c.bytes += len(one.putNode.Data)
	case one.deleteNode != nil:
		c.deleteNodes = append(c.deleteNodes, *one.deleteNode)
	case one.putRecord != nil:
		c.putRecords = append(c.putRecords, *one.putRecord)
		c.mentions = append(c.mentions, one.mentions...)
		c.rows += len(one.mentions)
		c.bytes += len(one.putRecord.Value)
	default:
		c.deleteRecords = append(c.deleteRecords, one.deleteRecord)
	}
}

// write writes all of them, in a transaction that has locked the repository, and returns
// the CIDs of blobs that lost the last record which named them.
func (c *changes) write(ctx context.Context, tx *db.Tx, did syntax.DID) ([][]byte, error) {
	for _, place := range c.deleteNodes {
		if err := tx.DeleteNode(ctx, did, place); err != nil {
			return nil, err
		}
	}
	if err := tx.PutNodes(ctx, did, c.putNodes...); err != nil {
		return nil, err
	}
	paths := c.deleteRecords[:len(c.deleteRecords):len(c.deleteRecords)]
	for i := range c.putRecords {
		paths = append(paths, c.putRecords[i].Path)
	}
	lost, err := tx.DeleteRecordBlobs(ctx, did, paths)
	if err != nil {
		return nil, err
	}
	if err := tx.DeleteRecords(ctx, did, c.deleteRecords...); err != nil {
		return nil, err
	}
	if err := tx.PutRecords(ctx, did, c.putRecords...); err != nil {
		return nil, err
	}
	if err := tx.PutRecordBlobs(ctx, did, c.mentions); err != nil {
		return nil, err
	}
	var added syntax.NSID
	for i := range c.putRecords { // in the order of their paths
		if name := store.Collection(c.putRecords[i].Path); name != added {
			if err := tx.AddCollection(ctx, did, name.String()); err != nil {
				return nil, err
			}
			added = name
		}
	}
	var dropped syntax.NSID
	for _, path := range c.deleteRecords {
		if name := store.Collection(path); name != dropped {
			if err := tx.DropCollection(ctx, did, name.String()); err != nil {
				return nil, err
			}
			dropped = name
		}
	}
	return lost, nil
}
