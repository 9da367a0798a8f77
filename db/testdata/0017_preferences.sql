-- Rows of the table that this step made, as they were written in its day.
INSERT INTO preferences (did, list) VALUES ('did:plc:one', CAST('[{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true}]' AS BLOB));
