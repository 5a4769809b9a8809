-- A ledger of schema 1, as the program of that time wrote it (sqlite3's .dump).
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE evidence (
  id INTEGER PRIMARY KEY REFERENCES outcomes (id),
  blob BLOB NOT NULL
) STRICT;
INSERT INTO "evidence" VALUES(1,X'65766964656E6365206F66206974656D2031');
INSERT INTO "evidence" VALUES(2,X'65766964656E6365206F66206974656D2032');
INSERT INTO "evidence" VALUES(3,X'756E7265616461626C65');
CREATE TABLE outcomes (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL, epoch TEXT NOT NULL, sequence INTEGER NOT NULL, item INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('reviewed', 'quarantined', 'expired', 'shed')),
  reason TEXT NOT NULL,
  task TEXT NOT NULL, profile TEXT NOT NULL,
  evidence_sha256 TEXT NOT NULL,
  slots TEXT, uncertain INTEGER, lanes TEXT, reviewer TEXT, prompt_sha256 TEXT,
  header TEXT,
  timings TEXT NOT NULL,
  digest TEXT NOT NULL,
  UNIQUE (device, epoch, sequence, item)
) STRICT;
INSERT INTO "outcomes" VALUES(1,'cart-1','0123456789abcdef',1,1,'reviewed','','yard','efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef','f5821e733993581a54a489fb7eb52914e1222bf9a117f701cf70d2c93f2133a7','{"object": {"option": "drum", "probabilities": {"cone": 0.25, "drum": 0.75}}}',1,'["maps", "tokens"]','fixed:yard','abababababababababababababababababababababababababababababababab','{"models": {"fusion": "f1"}, "value": 0.25}','{"received_ns": 5, "answered_ns": 10, "queue_ns": 1, "review_ns": 2, "batch_items": 3, "batch_tokens": 4}','61295036987a1681efe334c425bed4f47b33ff361d6783e3eb6a5fc4ed70ebd5');
INSERT INTO "outcomes" VALUES(2,'cart-1','0123456789abcdef',2,1,'reviewed','','yard','efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef','4a18cf38b1a0d20fa0029be9e2779b19267a496acc30ce53677f4d1f497d167e','{"object": {"option": "cone", "probabilities": {"cone": 0.25, "drum": 0.75}}}',0,'["maps", "tokens"]','fixed:yard','abababababababababababababababababababababababababababababababab','{"models": {"fusion": "f1"}, "value": 0.75}','{"received_ns": 15, "answered_ns": 20, "queue_ns": 1, "review_ns": 2, "batch_items": 3, "batch_tokens": 4}','0644462b3161b45b4052c3bc3221e54b94e8a3cc33aa7bf8223b6d586e2a954a');
INSERT INTO "outcomes" VALUES(3,'cart-1','0123456789abcdef',3,1,'quarantined','bad crc','','','da3c01050b1f352b33853bf17e408ba64e0b14423d4f7137a20906ed2e58e679',NULL,NULL,NULL,NULL,NULL,NULL,'{"received_ns": 20, "answered_ns": 30, "queue_ns": 0, "review_ns": 0, "batch_items": 0, "batch_tokens": 0}','877429dc2c24964070db4391cd52e60f7a2dd0ffc97a6ce6ba1eac529b515fb1');
CREATE TABLE reports (
  device TEXT NOT NULL, epoch TEXT NOT NULL, received_ns INTEGER NOT NULL,
  samples INTEGER NOT NULL, gaps INTEGER NOT NULL, items TEXT NOT NULL,
  PRIMARY KEY (device, epoch)
) STRICT;
INSERT INTO "reports" VALUES('cart-1','0123456789abcdef',7,5,1,'{"passed": 2}');
CREATE VIEW verdicts AS
  SELECT device || '/' || epoch || '/' || sequence || '#' || item AS item_id, * FROM outcomes WHERE state = 'reviewed';
COMMIT;
