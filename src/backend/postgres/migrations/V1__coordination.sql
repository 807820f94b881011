-- Names are not qualified: the connection's search_path is the schema.
-- What is compared is compared byte by byte: cheaper than a language's order, and the same on every server.

-- Who leads. One row per scope; the epoch only grows.
CREATE TABLE leader (
    scope text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    node uuid NOT NULL,
    -- The key of the advisory lock that the leader's session holds while it lives.
    beacon bigint NOT NULL,
    -- The same, if the leader is of a version that says when all that is due is decided.
    tells bigint,
    granted_at timestamptz NOT NULL,
    -- '-infinity' once the term was given up.
    expires_at timestamptz NOT NULL,
    -- For how many milliseconds somebody has led, all told, and up to when that was counted.
    age bigint NOT NULL DEFAULT 0,
    aged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The greatest token and the newest cursor of the names that were forgotten.
    token_bound bigint NOT NULL DEFAULT 0,
    cursor_bound timestamptz NOT NULL DEFAULT '-infinity',
    -- The version of the time zone data by which the leader computes fire times; empty if it is not known.
    zone_data text NOT NULL DEFAULT ''
);

-- Makes the epoch a part of a key: who changes it locks the row for update, whoever changes something else does not. Claims of a term
-- lock the row for key share: they wait for the next term, and it for them, but not for renewals.
CREATE UNIQUE INDEX leader_by_epoch ON leader (scope, epoch);

-- What the nodes of a scope share and nobody else may know: the channel of their notifications. Anybody who may
-- connect can notify any channel, if he knows its name.
CREATE TABLE scopes (
    scope text COLLATE "C" PRIMARY KEY,
    channel text NOT NULL,
    -- How many backfills were asked for: of two that are asked for at once, one finds another number than it saw.
    backfills bigint NOT NULL DEFAULT 0
);

-- Who has a session. Only the advisory lock of its beacon, held by its process, says whether it lives. A row is written
-- once, when the session opens. It goes when the session is closed or, if the session died, once the runs that it left open are closed.
CREATE TABLE sessions (
    scope text COLLATE "C" NOT NULL,
    -- The key of the advisory lock that the session holds while it lives.
    beacon bigint NOT NULL,
    -- The process of the server that serves it, and the role that connected, which may be renamed.
    pid integer NOT NULL,
    role oid NOT NULL,
    node uuid NOT NULL,
    -- What the node's URL calls it, as its application_name; empty if nothing.
    name text NOT NULL,
    -- The version of the scheduler.
    version text NOT NULL,
    lease interval NOT NULL,
    -- The version of the time zone data by which the node computes fire times.
    zone_data text NOT NULL,
    -- Others that would rather not lead leave the lead to it.
    candidate boolean NOT NULL DEFAULT true,
    since timestamptz NOT NULL,
    -- What the node says of itself, as JSON: the tasks and the jobs that it has. Written now and then, if it has changed.
    described text,
    PRIMARY KEY (scope, beacon)
);

-- One row for each name of a job or of a lock key. A job's key is its own name unless given: then one row, and one new
-- version of it, is all that a claim or an end costs. What is out of use for long is forgotten; the leader's row keeps
-- the bounds by which no tick is ever reopened and tokens only grow.
--
-- Columns of one width that are never null stand first: the server finds them without a look at those before. What few
-- names have stands last.
CREATE TABLE names (
    -- The lock key of this name. Every run that is granted raises the token.
    token bigint NOT NULL DEFAULT 0,
    -- How many of its ticks were granted, since it was enrolled for the first time or after it was withdrawn.
    runs bigint NOT NULL DEFAULT 0,
    -- How old the scope was when a node last said that it holds the job, or when it was withdrawn.
    held_age bigint NOT NULL DEFAULT 0,
    -- How often the open run was lost before.
    losses integer NOT NULL DEFAULT 0,
    -- How many of its last runs in a row failed, panicked or timed out.
    failures integer NOT NULL DEFAULT 0,
    withdrawn boolean NOT NULL DEFAULT false,
    -- Its ticks do not run until then, or until it is resumed.
    paused boolean NOT NULL DEFAULT false,
    -- A run that is lost is owed another attempt; its end moves the cursor.
    retry_lost boolean NOT NULL DEFAULT false,
    from_completion boolean NOT NULL DEFAULT false,

    scope text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,

    -- The session that the open run lives on, or that held the key last; null if none ever did, or the job was withdrawn.
    beacon bigint,
    -- The job of this name; null if only a key has it. Up to the cursor its ticks are decided.
    cursor timestamptz,
    -- The term under which the job was last marked as scheduled, if it was under one.
    term bigint,
    -- More about the open run. It stays when the key is freed: a row that shrank would leave no room for its next version.
    claimed_at timestamptz,
    -- None for a manual trigger, nor for a tick that was claimed without a term.
    run_term bigint,
    -- None for a manual trigger.
    fire_time timestamptz,
    -- The open run that holds the lock key; null while it is free.
    run uuid,
    run_node uuid,
    -- The run of the tick at the cursor.
    cursor_run uuid,
    run_job text COLLATE "C",
    -- The identity of the schedule, a version and a digest: v1:0123456789abcdef0123456789abcdef. Another one
    -- of the same version is a changed schedule. The schedule in words is not here: each claim writes the
    -- row.
    schedule text COLLATE "C",

    -- Of the row without a name: when a leader said last that all that was due is decided.
    decided_at timestamptz,
    -- Of the same row: by when the missed ticks that wait for their turns are to have begun, as the leader of run_term says.
    catching_up_until timestamptz,
    paused_until timestamptz,
    pause_note text,
    -- Who paused it; null if nobody said so.
    paused_by text,
    -- The newest move of the cursor over ticks that nobody ran.
    cursor_move uuid,
    -- The overlap policy of this lock key, in words; null if nobody ever declared one. Who declares it: the newest term under which
    -- it was, and the beacons of sessions that do so without a term. It stands for as long as the term, or one of them.
    overlap text,
    declared_term bigint,
    declared_by bigint[],
    -- The fire time that a run names, without taking its tick, and that run: of any other it says nothing.
    named_fire_time timestamptz,
    named_run uuid,
    -- Where what was kept of the job stands, if that is under another name of it. Then this row is withdrawn, and its cursor a bound.
    renamed_to text COLLATE "C",
    -- The name that the job had, as its newest enrolment says.
    formerly text COLLATE "C",
    -- The beacons of the sessions that fire the job without a term.
    fired_by bigint[],

    -- The name first: most scopes have many, and few names are of many scopes, so that a look for a row compares half as much.
    PRIMARY KEY (name, scope)
-- Room for two new versions of each row on its own page, that of a claim and that of its end: while a follower's wait keeps a snapshot,
-- none of them can be dropped yet. So no index is touched by a claim or an end, unless a name has another owner than before.
) WITH (fillfactor = 30);
-- What a session held last: where to look for its runs once it is dead. Not "WHERE run IS NOT NULL": each claim and each end would
-- add an entry to every index.
CREATE INDEX names_by_beacon ON names (scope, beacon, name) WHERE beacon IS NOT NULL;
-- What is out of use for longest. All rows are in it. The condition keeps it from those who look for a name: in a table that is new
-- every index costs the same to the server, and this one would look through the scope.
CREATE INDEX names_by_age ON names (scope, held_age, name) WHERE held_age >= 0;

-- Runs that were lost and are owed another attempt by their jobs. A row goes when its run is taken up.
CREATE TABLE debts (
    scope text COLLATE "C" NOT NULL,
    run uuid NOT NULL,
    job text COLLATE "C" NOT NULL,
    -- None for a manual trigger.
    fire_time timestamptz,
    -- How often it was lost, from 1, and the token that it had: it goes on with a greater one, under whichever key.
    losses integer NOT NULL,
    token bigint NOT NULL,
    -- The fire time that it names, without taking its tick.
    named_fire_time timestamptz,
    PRIMARY KEY (scope, run)
);
CREATE INDEX debts_by_job ON debts (scope, job, run);

-- Runs that ended. They are added, never changed.
CREATE TABLE runs (
    -- Made by the node, and growing with time: new rows go to the end of the index.
    run uuid NOT NULL,
    -- A run that is granted once more, after it was lost, has a greater one.
    token bigint NOT NULL,
    claimed_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    -- None for a manual trigger.
    fire_time timestamptz,
    -- None for a manual trigger, nor for a tick that was claimed without a term.
    term bigint,
    node uuid NOT NULL,
    scope text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    outcome text NOT NULL,
    PRIMARY KEY (run, token)
);

-- Every run, for whoever looks: those that ended, and those that are open, without an end and an outcome.
CREATE VIEW all_runs AS
SELECT run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome FROM runs
UNION ALL
SELECT run, token, claimed_at, NULL, fire_time, run_term, run_node, scope, run_job, name, NULL
FROM names WHERE run IS NOT NULL;

-- What nodes ask of each other. A row is there for some seconds: whoever asked deletes it, or whoever asks next, once its deadline
-- has passed.
CREATE TABLE requests (
    scope text COLLATE "C" NOT NULL,
    request uuid NOT NULL,
    -- The node that asks.
    asked_node uuid NOT NULL,
    -- As JSON, which only nodes read.
    body text NOT NULL,
    asked_by text,
    note text,
    deadline timestamptz NOT NULL,
    PRIMARY KEY (scope, request)
);

-- The nodes that are asked: those that had a session at that instant.
CREATE TABLE request_nodes (
    scope text COLLATE "C" NOT NULL,
    node uuid NOT NULL,
    request uuid NOT NULL,
    name text NOT NULL,
    -- The node has read the request, and does what it says. It gets it once.
    taken boolean NOT NULL DEFAULT false,
    -- As JSON.
    answer text,
    PRIMARY KEY (scope, node, request),
    FOREIGN KEY (scope, request) REFERENCES requests (scope, request) ON DELETE CASCADE
);

-- Fire times of the past that are run once more. Few, and changed only by whoever asks for one, and by the leader.
CREATE TABLE backfills (
    scope text COLLATE "C" NOT NULL,
    backfill uuid NOT NULL,
    job text COLLATE "C" NOT NULL,
    range_from timestamptz NOT NULL,
    range_to timestamptz NOT NULL,
    max_concurrent integer NOT NULL,
    spacing_millis bigint NOT NULL,
    again boolean NOT NULL,
    asked_by text,
    created_at timestamptz NOT NULL,
    -- How many fire times of the range were left out, since they had a run.
    left_out integer NOT NULL,
    fire_times timestamptz[] NOT NULL,
    -- How many these are.
    ticks integer NOT NULL,
    -- How often it was changed.
    revision bigint NOT NULL DEFAULT 0,
    -- running, finished, cancelled
    state text COLLATE "C" NOT NULL DEFAULT 'running',
    -- How many of the fire times were taken up: the cursor.
    taken integer NOT NULL DEFAULT 0,
    -- Those of them, by number from 0, of which it is not known that their runs have ended. Only of these a run is granted.
    -- While they are here no run of theirs may be deleted from the table of runs: it says how they ended.
    in_flight integer[] NOT NULL DEFAULT '{}',
    -- Those in flight whose runs were granted, and under which lock keys, in the same order.
    granted integer[] NOT NULL DEFAULT '{}',
    granted_keys text[] COLLATE "C" NOT NULL DEFAULT '{}',
    -- When one was granted last.
    started_at timestamptz,
    failed integer NOT NULL DEFAULT 0,
    cancelled_by text,
    PRIMARY KEY (scope, backfill)
);

-- Whether the session of a beacon is over, as it stands now: nobody holds the lock of the beacon, or somebody does who
-- is not the process and the role that registered it. Anybody who may connect can hold any advisory lock, as soon as it
-- is free.
--
-- A session has its lock before its row can be seen, and never gets it back: what is over stays over. The table is read
-- as it is now, not as the statement that asks sees it, which may be older than the session.
--
-- Who holds a lock is shown only by a list of all locks of the server, which costs more than a claim. So the connection
-- that asks reads it once for all sessions of the scope, and remembers for 100 ms which of them are alive. A stranger
-- who takes the lock of a session that has just ended prolongs it by that much at most.
CREATE FUNCTION is_over(session_scope text, session_beacon bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    remembered_for CONSTANT float8 := 0.1;
    seen_at float8;
    alive text;
BEGIN
    -- Shared: those who probe at the same time would take each other for the owner.
    IF pg_try_advisory_xact_lock_shared(session_beacon) THEN
        RETURN true;
    END IF;
    seen_at := nullif(current_setting('callsheet.alive_at', true), '');
    -- A clock that was set back makes nothing last longer.
    IF date_part('epoch', clock_timestamp()) - seen_at BETWEEN 0 AND remembered_for
       AND position(' ' || session_beacon || ' ' IN current_setting('callsheet.alive', true)) > 0 THEN
        RETURN false;
    END IF;
    FOR look IN 1..2 LOOP
        seen_at := date_part('epoch', clock_timestamp());
        WITH held AS MATERIALIZED (
            SELECT l.pid, l.classid::int8 << 32 | l.objid::int8 AS beacon FROM pg_locks l
            WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock' AND l.granted
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        )
        SELECT ' ' || string_agg(s.beacon::text, ' ') || ' ' INTO alive
        FROM held h
        JOIN sessions s ON s.scope = session_scope AND s.beacon = h.beacon AND s.pid = h.pid
        CROSS JOIN LATERAL pg_stat_get_activity(s.pid) AS a
        WHERE a.usesysid = s.role;
        IF position(' ' || session_beacon || ' ' IN alive) > 0 THEN
            PERFORM set_config('callsheet.alive_at', seen_at::text, false), set_config('callsheet.alive', alive, false);
            RETURN false;
        END IF;
        -- What is said of processes is copied once in a transaction: the session may be younger than the copy.
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
    RETURN true;
END $$;

-- Moves what is kept of a job to its name from the other one under which it stands: to which it was moved before, if the job of that
-- name still says that it had another one; or the former one that an enrolment gives, or where that was moved. Changes nothing while
-- the other name is in use.
--
-- Answers "moved", also if there was nothing to move; "fired" and "running", with the other name, and with the node that fires it, if
-- that is known; "locked" if somebody else has a row locked or has changed it.
--
-- The rows are locked first, and then read again: a statement that locks two rows and changes both may find one of them changed.
CREATE FUNCTION take_over(
    job_scope text, own_name text, former_name text, lock_key text, slots integer, own_beacon bigint,
    OUT answer text, OUT other_name text, OUT used_by uuid
)
LANGUAGE plpgsql AS $$
DECLARE
    hops_max CONSTANT integer := 16;
    led leader%ROWTYPE;
    own names%ROWTYPE;
    other names%ROWTYPE;
    found_row names%ROWTYPE;
    moved_to text;
    next_name text;
    declares text;
    others bigint;
BEGIN
    SELECT * INTO led FROM leader l WHERE l.scope = job_scope FOR SHARE;
    SELECT n.renamed_to INTO moved_to FROM names n WHERE n.scope = job_scope AND n.name = own_name;
    FOR nth IN 1..2 LOOP
        other_name := CASE nth WHEN 1 THEN moved_to ELSE former_name END;
        CONTINUE WHEN other_name IS NULL;
        FOR hop IN 1..hops_max LOOP
            SELECT n.renamed_to, n.formerly INTO next_name, declares FROM names n WHERE n.scope = job_scope AND n.name = other_name;
            EXIT WHEN next_name IS NULL;
            other_name := next_name;
        END LOOP;
        EXIT WHEN nth = 2 OR declares IS NOT NULL;
        other_name := NULL;
    END LOOP;
    other_name := nullif(other_name, own_name);

    INSERT INTO names (scope, name, token, held_age, withdrawn)
    SELECT job_scope, a.name, coalesce(led.token_bound, 0), coalesce(led.age, 0), a.name <> own_name
    FROM unnest(ARRAY[own_name, other_name]) AS a (name)
    WHERE a.name IS NOT NULL AND NOT EXISTS (SELECT FROM names n WHERE n.scope = job_scope AND n.name = a.name)
    ORDER BY a.name COLLATE "C"
    ON CONFLICT DO NOTHING;
    FOR found_row IN
        SELECT * FROM names n WHERE n.scope = job_scope AND n.name = ANY (ARRAY[own_name, other_name])
        ORDER BY n.name FOR UPDATE SKIP LOCKED
    LOOP
        IF found_row.name = own_name THEN own := found_row; ELSE other := found_row; END IF;
    END LOOP;
    answer := 'locked';
    IF own.name IS NULL OR own.renamed_to IS DISTINCT FROM moved_to OR other.name IS DISTINCT FROM other_name
       OR other.renamed_to IS NOT NULL THEN
        RETURN;
    END IF;

    IF other_name IS NOT NULL THEN
        answer := 'fired';
        IF NOT other.withdrawn AND other.term = led.epoch AND led.expires_at > clock_timestamp() AND led.beacon <> own_beacon THEN
            used_by := led.node;
            RETURN;
        END IF;
        SELECT b INTO others FROM unnest(other.fired_by) AS b
        WHERE NOT other.withdrawn AND b <> own_beacon AND NOT is_over(job_scope, b) LIMIT 1;
        IF FOUND THEN
            SELECT s.node INTO used_by FROM sessions s WHERE s.scope = job_scope AND s.beacon = others;
            RETURN;
        END IF;
        answer := 'running';
        -- A key whose token is raised is free.
        IF own.run IS NOT NULL OR EXISTS (
            SELECT FROM names n
            WHERE n.scope = job_scope AND n.run IS NOT NULL AND n.run_job IN (own_name, other_name) AND n.name = ANY (ARRAY(
                SELECT k.name || CASE WHEN slot > 0 THEN chr(31) || slot ELSE '' END
                FROM unnest(ARRAY[own_name, other_name, lock_key]) AS k (name), generate_series(0, slots - 1) AS slot
            ))
        ) THEN
            RETURN;
        END IF;
        -- One that was removed gives nothing to one that goes on.
        IF other.cursor IS NOT NULL AND (NOT other.withdrawn OR own.cursor IS NULL OR own.withdrawn) THEN
            UPDATE names n
            SET token = greatest(n.token, other.token), runs = other.runs, failures = other.failures, withdrawn = other.withdrawn,
                retry_lost = other.retry_lost, from_completion = other.from_completion, schedule = other.schedule, term = NULL,
                cursor = greatest(n.cursor, other.cursor), cursor_move = other.cursor_move,
                cursor_run = CASE WHEN n.cursor > other.cursor THEN n.cursor_run ELSE other.cursor_run END
            WHERE n.scope = job_scope AND n.name = own_name;
            UPDATE debts d SET job = own_name WHERE d.scope = job_scope AND d.job = other_name;
        END IF;
        IF other.paused AND NOT (own.paused AND coalesce(own.paused_until > clock_timestamp(), true)) THEN
            UPDATE names n
            SET paused = true, paused_until = other.paused_until, pause_note = other.pause_note, paused_by = other.paused_by
            WHERE n.scope = job_scope AND n.name = own_name;
        END IF;
        UPDATE names n
        SET renamed_to = own_name, withdrawn = true, runs = 0, failures = 0, retry_lost = false, from_completion = false, term = NULL,
            paused = false, paused_until = NULL, pause_note = NULL, paused_by = NULL, fired_by = NULL
        WHERE n.scope = job_scope AND n.name = other_name;
    END IF;
    answer := 'moved';
    UPDATE names n SET renamed_to = NULL, formerly = former_name WHERE n.scope = job_scope AND n.name = own_name;
END $$;

-- Waits for the leadership of a scope, an advisory lock, for a number of slices of lock_timeout, while the scope is led in a term that
-- the caller knows. Answers whether the lock was had and, if not, the term and the node that lead, if any do.
--
-- A statement that waits keeps a snapshot, and while there is one no version of a row that was written since can be dropped: the page of
-- a job that runs six times a second would need room for six more after half a second. So each slice is a few short waits, each a
-- transaction of its own.
CREATE PROCEDURE wait_for_leadership(
    lock_key bigint, scope_led text, slices integer,
    INOUT term bigint, INOUT acquired boolean, INOUT leader_node uuid
)
LANGUAGE plpgsql AS $$
DECLARE
    known CONSTANT bigint := term;
    waits CONSTANT integer := 5;
    wait CONSTANT text := ceil(extract(epoch FROM current_setting('lock_timeout')::interval) * 1e3 / waits)::text;
BEGIN
    acquired := false;
    FOR nth IN 1..slices * waits LOOP
        PERFORM set_config('lock_timeout', wait, true);
        BEGIN
            PERFORM pg_advisory_lock(lock_key);
            acquired := true;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            -- Somebody leads.
        END;
        COMMIT;
        CONTINUE WHEN nth % waits > 0;
        SELECT l.epoch, l.node INTO term, leader_node
        FROM leader l WHERE l.scope = scope_led AND l.expires_at > clock_timestamp();
        EXIT WHEN term IS NULL OR known IS NULL OR term <> known;
    END LOOP;
END $$;

-- Jobs that are data, for all nodes of a scope. Whoever edits them by hand writes definitions only, with INSERT, UPDATE and DELETE on
-- catalogue_jobs: a trigger numbers each change and tells the nodes.

-- How many changes there were. Whoever makes one has this row locked until he commits, so that versions are committed in their order:
-- nodes go on from the newest that they have read. A node locks it before the row of the job.
CREATE TABLE catalogue_versions (
    scope text COLLATE "C" PRIMARY KEY,
    -- That of the newest change.
    version bigint NOT NULL DEFAULT 0,
    -- Deletions up to this version may be forgotten.
    forgotten bigint NOT NULL DEFAULT 0,
    -- How many jobs there are, and how many deleted ones are remembered.
    jobs bigint NOT NULL DEFAULT 0,
    deleted bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- One row for each job, and for each that was deleted of late.
CREATE TABLE catalogue_jobs (
    scope text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    -- Of its last change.
    version bigint NOT NULL,
    -- As JSON; null if it was deleted.
    definition text,
    -- What of its definition it is found by.
    task text COLLATE "C" NOT NULL DEFAULT '',
    tags text[] COLLATE "C" NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text,
    -- Its own id for each change that a node makes: one that is asked for twice is made once.
    change uuid NOT NULL,
    -- When a job is due that fires once and is then deleted; null for all others, and for what was edited by hand.
    due_at timestamptz,
    PRIMARY KEY (scope, job)
);
CREATE UNIQUE INDEX catalogue_jobs_by_version ON catalogue_jobs (scope, version);
-- A node that starts lists all jobs but one-shots, and then reads those that are near.
CREATE INDEX catalogue_jobs_listed ON catalogue_jobs (scope, job) WHERE due_at IS NULL AND definition IS NOT NULL;
CREATE INDEX catalogue_jobs_by_due ON catalogue_jobs (scope, due_at, job) WHERE due_at IS NOT NULL;
CREATE INDEX catalogue_jobs_deleted ON catalogue_jobs (scope, version) WHERE definition IS NULL;

-- Gives a change its version, and tells it to the nodes. A node says what the job is found by, and gives the change an id; of what has
-- none, or that of the change before, the rest is filled in here.
CREATE FUNCTION number_catalogue_change() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    was_there CONSTANT integer := CASE WHEN OLD.definition IS NULL THEN 0 ELSE 1 END;
    was_deleted CONSTANT integer := CASE WHEN OLD.job IS NOT NULL THEN 1 - was_there ELSE 0 END;
    is_there CONSTANT integer := CASE WHEN NEW.definition IS NULL THEN 0 ELSE 1 END;
    stored jsonb;
BEGIN
    IF OLD.job IS NOT NULL AND (OLD.scope, OLD.job) <> (NEW.scope, NEW.job) THEN
        RAISE EXCEPTION 'a stored job keeps its scope and its name' USING HINT = 'Insert the new one, and delete the old one.';
    END IF;
    IF NEW.change IS NULL OR coalesce(NEW.change = OLD.change, false) THEN
        NEW.change := gen_random_uuid();
        NEW.changed_at := clock_timestamp();
        NEW.changed_by := session_user;
        NEW.due_at := NULL;
        BEGIN
            stored := NEW.definition::jsonb;
            NEW.task := coalesce(stored #>> '{task,name}', '');
            NEW.tags := ARRAY(SELECT jsonb_array_elements_text(stored -> 'tags'));
            NEW.enabled := coalesce((stored ->> 'enabled')::boolean, true);
        EXCEPTION WHEN data_exception THEN
            -- Nodes say what is wrong with it.
            NEW.task := '';
            NEW.tags := '{}';
            NEW.enabled := true;
        END;
    END IF;
    INSERT INTO catalogue_versions AS v (scope, version, jobs, deleted) VALUES (NEW.scope, 1, is_there, 1 - is_there)
    ON CONFLICT (scope) DO UPDATE
    SET version = v.version + 1, jobs = v.jobs + is_there - was_there, deleted = v.deleted + 1 - is_there - was_deleted
    RETURNING v.version INTO NEW.version;
    PERFORM pg_notify(s.channel, '{"catalogue": {}}') FROM scopes s WHERE s.scope = NEW.scope;
    RETURN NEW;
END $$;
CREATE TRIGGER number_change BEFORE INSERT OR UPDATE ON catalogue_jobs
FOR EACH ROW EXECUTE FUNCTION number_catalogue_change();

-- Remembers a job that was deleted by hand: a node only takes its definition away.
CREATE FUNCTION remember_catalogue_deletion() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE catalogue_versions SET jobs = jobs - 1 WHERE scope = OLD.scope;
    INSERT INTO catalogue_jobs (scope, job) VALUES (OLD.scope, OLD.job);
    RETURN NULL;
END $$;
CREATE TRIGGER remember_deletion AFTER DELETE ON catalogue_jobs
FOR EACH ROW WHEN (OLD.definition IS NOT NULL) EXECUTE FUNCTION remember_catalogue_deletion();

-- What happened, for whoever asks later. Nothing is decided by it: no claim, no end, no cursor. It is written behind, in
-- batches, over connections of its own, and what is old is deleted by the leader, a page at a time.

-- One row for each run: of those in progress that last, and of all that ended. The ids of runs grow with the time at which they
-- were asked for, so that a page, and what is old, is a part of an index.
CREATE TABLE history_runs (
    scope text COLLATE "C" NOT NULL,
    run uuid NOT NULL,
    job text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    slot integer NOT NULL,
    -- tick, trigger, backfill, unknown
    origin text NOT NULL,
    asked_by text,
    node uuid NOT NULL,
    term bigint,
    token bigint,
    fire_time timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    -- In microseconds.
    lateness bigint NOT NULL,
    took bigint,
    -- None while it is in progress.
    outcome text COLLATE "C",
    cancelled text,
    error text,
    attempt integer NOT NULL,
    -- As JSON; none if there are none.
    attempts text,
    report text,
    measures text,
    progress float8,
    next_fire_time timestamptz,
    -- When its node said last that it is in progress; of one that ended, when it was written.
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, run)
);
CREATE INDEX history_runs_by_job ON history_runs (scope, job, run);
CREATE INDEX history_runs_by_outcome ON history_runs (scope, outcome, run);
-- Not of those that succeeded: of a job most do, and they are found among all of them. Nearly each run would pay for it.
CREATE INDEX history_runs_by_job_and_outcome ON history_runs (scope, job, outcome, run) WHERE outcome <> 'succeeded' OR outcome IS NULL;

-- One row for each job. It is never deleted.
CREATE TABLE history_jobs (
    scope text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    last_run uuid,
    last_at timestamptz,
    last_outcome text,
    success_at timestamptz,
    failed_run uuid,
    failed_at timestamptz,
    failed_error text,
    consecutive_failures bigint NOT NULL DEFAULT 0,
    runs bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    -- How long all bodies took, in microseconds, and how many there were.
    took numeric NOT NULL DEFAULT 0,
    timed bigint NOT NULL DEFAULT 0,
    -- Of the runs that were there when some were deleted last, in microseconds.
    p95 bigint,
    -- As JSON; none if it is not paused.
    pause text,
    pause_until timestamptz,
    -- When it was paused or resumed last.
    paused_at timestamptz,
    next_fire_time timestamptz,
    -- When the newest run ended that was deleted since there were too many.
    pruned_to timestamptz,
    -- How many runs were added since it was looked for too many.
    unpruned bigint NOT NULL DEFAULT 0,
    -- How many digits that number has: it changes seldom, so that most updates touch no index.
    unpruned_digits integer NOT NULL GENERATED ALWAYS AS (CASE WHEN unpruned > 0 THEN length(unpruned::text) ELSE 0 END) STORED,
    PRIMARY KEY (scope, job)
) WITH (fillfactor = 50);
-- Those that may have too many runs.
CREATE INDEX history_jobs_by_unpruned ON history_jobs (scope, unpruned_digits) WHERE unpruned_digits > 0;

-- One row for each decision that started nothing, or for many within a minute.
CREATE TABLE history_decisions (
    scope text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    nth bigint GENERATED ALWAYS AS IDENTITY,
    node uuid NOT NULL,
    -- Empty if it is about all jobs.
    job text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    -- The run that was lost; zeros if none was.
    lost uuid NOT NULL,
    first timestamptz,
    fire_time timestamptz,
    term bigint,
    -- As JSON.
    decision text NOT NULL,
    PRIMARY KEY (scope, at, node, job, reason, lost)
);
CREATE INDEX history_decisions_by_time ON history_decisions (scope, at, nth);
CREATE INDEX history_decisions_by_job ON history_decisions (scope, job, at, nth);

-- One row for each thing that somebody did to a job.
CREATE TABLE history_operations (
    scope text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    nth bigint GENERATED ALWAYS AS IDENTITY,
    node uuid NOT NULL,
    job text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    -- Which one it is of those that the node recorded: it may do two within a microsecond.
    number bigint NOT NULL,
    asked_by text,
    -- Why, in the words of whoever did it.
    note text,
    -- What exactly, if the operation alone does not say it.
    detail text,
    PRIMARY KEY (scope, at, node, number)
);
CREATE INDEX history_operations_by_time ON history_operations (scope, at, nth);
CREATE INDEX history_operations_by_job ON history_operations (scope, job, at, nth);
