-- Names are not qualified: the connection's search_path is the schema.

-- Who leads. One row per scope; the epoch only grows.
CREATE TABLE leader (
    scope text PRIMARY KEY,
    epoch bigint NOT NULL,
    node uuid NOT NULL,
    -- The key of the advisory lock that the leader's session holds while it lives.
    beacon bigint NOT NULL,
    granted_at timestamptz NOT NULL,
    -- '-infinity' once the term was given up.
    expires_at timestamptz NOT NULL
);

-- Up to where the ticks of a job are decided. The row stays when runs are pruned, so that no tick is ever reopened.
CREATE TABLE jobs (
    scope text NOT NULL,
    job text NOT NULL,
    cursor timestamptz NOT NULL,
    -- The run of the tick at the cursor.
    run uuid,
    -- A digest of the schedule in words: another one is a changed schedule.
    schedule bytea NOT NULL,
    -- The term under which the job was last marked as scheduled.
    term bigint NOT NULL,
    withdrawn boolean NOT NULL DEFAULT false,
    PRIMARY KEY (scope, job)
-- Room for new versions of a row on its own page: no index is touched by a claim.
) WITH (fillfactor = 50);

-- What runs exclude. A row stays when its key is free, so that its token only grows.
CREATE TABLE lock_keys (
    scope text NOT NULL,
    key text NOT NULL,
    token bigint NOT NULL DEFAULT 0,
    -- The run that holds the key, and the beacon of the session that the run lives on.
    run uuid,
    beacon bigint,
    PRIMARY KEY (scope, key)
) WITH (fillfactor = 50);

-- Every run, by the id that its node made. Open while there is no outcome.
CREATE TABLE runs (
    run uuid PRIMARY KEY,
    scope text NOT NULL,
    job text NOT NULL,
    key text NOT NULL,
    token bigint NOT NULL,
    beacon bigint NOT NULL,
    node uuid NOT NULL,
    -- Neither, for a manual trigger.
    term bigint,
    fire_time timestamptz,
    claimed_at timestamptz NOT NULL,
    ended_at timestamptz,
    outcome text
) WITH (fillfactor = 80);
