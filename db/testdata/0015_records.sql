-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO record (did, path, cid, rev, indexed_at, takedown_ref, link_to, value)
VALUES ('did:plc:one', 'app.bsky.feed.like/self', CAST('cid' AS BLOB), 'rev', 1767323045000000, 'ref', 'at://did:plc:two/app.bsky.feed.post/1', CAST('value' AS BLOB));
INSERT INTO collection (did, collection) VALUES ('did:plc:one', 'app.bsky.feed.like');
INSERT INTO blob (did, cid, mime, size, temp_key, created_at, takedown_ref)
VALUES ('did:plc:one', CAST('cid' AS BLOB), 'image/png', 3, 'key', 1767323045000000, 'ref');
INSERT INTO blob_claim (did, cid, until) VALUES ('did:plc:one', CAST('other' AS BLOB), 1767323045000000);
INSERT INTO record_blob (did, path, cid) VALUES ('did:plc:one', 'app.bsky.feed.like/self', CAST('cid' AS BLOB));
