-- Rows of the table that this step made, as they were written in its day.
INSERT INTO unfinished_import (did, id) VALUES ('did:plc:one', 'an import');
