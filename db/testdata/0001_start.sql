-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO account (did, handle, email, state, password_hash, created_at, email_confirmed_at, email_auth_factor,
  deactivated_at, delete_after, delete_announced_at, takedown_ref, invites_disabled, tokens_valid_from)
VALUES ('did:plc:one', 'one.test', 'one@mail.test', 'ready', 'hash', 1767323045000001, 1767323045000002, TRUE,
  1767323045000003, 1767323045000004, 1767323045000005, 'ref', TRUE, 1767323046000000);
INSERT INTO account (did, state, created_at) VALUES ('did:plc:two', 'creating', 1767323045000000);
INSERT INTO creation (did, genesis, invite_code, holder, lease_until)
VALUES ('did:plc:two', CAST('{}' AS BLOB), 'code', 'holder', 1767323045000000);
INSERT INTO cleanup (did, genesis, looks, aborted_at, next_at, holder)
VALUES ('did:plc:three', CAST('{}' AS BLOB), 1, 1767323045000000, 1767323045000000, NULL);
INSERT INTO signing_key (did, purpose, public, sealed) VALUES ('did:plc:one', 'atproto', 'did:key:one', CAST('sealed' AS BLOB));
INSERT INTO reserved_key (id, did, public, sealed, created_at, expires_at)
VALUES ('did:plc:four', 'did:plc:four', 'did:key:four', CAST('sealed' AS BLOB), 1767323045000000, 4102444800000000);
INSERT INTO repo (did, root, rev) VALUES ('did:plc:one', 'bafyreigtooqod7463hdho4mdhhkqvcojauloag3sy2ukepnkumqu4qzn2a', 'rev');
INSERT INTO repo_block (did, cid, data) VALUES
  ('did:plc:one', 'bafyreigtooqod7463hdho4mdhhkqvcojauloag3sy2ukepnkumqu4qzn2a', CAST('commit' AS BLOB)),
  ('did:plc:one', 'bafyreifkc2zv3m72u4ainvircscxinkhjfs4hd6avstlhj3rvpn4fyv4he', CAST('commit before' AS BLOB)),
  ('did:plc:one', 'bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm', CAST('tree' AS BLOB));
INSERT INTO event_counter (id, last, time) VALUES (1, 7, 1767323045000000);
INSERT INTO event (seq, did, kind, body, time) VALUES (7, 'did:plc:one', 'account', CAST('body' AS BLOB), 1767323045000000);
INSERT INTO session (id, did, app_password, created_at, expires_at, next_id)
VALUES (CAST('id' AS BLOB), 'did:plc:one', 'app', 1767323045000000, 4102444800000000, CAST('next' AS BLOB));
INSERT INTO app_password (did, name, mac, scrypt, privileged, created_at)
VALUES ('did:plc:one', 'app', CAST('mac' AS BLOB), 'salt:hash', TRUE, 1767323045000000);
INSERT INTO email_code (did, purpose, mac, email, created_at, expires_at)
VALUES ('did:plc:one', 'confirm_email', CAST('mac' AS BLOB), 'one@mail.test', 1767323045000000, 1767323945000000);
INSERT INTO mail (recipient, kind, did, sealed, created_at, expires_at, next_at, attempts, state, holder, last_error, sent_at)
VALUES ('one@mail.test', 'confirm_email', 'did:plc:one', NULL, 1767323045000000, 1767323945000000, 1767323045000000, 2, 'sent', NULL,
  '451 later', 1767323046000000);
INSERT INTO invite (code, uses, used, disabled, for_account, created_by, created_at)
VALUES ('code', 3, 2, TRUE, 'admin', 'admin', 1767323045000000);
INSERT INTO invite_use (code, used_by, used_at) VALUES ('code', 'did:plc:two', 1767323045000000);
INSERT INTO budget (kind, key, spent, reset_at) VALUES ('failed-passwords', 'key', 3, 1767326645000000);
INSERT INTO job (name, holder, lease_until) VALUES ('mail', 'holder', 1767323045000000);
INSERT INTO did_document (did, document, updated_at) VALUES ('did:plc:five', CAST('{}' AS BLOB), 1767323045000000);
INSERT INTO meta (name, value) VALUES ('canary', CAST('value' AS BLOB));
INSERT INTO plc_operation (did, cid, operation, nullified, created_at)
VALUES ('did:plc:one', 'cid', CAST('{}' AS BLOB), TRUE, 1767323045000000);
INSERT INTO audit (did, at, actor, address, event, detail)
VALUES ('did:plc:one', 1767323045000000, 'did:plc:one', '192.0.2.1', 'sign-in', 'detail');
