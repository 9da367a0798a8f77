-- Rows that were in indexes before this step, and those that still are.
INSERT INTO invite (code, uses, used, for_account, created_by, created_at)
VALUES ('earned', 1, 0, 'did:plc:six', 'did:plc:six', 1767323045000001), ('given', 1, 0, 'did:plc:six', 'admin', 1767323045000002),
  ('unused', 1, 0, 'admin', 'admin', 1767323045000003);
INSERT INTO audit (did, at, actor, address, event, detail)
VALUES (NULL, 1767323045000000, 'stranger', '192.0.2.1', 'admin_sign_in_failed', '3 times'),
  (NULL, 1767323045000000, 'admin', '192.0.2.1', 'admin_sign_in_failed', 'no'),
  (NULL, 1767323045000000, 'admin', NULL, 'invite_codes_created', '1, uses of each: 1');
