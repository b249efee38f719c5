-- The outcome of every record: the topic, the ledger, the table, the dead letters and the delivery log, compared.
--
-- Read it from top to bottom. Each statement creates one table or view, from those above it. `reconciliation.py` runs
-- the sections one after another, and between two of them it loads evidence that is only queried when it is needed.
-- DuckDB and Spark SQL both run it: use what both support, with the same meaning.
--
-- A record's position in Kafka is (partition_id, position), where `position` is the offset. `order_us` is its place in
-- the order of all records: its write timestamp minus the timestamp base of the topic incarnation. It is an input
-- column. `line` is the number of the ledger line that covers a record; -1: none.

-- Section: inputs

-- The offset ranges to verify, and how far the ledger reaches in their partitions.
CREATE TABLE ranges (partition_id INT, first_position BIGINT, end_position BIGINT, reached BIGINT);

-- The records that Kafka holds in the ranges. `id` is null if the record cannot be decoded. `key_text` has the bytes of
-- the key as characters; it is null if there is no key, or if the key is the id as text (`has_id_key`). A record that
-- is not counted belongs to another run, but may still be the tombstone of a counted record. `layout` is -1 where the
-- pipeline declares an order (`order_by`): then versions can tie, and `tie_digest` tells whether tied versions are the
-- same bytes. `is_kept`: a redriven record, which keeps the place in the order of an earlier position. `digest` is the
-- hash of the value in a pipeline with one version per id, else 0. `expired_from_ms`: from when the record's row may be
-- gone, because it expires by a field of the record; 2^62 if it does not.
CREATE TABLE records (
  partition_id INT, position BIGINT, timestamp_ms BIGINT, id STRING, key_text STRING, has_id_key BOOLEAN,
  is_deletion BOOLEAN, is_counted BOOLEAN, run INT, order_us BIGINT, layout INT, is_proven BOOLEAN, is_kept BOOLEAN,
  tie_digest BIGINT, digest BIGINT, line BIGINT, expired_from_ms BIGINT
);

-- The lines of the ledger, including those of replays, numbered in ledger order.
CREATE TABLE lines (
  line BIGINT, partition_id INT, first_position BIGINT, end_position BIGINT, job STRING, is_replay BOOLEAN,
  records BIGINT, deleted BIGINT, rejected BIGINT, filtered BIGINT, stored_at_ms BIGINT
);

-- The messages of the dead-letter topic, in the order in which they were read, including duplicates. If the record
-- never reached the topic, partition_id is -1. `queue` is the partition of the message. `is_shrunk`: the message was
-- sent late, because the topic did not accept it whole. `is_meant`: it belongs to this topic incarnation, and to the
-- time or run that is verified.
CREATE TABLE letter_copies (
  number BIGINT, identity STRING, queue INT, sent_ms BIGINT, is_shrunk BOOLEAN, partition_id INT, position BIGINT,
  line BIGINT, is_meant BOOLEAN
);

-- The rows of the table by writer: `topic` (the current incarnation), `older` (an earlier one), `hand` (another
-- writer's clock) or `unknown`. Position and order are those of the row's record, and null unless the topic wrote the
-- row. `is_mixed`: the topic wrote the row, and some of its columns were changed by hand. `changed_at`: when, if that
-- is known.
CREATE TABLE table_rows (
  id STRING, writer STRING, partition_id INT, position BIGINT, order_us BIGINT, is_mixed BOOLEAN, changed_at STRING
);

-- The acknowledgements by Kafka in the delivery log, in the order of the attempts. `key_text` is as in `records`.
CREATE TABLE deliveries (number BIGINT, partition_id INT, position BIGINT, record_key STRING, key_text STRING);

-- Differences that an operator has accepted. Where `why` is null, any difference at this position is accepted.
CREATE TABLE accepted (kind STRING, partition_id INT, position BIGINT, id STRING, why STRING);

-- The tombstones after the ranges. Loaded if a record is absent.
CREATE TABLE later_deletions (id STRING, order_us BIGINT);

-- The ranges of write times whose rows have expired by now, by the known TTLs of the table. Loaded if a record is
-- absent.
CREATE TABLE expiries (from_ms BIGINT, before_ms BIGINT);

-- The current time. Loaded if a record is absent.
CREATE TABLE clock (now_ms BIGINT);

-- Absent records whose dead letters may lie below the log start of the dead-letter topic. Loaded if a record is absent.
CREATE TABLE pruned (partition_id INT, position BIGINT, line BIGINT);

-- A row if the topic is compacted: tombstones of lines stored until then may be gone. Loaded if offsets have no record.
CREATE TABLE compaction (stored_until_ms BIGINT);

-- The last position of each id, by its key, among records that were rejected or cannot be decoded. Likewise.
CREATE TABLE unread (id STRING, partition_id INT, position BIGINT);

-- How many dead letters of a line, for records that cannot be identified, may lie below the log start. Likewise.
CREATE TABLE pruned_letters (line BIGINT, letters BIGINT);

-- The ids of acknowledged records that are gone, and those of the ids whose rows `table_rows` lacks. Likewise.
CREATE TABLE gone_ids (partition_id INT, position BIGINT, id STRING);
CREATE TABLE gone_rows (id STRING);

-- Section: outcomes

-- The first copy of each dead letter.
CREATE TABLE dead_letters AS
SELECT c.identity, c.queue, c.sent_ms, c.is_shrunk, c.partition_id, c.position, c.line
FROM letter_copies c
JOIN (SELECT identity, MIN(number) AS number FROM letter_copies GROUP BY identity) f ON c.number = f.number
WHERE c.is_meant;

-- The records with what the ledger and the dead-letter topic say about them: rejected, waiting (the ledger has not
-- reached them), or read.
CREATE VIEW seen AS
SELECT r.*, d.identity, CASE
    WHEN d.identity IS NOT NULL THEN 'rejected'
    WHEN r.line < 0 AND r.position >= s.reached THEN 'waiting'
    ELSE 'read'
  END AS state
FROM records r
JOIN ranges s ON r.partition_id = s.partition_id
LEFT JOIN dead_letters d ON r.partition_id = d.partition_id AND r.position = d.position;

-- The records that are versions of an id.
CREATE VIEW versions AS
SELECT * FROM seen WHERE is_counted AND id IS NOT NULL AND state = 'read';

-- The rows that the current topic incarnation wrote.
CREATE VIEW topic_rows AS
SELECT * FROM table_rows WHERE writer = 'topic';

-- Dead-lettered records that have a row after all: the contract was relaxed, and a replay stored them.
CREATE TABLE restored AS
SELECT s.id, s.partition_id, s.position, s.order_us
FROM seen s
JOIN topic_rows w ON s.id = w.id AND s.partition_id = w.partition_id AND s.position = w.position
WHERE s.is_counted AND s.state = 'rejected';

-- Every id with what topic and table say about it: its newest version, its newest tombstone, its row.
CREATE TABLE ids AS
SELECT
  id,
  MAX(version_us) AS newest_us,
  MAX(CASE WHEN is_deletion THEN version_us END) AS newest_deletion_us,
  MIN(version_partition) AS first_partition,
  MAX(version_partition) AS last_partition,
  MIN(version_layout) AS first_layout,
  MAX(version_layout) AS last_layout,
  MAX(kept) AS kept,
  MIN(version_digest) AS least_digest,
  MAX(version_digest) AS greatest_digest,
  MAX(deletion_us) AS deletion_us,
  MAX(waiting) AS waiting,
  MAX(row_partition) AS row_partition,
  MAX(row_position) AS row_position,
  MAX(row_us) AS row_us
FROM (
  SELECT
    id, is_deletion,
    CASE WHEN is_counted AND state = 'read' THEN order_us END AS version_us,
    CASE WHEN is_counted AND state = 'read' THEN partition_id END AS version_partition,
    CASE WHEN is_counted AND state = 'read' THEN layout END AS version_layout,
    CASE WHEN is_counted AND state = 'read' AND digest <> 0 THEN digest END AS version_digest,
    CASE WHEN is_counted AND state = 'read' AND is_kept THEN 1 ELSE 0 END AS kept,
    CASE WHEN is_deletion THEN order_us END AS deletion_us,
    CASE WHEN is_counted AND state = 'waiting' THEN 1 ELSE 0 END AS waiting,
    CAST(NULL AS INT) AS row_partition, CAST(NULL AS BIGINT) AS row_position, CAST(NULL AS BIGINT) AS row_us
  FROM seen WHERE id IS NOT NULL
  UNION ALL
  SELECT
    id, FALSE, CAST(NULL AS BIGINT), CAST(NULL AS INT), CAST(NULL AS INT), CAST(NULL AS BIGINT), 0,
    CAST(NULL AS BIGINT), 0, partition_id, position, order_us
  FROM topic_rows
) facts
GROUP BY id;

-- The outcome of each record, by its id's row. An `absent` record is looked for in the next section. A record is
-- misplaced if it was redriven, and its row was written as if the record were new.
CREATE TABLE outcomes AS
SELECT s.partition_id, s.position, s.line, s.timestamp_ms, CASE
    WHEN s.state <> 'read' THEN s.state
    WHEN i.row_us IS NULL AND s.is_deletion THEN 'deleted'
    WHEN i.row_us IS NULL THEN 'absent'
    WHEN s.is_kept AND s.layout >= 0 AND i.row_partition = s.partition_id AND i.row_position = s.position AND i.row_us <> s.order_us
      THEN 'misplaced'
    WHEN s.is_deletion AND (i.row_us > s.order_us OR (s.layout < 0 AND i.row_us = s.order_us)) THEN 'deleted'
    WHEN s.is_deletion OR i.row_us < s.order_us THEN 'absent'
    ELSE 'stored'
  END AS outcome
FROM seen s
LEFT JOIN ids i ON s.id = i.id
WHERE s.is_counted;

-- Tombstones that deleted nothing: the version before is a tombstone too, or there is none.
CREATE TABLE deleted_nothing AS
SELECT partition_id, position
FROM (
  SELECT v.partition_id, v.position, v.order_us, v.layout, v.is_deletion, i.row_us,
    LAG(v.is_deletion) OVER (PARTITION BY v.id ORDER BY v.order_us, v.partition_id, v.position) AS was_deleted
  FROM (
    SELECT id, partition_id, position, order_us, layout, is_deletion FROM versions
    UNION ALL
    SELECT id, partition_id, position, order_us, 0, FALSE FROM restored
  ) v
  JOIN ids i ON v.id = i.id
  WHERE i.deletion_us IS NOT NULL
) steps
WHERE is_deletion AND (row_us IS NULL OR row_us > order_us OR (layout < 0 AND row_us = order_us))
  AND COALESCE(was_deleted, TRUE);

-- The records that are not found in any store, with what can explain that.
CREATE TABLE absent AS
SELECT
  r.partition_id, r.position, r.line, r.id, r.key_text, r.has_id_key, r.is_deletion, r.order_us,
  CASE WHEN r.layout < 0 THEN r.order_us - 1 ELSE r.order_us END AS replaced_after_us,
  o.outcome = 'misplaced' AS is_misplaced,
  i.row_us IS NOT NULL AS has_row,
  i.deletion_us, i.newest_us, r.expired_from_ms,
  COALESCE(i.newest_us = r.order_us, FALSE) AS is_newest
FROM outcomes o
JOIN records r ON o.partition_id = r.partition_id AND o.position = r.position
LEFT JOIN ids i ON r.id = i.id
WHERE o.outcome IN ('absent', 'misplaced');

-- The newest versions of ids with an absent record: their lines, and from when their rows may be gone.
CREATE TABLE newest_versions AS
SELECT v.id, MAX(v.line) AS line, MAX(v.expired_from_ms) AS expired_from_ms
FROM versions v
JOIN (SELECT DISTINCT id, newest_us FROM absent) a ON v.id = a.id AND v.order_us = a.newest_us
GROUP BY v.id;

-- Section: lines

-- The stream's lines, with how far the lines before each of them reach: those of all jobs, and those of its own job.
CREATE VIEW stream_lines AS
SELECT
  l.*,
  MAX(l.end_position) OVER (
    PARTITION BY l.partition_id ORDER BY l.first_position, l.line ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ) AS reached_before,
  MAX(l.end_position) OVER (
    PARTITION BY l.partition_id, l.job ORDER BY l.first_position, l.line
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ) AS job_reached_before,
  LEAD(l.first_position) OVER (PARTITION BY l.partition_id ORDER BY l.first_position, l.line) AS next_first
FROM lines l
WHERE NOT l.is_replay;

-- Offsets that one job recorded twice (doubled), and offsets that lines of any job record again (repeated).
CREATE TABLE covered_twice AS
SELECT
  partition_id,
  SUM(GREATEST(0, LEAST(COALESCE(job_reached_before, 0), end_position) - first_position)) AS doubled,
  SUM(GREATEST(0, LEAST(COALESCE(reached_before, 0), end_position) - first_position)) AS repeated
FROM stream_lines
GROUP BY partition_id;

-- What Kafka and the dead-letter topic hold of what each line counts. `unread`: records without an id that are not
-- found in any store; only a dead letter that is gone can explain them.
CREATE TABLE line_contents AS
SELECT
  l.line, l.rejected, l.records,
  COALESCE(h.held, 0) AS held, COALESCE(h.unread, 0) AS unread, COALESCE(d.letters, 0) AS letters
FROM lines l
LEFT JOIN (
  SELECT line, COUNT(*) AS held, SUM(CASE WHEN id IS NULL AND identity IS NULL THEN 1 ELSE 0 END) AS unread
  FROM seen WHERE line >= 0 GROUP BY line
) h ON l.line = h.line
LEFT JOIN (SELECT line, COUNT(*) AS letters FROM dead_letters WHERE line >= 0 GROUP BY line) d ON l.line = d.line;

-- Section: explained

-- Absent records that a later tombstone deleted (stored), or that the transform may have dropped (filtered): no more
-- than their line counts, and neither tombstones nor records that the transform does not see. Those come first whose
-- rows expire last: the others have another excuse.
CREATE TABLE explained AS
SELECT m.*, CASE
    WHEN m.is_deleted_since THEN 'stored'
    WHEN m.is_droppable AND m.number <= l.filtered THEN 'filtered'
  END AS outcome
FROM (
  SELECT n.*, ROW_NUMBER() OVER (
    PARTITION BY n.line, n.is_droppable ORDER BY n.row_expired_from_ms DESC, n.position
  ) AS number
  FROM (
    SELECT d.*,
      d.id IS NOT NULL AND d.line >= 0 AND NOT d.is_deletion AND NOT d.is_misplaced AND NOT d.is_deleted_since
        AS is_droppable
    FROM (
      SELECT
        a.*, LEAST(a.expired_from_ms, COALESCE(v.expired_from_ms, a.expired_from_ms)) AS row_expired_from_ms,
        COALESCE(
          NOT a.is_deletion AND NOT a.has_row
          AND (a.deletion_us > a.replaced_after_us OR t.deletion_us > a.replaced_after_us), FALSE
        ) AS is_deleted_since
      FROM absent a
      LEFT JOIN (SELECT id, MAX(order_us) AS deletion_us FROM later_deletions GROUP BY id) t ON a.id = t.id
      LEFT JOIN newest_versions v ON a.id = v.id
    ) d
  ) n
) m
LEFT JOIN lines l ON m.line = l.line;

-- Absent records on lines that lack dead letters, in Kafka's order: their dead letters may have been pruned.
CREATE VIEW pruning_candidates AS
SELECT
  e.partition_id, e.position, e.line, e.id, e.key_text, e.has_id_key, c.rejected, c.letters, c.unread, c.records, c.held
FROM explained e
JOIN line_contents c ON e.line = c.line
WHERE e.outcome IS NULL AND NOT e.is_deletion AND NOT e.is_misplaced AND c.rejected > c.letters
ORDER BY e.partition_id, e.position;

-- Dead letters are appended in the order of the batches. So a line's dead letter was not pruned from a partition of the
-- dead-letter topic that still has a dead letter of an earlier position, sent before the line was written.
CREATE VIEW surviving AS
SELECT DISTINCT line, queue
FROM (
  SELECT line, queue, stored_at_ms, MIN(sent_ms) OVER (
      PARTITION BY queue, partition_id ORDER BY position, is_letter ROWS UNBOUNDED PRECEDING
    ) AS earliest_ms
  FROM (
    SELECT -1 AS line, queue, partition_id, position, 1 AS is_letter, sent_ms, CAST(NULL AS BIGINT) AS stored_at_ms
    FROM dead_letters WHERE NOT is_shrunk
    UNION ALL
    SELECT l.line, q.queue, l.partition_id, l.first_position, 0, CAST(NULL AS BIGINT), l.stored_at_ms
    FROM lines l
    JOIN line_contents c ON l.line = c.line AND c.rejected > c.letters
    JOIN (SELECT DISTINCT queue FROM dead_letters) q ON TRUE
  ) places
) earliest
WHERE line >= 0 AND earliest_ms <= stored_at_ms;

-- Section: settled

-- The lines whose rows have expired.
CREATE VIEW expired_lines AS
SELECT DISTINCT l.line
FROM lines l
JOIN expiries e ON l.stored_at_ms >= e.from_ms AND l.stored_at_ms < e.before_ms;

-- The outcome of each absent record. Expired: its row is gone, and so is the row of its id's newest version, if either
-- was written long enough ago, or says itself that it has expired. A record that nothing explains is missing.
CREATE TABLE settled AS
SELECT
  e.partition_id, e.position, e.line, e.id, e.is_newest, e.has_row,
  CASE
    WHEN e.outcome IS NOT NULL THEN e.outcome
    WHEN p.position IS NOT NULL THEN 'pruned'
    WHEN e.line >= 0 AND e.id IS NOT NULL AND NOT e.has_row AND NOT e.is_deletion AND NOT e.is_misplaced
      AND (x.line IS NOT NULL OR y.line IS NOT NULL OR e.row_expired_from_ms <= c.now_ms) THEN 'expired'
    ELSE 'missing'
  END AS outcome,
  CASE
    WHEN e.is_deletion AND e.line >= 0 THEN 'the row that it deletes is there'
    WHEN e.is_misplaced
      THEN 'it was redriven, and its row does not have the write time of its place: see dlq redrive'
    WHEN e.line < 0 THEN 'the ledger went past it'
    ELSE 'the ledger counts it, and it is nowhere'
  END AS why
FROM explained e
LEFT JOIN pruned p ON e.partition_id = p.partition_id AND e.position = p.position
LEFT JOIN expired_lines x ON e.line = x.line
LEFT JOIN newest_versions n ON e.id = n.id
LEFT JOIN expired_lines y ON n.line = y.line
LEFT JOIN clock c ON TRUE;

-- The number of records with each outcome, by partition.
CREATE TABLE balances AS
SELECT partition_id, outcome, COUNT(*) AS records
FROM (
  SELECT partition_id, outcome FROM outcomes WHERE outcome NOT IN ('absent', 'misplaced')
  UNION ALL
  SELECT partition_id, outcome FROM settled
  UNION ALL
  SELECT partition_id, 'deleted_nothing' FROM deleted_nothing
) every
GROUP BY partition_id, outcome;

-- The ids that should have a row: those whose newest version is not a tombstone. If the newest version was excused, or
-- any version may have been dropped, the id should have a row exactly if it has one.
CREATE VIEW known_ids AS
SELECT
  i.id, i.row_us IS NOT NULL AS has_row, CASE
    WHEN r.id IS NOT NULL THEN TRUE
    WHEN x.id IS NOT NULL THEN i.row_us IS NOT NULL
    ELSE i.newest_deletion_us IS NULL OR i.newest_deletion_us < i.newest_us
  END AS expects_row
FROM ids i
LEFT JOIN (SELECT DISTINCT id FROM restored) r ON i.id = r.id
LEFT JOIN (
  SELECT DISTINCT id FROM settled WHERE outcome = 'filtered' OR (is_newest AND outcome IN ('expired', 'pruned'))
) x ON i.id = x.id
WHERE i.newest_us IS NOT NULL OR r.id IS NOT NULL;

-- Section: compaction

-- The ranges of a compacted topic that lack records.
CREATE VIEW compacted_ranges AS
SELECT s.partition_id, s.first_position, s.end_position, c.stored_until_ms
FROM ranges s
JOIN compaction c ON TRUE
LEFT JOIN (SELECT partition_id, COUNT(*) AS held FROM records GROUP BY partition_id) r
  ON s.partition_id = r.partition_id
WHERE COALESCE(r.held, 0) < s.end_position - s.first_position;

-- The last version of each id in each partition.
CREATE VIEW last_versions AS
SELECT id, partition_id, MAX(position) AS position FROM versions GROUP BY id, partition_id;

-- Keys of records that were rejected or cannot be decoded, in partitions that were compacted. They identify ids too.
CREATE VIEW unread_keys AS
SELECT s.partition_id, s.key_text, s.has_id_key, CASE WHEN s.has_id_key THEN s.id END AS id, MAX(s.position) AS position
FROM seen s
JOIN compacted_ranges c ON s.partition_id = c.partition_id
WHERE (s.id IS NULL OR s.identity IS NOT NULL) AND (s.has_id_key OR s.key_text IS NOT NULL)
GROUP BY s.partition_id, s.key_text, s.has_id_key, CASE WHEN s.has_id_key THEN s.id END;

-- The stream's lines that lie entirely within a range, with how many of their records compaction removed. Lines that
-- share offsets with other lines are not compared: a record on two lines is assigned to either of them by chance.
CREATE TABLE whole_lines AS
SELECT
  l.line, l.partition_id, l.first_position, l.end_position, l.deleted, l.stored_at_ms, l.records, l.rejected,
  COALESCE(l.reached_before, 0) <= l.first_position AND COALESCE(l.next_first, l.end_position) >= l.end_position
    AS is_alone,
  c.held, c.letters, COALESCE(p.letters, 0) AS pruned,
  CASE WHEN k.partition_id IS NULL THEN 0 ELSE GREATEST(0, l.records - c.held) END AS compacted
FROM stream_lines l
JOIN ranges s ON l.partition_id = s.partition_id
JOIN line_contents c ON l.line = c.line
LEFT JOIN (SELECT line, COUNT(*) AS letters FROM pruned GROUP BY line) p ON l.line = p.line
LEFT JOIN compacted_ranges k ON l.partition_id = k.partition_id
WHERE l.first_position >= s.first_position AND l.end_position <= s.end_position;

-- Lines that still lack dead letters, in the order in which they may be excused.
CREATE VIEW short_lines AS
SELECT line, rejected - letters - pruned AS letters
FROM whole_lines
WHERE is_alone AND rejected > letters + pruned
ORDER BY partition_id, line;

-- Tombstones and the bounds of lines, in Kafka's order, with the number of tombstones before each bound.
CREATE VIEW tombstones_before AS
SELECT partition_id, position, is_bound,
  SUM(tombstones) OVER (PARTITION BY partition_id ORDER BY position, tombstones ROWS UNBOUNDED PRECEDING) AS tombstones
FROM (
  SELECT r.partition_id, r.position, 1 AS tombstones, FALSE AS is_bound
  FROM records r JOIN compacted_ranges s ON r.partition_id = s.partition_id
  WHERE r.is_deletion
  UNION ALL
  SELECT DISTINCT b.partition_id, b.position, 0, TRUE
  FROM (
    SELECT partition_id, first_position AS position FROM whole_lines
    UNION ALL
    SELECT partition_id, end_position FROM whole_lines
  ) b
) places;

-- How many tombstones the ledger counted that the topic no longer has, and was not required to keep.
CREATE TABLE gone_tombstones AS
SELECT w.partition_id, SUM(GREATEST(0, w.deleted - (e.tombstones - f.tombstones))) AS tombstones
FROM whole_lines w
JOIN compacted_ranges s ON w.partition_id = s.partition_id AND w.stored_at_ms <= s.stored_until_ms
JOIN tombstones_before f ON w.partition_id = f.partition_id AND w.first_position = f.position AND f.is_bound
JOIN tombstones_before e ON w.partition_id = e.partition_id AND w.end_position = e.position AND e.is_bound
GROUP BY w.partition_id;

-- Section: differences

-- Rows whose records are gone from a compacted range. `is_lost`: no newer record of the id follows, so compaction must
-- have kept the record.
CREATE TABLE compacted_rows AS
SELECT i.id, i.row_partition AS partition_id, i.row_position AS position,
  i.waiting = 0 AND COALESCE(u.position, -1) < i.row_position AS is_lost
FROM ids i
JOIN compacted_ranges s
  ON i.row_partition = s.partition_id AND i.row_position >= s.first_position AND i.row_position < s.end_position
LEFT JOIN last_versions v ON i.id = v.id AND i.row_partition = v.partition_id
LEFT JOIN unread u ON i.id = u.id AND i.row_partition = u.partition_id
WHERE COALESCE(v.position, -1) < i.row_position;

-- Difference `missing`: a record that the ledger covers or has passed, and that is not found in any store.
CREATE TABLE missing AS
SELECT partition_id, position, id, why FROM settled WHERE outcome = 'missing';

-- Difference `gap`: a record that reached its destination, but that the ledger passed without a line.
CREATE TABLE gap AS
SELECT g.partition_id, g.position, r.id, 'it is ' || g.outcome || ', and no line of the ledger says so' AS why
FROM (
  SELECT partition_id, position, outcome FROM outcomes
  WHERE line < 0 AND outcome NOT IN ('waiting', 'absent', 'misplaced')
  UNION ALL
  SELECT partition_id, position, 'deleted since' FROM settled WHERE line < 0 AND outcome = 'stored'
) g
JOIN ranges s ON g.partition_id = s.partition_id AND g.position < s.reached
JOIN records r ON g.partition_id = r.partition_id AND g.position = r.position;

-- The versions of ids that occur in several partitions or layouts of the topic, grouped by both.
CREATE TABLE homes AS
SELECT
  v.id, v.partition_id, v.layout,
  MIN(v.position) AS first_position,
  MAX(CASE WHEN NOT v.is_kept THEN v.position END) AS last_position,
  MIN(CASE WHEN NOT v.is_kept THEN v.timestamp_ms END) AS first_ms,
  MAX(CASE WHEN NOT v.is_kept THEN v.timestamp_ms END) AS last_ms,
  BOOL_AND(v.is_proven) AS is_proven
FROM versions v
JOIN ids i ON v.id = i.id
WHERE v.layout >= 0 AND (i.first_partition < i.last_partition OR i.first_layout < i.last_layout)
GROUP BY v.id, v.partition_id, v.layout;

-- Two versions with the same place in the order, one of which was redriven.
CREATE TABLE one_place AS
SELECT v.id, 0 AS rank, 'two versions have one place in the order: Cassandra mixes their columns' AS why
FROM versions v
JOIN ids i ON v.id = i.id
WHERE i.kept = 1 AND v.layout >= 0
GROUP BY v.id, v.order_us
HAVING COUNT(*) > 1 AND BOOL_OR(v.is_kept);

-- The newest versions of an id that `order_by` gives the same place, and that are not the same bytes.
CREATE TABLE tied AS
SELECT v.id, 0 AS rank, 'two versions have one place in the order: Cassandra mixes their columns' AS why
FROM versions v
JOIN ids i ON v.id = i.id AND v.order_us = i.newest_us
WHERE v.layout < 0
GROUP BY v.id
HAVING MIN(v.tie_digest) < MAX(v.tie_digest);

-- Versions of an older layout after those of a newer layout in the same partition.
CREATE TABLE two_layouts AS
SELECT o.id, 1 AS rank,
  'its keys belong to two layouts of the topic, of which partition ' || CAST(o.partition_id AS STRING)
  || ' has the older one last' AS why
FROM homes o
JOIN homes n ON o.id = n.id AND o.partition_id = n.partition_id AND o.layout < n.layout
WHERE o.last_position > n.first_position;

-- Versions in two partitions of one layout.
CREATE TABLE one_layout AS
SELECT a.id, 2 AS rank,
  'versions in partitions ' || CAST(a.partition_id AS STRING) || ' and ' || CAST(b.partition_id AS STRING)
  || ' of one layout of the topic: Kafka gives them no order' AS why
FROM homes a
JOIN homes b ON a.id = b.id AND a.layout = b.layout AND a.partition_id < b.partition_id;

-- Versions in two partitions, one of which no known partitioner explains.
CREATE TABLE unproven AS
SELECT a.id, 3 AS rank,
  'versions in partitions ' || CAST(a.partition_id AS STRING) || ' and ' || CAST(b.partition_id AS STRING)
  || ', and no known partitioner puts its key into one of them' AS why
FROM homes a
JOIN homes b ON a.id = b.id AND a.partition_id < b.partition_id
WHERE NOT (a.is_proven AND b.is_proven);

-- Versions in two partitions, where Kafka's timestamps say that the version of the older layout is newer.
CREATE TABLE contradicted AS
SELECT o.id, 4 AS rank,
  'versions in partitions ' || CAST(LEAST(o.partition_id, n.partition_id) AS STRING) || ' and '
  || CAST(GREATEST(o.partition_id, n.partition_id) AS STRING)
  || ': Kafka''s timestamps contradict the order of the topic''s layouts' AS why
FROM homes o
JOIN homes n ON o.id = n.id AND o.partition_id <> n.partition_id AND o.layout < n.layout
WHERE o.last_ms > n.first_ms;

-- Every reason why an id has no order.
CREATE VIEW unordered_reasons AS
SELECT * FROM one_place
UNION ALL SELECT * FROM tied
UNION ALL SELECT * FROM two_layouts
UNION ALL SELECT * FROM one_layout
UNION ALL SELECT * FROM unproven
UNION ALL SELECT * FROM contradicted;

-- Difference `unordered`: an id whose versions Kafka does not order, with the first of the reasons above.
CREATE TABLE unordered AS
SELECT v.partition_id, v.position, v.id, u.why
FROM (SELECT id, MIN_BY(why, rank) AS why FROM unordered_reasons GROUP BY id) u
JOIN (
  SELECT id, partition_id, position,
    ROW_NUMBER() OVER (PARTITION BY id ORDER BY partition_id DESC, order_us DESC, position DESC) AS number
  FROM versions
  WHERE id IN (SELECT id FROM unordered_reasons)
) v ON u.id = v.id AND v.number = 1;

-- Difference `repeated`: a value other than the first since the id's last tombstone, where ids have one version.
CREATE TABLE repeated AS
SELECT partition_id, position, id,
  'another value than an earlier record of the id, and the pipeline declares one_version_per_id' AS why
FROM (
  SELECT c.*, FIRST_VALUE(digest) OVER (PARTITION BY id, life ORDER BY partition_id, position) AS first_digest
  FROM (
    SELECT v.id, v.partition_id, v.position, v.digest, v.is_deletion,
      SUM(CASE WHEN v.is_deletion THEN 1 ELSE 0 END) OVER (
        PARTITION BY v.id ORDER BY v.partition_id, v.position ROWS UNBOUNDED PRECEDING
      ) AS life
    FROM versions v
    JOIN ids i ON v.id = i.id
    WHERE i.least_digest < i.greatest_digest
  ) c
  WHERE NOT is_deletion
) d
WHERE digest <> first_digest;

-- Difference `miscounted`: a line that counts other records or dead letters than exist, without an excuse.
CREATE TABLE miscounted AS
SELECT w.partition_id, w.first_position AS position, CAST(NULL AS STRING) AS id,
  'the ledger counts ' || CAST(w.records AS STRING) || ' records to ' || CAST(w.end_position - 1 AS STRING) || ', '
  || CAST(w.rejected AS STRING) || ' rejected; Kafka has ' || CAST(w.held AS STRING) || ', and '
  || CAST(w.letters AS STRING) || ' dead letters' AS why
FROM whole_lines w
LEFT JOIN pruned_letters p ON w.line = p.line
WHERE w.is_alone
  AND (w.rejected - w.letters - w.pruned <> COALESCE(p.letters, 0) OR w.records <> w.held + w.compacted);

-- Difference `doubled`: one job wrote two lines for the same offsets, which one checkpoint never does.
CREATE TABLE doubled AS
SELECT o.partition_id, CAST(NULL AS BIGINT) AS position, CAST(NULL AS STRING) AS id,
  CAST(CAST(o.doubled AS BIGINT) AS STRING) || ' offsets stand on two lines of the ledger that one job wrote' AS why
FROM covered_twice o
WHERE o.doubled > 0;

-- Section: deliveries

-- What Kafka acknowledged, each position once: the latest acknowledgement.
CREATE TABLE delivered AS
SELECT d.partition_id, d.position, d.record_key, d.key_text
FROM deliveries d
JOIN (SELECT partition_id, position, MAX(number) AS number FROM deliveries GROUP BY partition_id, position) l
  ON d.number = l.number;

-- Acknowledged records with what Kafka holds at their positions.
CREATE TABLE found AS
SELECT d.partition_id, d.position, d.record_key, r.position IS NOT NULL AS is_there,
  r.position IS NOT NULL AND COALESCE(CASE WHEN r.has_id_key THEN r.id ELSE r.key_text END <> d.key_text, TRUE)
    AS is_another
FROM delivered d
LEFT JOIN records r ON d.partition_id = r.partition_id AND d.position = r.position;

-- Acknowledged records that are gone.
CREATE VIEW gone AS
SELECT partition_id, position, record_key FROM found WHERE NOT is_there;

-- Section: sources

-- Gone records that no newer record of their id explains. A record without a row may have been deleted.
CREATE TABLE bare AS
SELECT g.partition_id, g.position, g.record_key, x.id,
  COALESCE(i.row_us IS NOT NULL, FALSE) OR w.id IS NOT NULL AS has_row
FROM gone g
LEFT JOIN gone_ids x ON g.partition_id = x.partition_id AND g.position = x.position
LEFT JOIN ids i ON x.id = i.id
LEFT JOIN last_versions v ON x.id = v.id AND g.partition_id = v.partition_id
LEFT JOIN unread u ON x.id = u.id AND g.partition_id = u.partition_id
LEFT JOIN (SELECT DISTINCT id FROM gone_rows) w ON x.id = w.id
WHERE NOT EXISTS (SELECT 1 FROM compaction)
  OR (COALESCE(i.waiting, 0) = 0 AND COALESCE(v.position, -1) < g.position AND COALESCE(u.position, -1) < g.position);

-- Partitions in which at most as many ids are gone without a row as tombstones are gone: these ids were deleted and
-- compacted away.
CREATE VIEW deleted_and_gone AS
SELECT b.partition_id
FROM bare b
JOIN gone_tombstones t ON b.partition_id = t.partition_id
WHERE NOT b.has_row
GROUP BY b.partition_id, t.tombstones
HAVING COUNT(DISTINCT b.id) + MAX(CASE WHEN b.id IS NULL THEN 1 ELSE 0 END) <= t.tombstones;

-- Gone records that nothing explains. What lies beyond the log end was never there to be compacted.
CREATE TABLE unexplained AS
SELECT b.partition_id, b.position, b.record_key
FROM bare b
LEFT JOIN deleted_and_gone d ON b.partition_id = d.partition_id
LEFT JOIN ranges s ON b.partition_id = s.partition_id
WHERE b.has_row OR d.partition_id IS NULL OR b.position >= COALESCE(s.end_position, 0);

-- Difference `lost`: Kafka acknowledged a record, or a row came from it, and Kafka has another record there or none.
CREATE TABLE lost AS
SELECT partition_id, position, record_key AS id, 'Kafka acknowledged another key at this offset' AS why
FROM found WHERE is_another
UNION ALL
SELECT partition_id, position, record_key, 'Kafka acknowledged it, and does not have it' FROM unexplained
UNION ALL
SELECT c.partition_id, c.position, c.id,
  'a row came from it; the topic no longer has it, and compaction keeps the newest record of each key'
FROM compacted_rows c
LEFT JOIN unexplained u ON c.partition_id = u.partition_id AND c.position = u.position
WHERE c.is_lost AND u.position IS NULL;

-- Difference `foreign`: a row that no record of the topic explains, or that another writer wrote or changed.
CREATE TABLE foreign_rows AS
SELECT i.row_partition AS partition_id, i.row_position AS position, i.id,
  'a row says that it came from here, and no record there has its id' AS why
FROM ids i
LEFT JOIN ranges s ON i.row_partition = s.partition_id
LEFT JOIN (SELECT DISTINCT id FROM restored) r ON i.id = r.id
LEFT JOIN compacted_rows c ON i.id = c.id
WHERE i.row_us IS NOT NULL
  AND (s.partition_id IS NULL OR (
    i.row_position >= s.first_position AND i.row_position < s.end_position
    AND i.newest_us IS NULL AND i.waiting = 0 AND r.id IS NULL AND c.id IS NULL
  ))
UNION ALL
SELECT CAST(NULL AS INT), CAST(NULL AS BIGINT), id, 'a row that was changed by hand'
  || COALESCE(' at ' || changed_at, '') || ': what was changed wins over all records of its id'
FROM table_rows WHERE writer = 'hand' OR (writer = 'topic' AND is_mixed)
UNION ALL
SELECT CAST(NULL AS INT), CAST(NULL AS BIGINT), id, 'a row that something else than penstock wrote'
FROM table_rows WHERE writer = 'unknown';

-- Section: results

-- Every difference, in the order in which a receipt lists them.
CREATE VIEW differences AS
SELECT 'missing' AS kind, partition_id, position, id, why FROM missing
UNION ALL SELECT 'gap', partition_id, position, id, why FROM gap
UNION ALL SELECT 'unordered', partition_id, position, id, why FROM unordered
UNION ALL SELECT 'repeated', partition_id, position, id, why FROM repeated
UNION ALL SELECT 'miscounted', partition_id, position, id, why FROM miscounted
UNION ALL SELECT 'doubled', partition_id, position, id, why FROM doubled
UNION ALL SELECT 'lost', partition_id, position, id, why FROM lost
UNION ALL SELECT 'foreign', partition_id, position, id, why FROM foreign_rows;

-- Every difference, with whether an operator has accepted it.
CREATE VIEW judged AS
SELECT d.kind, d.partition_id, d.position, d.id, d.why, a.kind IS NOT NULL AS is_accepted
FROM differences d
LEFT JOIN accepted a
  ON d.kind = a.kind AND d.partition_id IS NOT DISTINCT FROM a.partition_id
  AND d.position IS NOT DISTINCT FROM a.position AND d.id IS NOT DISTINCT FROM a.id AND d.why = COALESCE(a.why, d.why);

-- The number of differences of each kind.
CREATE VIEW difference_counts AS
SELECT kind, partition_id, is_accepted, COUNT(*) AS differences FROM judged GROUP BY kind, partition_id, is_accepted;

-- The number of ids in the topic, of those that should have a row, of those that have it, and of rows of other ids.
CREATE VIEW id_counts AS
SELECT
  COUNT(k.id) AS known,
  COALESCE(SUM(CASE WHEN k.expects_row THEN 1 ELSE 0 END), 0) AS expected,
  COALESCE(SUM(CASE WHEN k.expects_row AND k.has_row THEN 1 ELSE 0 END), 0) AS expected_rows,
  COALESCE(SUM(CASE WHEN k.id IS NULL AND i.row_us IS NOT NULL THEN 1 ELSE 0 END), 0)
    + (SELECT COUNT(*) FROM table_rows WHERE writer = 'older') AS other_rows
FROM ids i
LEFT JOIN known_ids k ON i.id = k.id;

-- When the first record was produced, and when the last line with a stored record was written.
CREATE VIEW times AS
SELECT
  COALESCE(MIN(o.timestamp_ms), 0) AS first_produced_ms,
  COALESCE(MAX(CASE WHEN o.outcome = 'stored' THEN l.stored_at_ms END), 0) AS last_stored_ms
FROM outcomes o
LEFT JOIN lines l ON o.line = l.line;

-- The latency of each stored record: from Kafka's timestamp to the acknowledgement of the last row of its task's batch.
CREATE VIEW latencies AS
SELECT o.partition_id, o.position, l.stored_at_ms - o.timestamp_ms AS latency_ms
FROM outcomes o
JOIN lines l ON o.line = l.line
WHERE o.outcome = 'stored';

CREATE VIEW latency AS
SELECT
  PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50,
  PERCENTILE_CONT(0.99) WITHIN GROUP (ORDER BY latency_ms) AS p99
FROM latencies;

-- The dead letters of the records that were verified, including those of records that never reached the topic.
CREATE VIEW rejected AS
SELECT d.identity, d.partition_id < 0 AS is_refused
FROM dead_letters d
LEFT JOIN outcomes o ON d.partition_id = o.partition_id AND d.position = o.position
WHERE d.partition_id < 0 OR o.position IS NOT NULL;

-- The number of records that each run produced.
CREATE VIEW runs AS
SELECT run, COUNT(*) AS records FROM records WHERE run >= 0 GROUP BY run;
