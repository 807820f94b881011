//! The table of sessions on a real PostgreSQL server: whom a beacon belongs to.

#[path = "common/postgres.rs"]
mod harness;

use std::time::Duration;

use callsheet::{
    CALL_DEADLINE, JobName, LockKey, NodeId, Outcome, RunId,
    backend::Postgres,
    port::{Backend, ClaimRequest, Completed, Completion, LockError, Locker, LostRun, Session, Verdict},
};
use tokio::time::timeout;
use tokio_postgres::{Client, GenericClient, NoTls};
use uuid::Uuid;

use self::harness::{PASSWORD, scope, server};

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The rows of a scope whose beacons the registered processes and roles hold, and the number of all of them.
const HELD: &str = "
SELECT s.node, s.name, s.version, extract(epoch FROM s.lease)::float8 AS lease, s.zone_data,
       s.since BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS fresh
FROM callsheet.sessions s
JOIN pg_locks l ON l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock' AND l.pid = s.pid
               AND (l.classid::int8 << 32 | l.objid::int8) = s.beacon
JOIN pg_stat_activity a ON a.pid = s.pid AND a.usesysid = s.role
WHERE s.scope = $1";

#[tokio::test]
async fn an_open_session_stands_in_the_table_and_goes_with_its_close() {
    let (scope, admin) = (scope("table"), admin().await);
    let url = format!("{}?application_name=north", server().url());
    let node = Postgres::new(&scope, url).lease(Duration::from_secs(7));
    node.locker().open().await.expect("a session opens");

    let row = admin.query_one(HELD, &[&scope]).await.expect("one session, whose process holds the beacon");
    assert_eq!(row.get::<_, Uuid>("node"), node.node().expect("the store knows its nodes").as_uuid());
    assert_eq!(row.get::<_, &str>("name"), "north");
    assert_eq!(row.get::<_, &str>("version"), env!("CARGO_PKG_VERSION"));
    assert!((row.get::<_, f64>("lease") - 7.0).abs() < 1e-6);
    assert!(row.get::<_, bool>("fresh"));

    node.locker().close().await;
    let left = "SELECT FROM callsheet.sessions WHERE scope = $1";
    assert!(admin.query(left, &[&scope]).await.expect("an answer").is_empty());
}

/// Whether there are rows of a scope.
async fn registered(admin: &Client, scope: &str) -> bool {
    let rows = admin.query("SELECT FROM callsheet.sessions WHERE scope = $1", &[&scope]).await;
    !rows.expect("an answer").is_empty()
}

async fn is_over(client: &impl GenericClient, scope: &str, session: Session) -> bool {
    let over = client.query_one("SELECT is_over($1, $2)", &[&scope, &session.0.cast_signed()]).await;
    over.expect("an answer").get(0)
}

#[tokio::test]
async fn a_session_that_opens_while_a_transaction_goes_on_lives_for_it() {
    let (scope, mut asking) = (scope("since"), admin().await);
    let [first, second] = [(); 2].map(|()| Postgres::new(&scope, server().url()));
    let first = first.locker().open().await.expect("a session opens");
    asking.batch_execute("SET search_path = callsheet").await.expect("it is set");

    // The server copies what it says of its processes once in a transaction.
    let transaction = asking.transaction().await.expect("a transaction");
    assert!(!is_over(&transaction, &scope, first).await, "it lives");
    let second_session = second.locker().open().await.expect("a session opens");
    assert!(!is_over(&transaction, &scope, second_session).await, "it lives");
    assert!(!is_over(&transaction, &scope, first).await, "it lives");
}

#[tokio::test]
async fn a_session_whose_role_is_renamed_lives() {
    let (scope, admin) = (scope("renamed"), admin().await);
    let (node, other) = (Postgres::new(&scope, server().url()), Postgres::new(&scope, server().url()));
    other.locker().open().await.expect("a session opens");
    let role = format!("CREATE ROLE before SUPERUSER LOGIN PASSWORD '{PASSWORD}'");
    admin.batch_execute(&role).await.expect("it is made");
    let renamed = Postgres::new(&scope, server().url().replace("callsheet:", "before:"));
    let session = renamed.locker().open().await.expect("a session opens");
    held(&*renamed.locker(), &["key"]).await;

    admin
        .batch_execute("ALTER ROLE before RENAME TO after; SET search_path = callsheet")
        .await
        .expect("it is");

    assert!(!is_over(&admin, &scope, session).await, "its process holds its beacon");
    node.locker().open().await.expect("a session opens");
    let closed = node.locker().close_lost(10).await.expect("an answer");
    assert_eq!(closed.lost.len(), 0, "{closed:?}");
}

/// A run on each of these keys, granted to a session.
async fn held(locker: &dyn Locker, keys: &[&str]) -> Vec<RunId> {
    let claim = |key: &&str| {
        let run = RunId::from(NodeId::random().as_uuid());
        ClaimRequest::new(JobName::new(*key).expect("a name"), LockKey::new(*key).expect("a key"), run)
    };
    let claims: Vec<_> = keys.iter().map(claim).collect();
    let verdicts = locker.claim(&claims).await.expect("an answer");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Granted { .. })), "{verdicts:?}");
    claims.iter().map(|claim| claim.run).collect()
}

fn runs(lost: &[LostRun]) -> Vec<RunId> {
    let mut runs: Vec<_> = lost.iter().map(|lost| lost.run).collect();
    runs.sort();
    runs
}

#[tokio::test]
async fn a_session_that_left_runs_open_stays_in_the_table_until_all_are_closed() {
    let (scope, mut admin) = (scope("left-over"), admin().await);
    let node = Postgres::new(&scope, server().url());
    node.locker().open().await.expect("a session opens");
    let [free, locked] = held(&*node.locker(), &["free", "locked"]).await[..] else { panic!("two runs") };
    node.locker().close().await;
    let admin_of_table = self::admin().await;
    assert!(registered(&admin_of_table, &scope).await, "runs of it are open");

    let heir = Postgres::new(&scope, server().url());
    heir.locker().open().await.expect("a session opens");
    let somebody = admin.transaction().await.expect("a transaction");
    let lock = "SELECT FROM callsheet.names WHERE scope = $1 AND name = 'locked' FOR UPDATE";
    somebody.execute(lock, &[&scope]).await.expect("an answer");
    let first = heir.locker().close_lost(10).await.expect("an answer");
    somebody.rollback().await.expect("an answer");
    let then = heir.locker().close_lost(10).await.expect("an answer");

    assert_eq!((runs(&first.lost), first.more), (vec![free], false));
    assert_eq!((runs(&then.lost), then.more), (vec![locked], false));
    heir.locker().close().await;
    assert!(!registered(&admin_of_table, &scope).await, "nobody has a session, and nothing is left to close");
}

#[tokio::test]
async fn lost_runs_are_found_among_many_names_page_by_page() {
    let (scope, admin) = (scope("pages"), admin().await);
    let node = Postgres::new(&scope, server().url());
    node.locker().open().await.expect("a session opens");
    let mut open = held(&*node.locker(), &["a", "m", "z", "zz"]).await;
    open.sort();
    let many = "INSERT INTO callsheet.names (scope, name, beacon)
                SELECT $1, n, (SELECT beacon FROM callsheet.names WHERE scope = $1 LIMIT 1)
                FROM (SELECT l || lpad(g::text, 5, '0') FROM unnest(ARRAY['b', 'n', 'y']) AS l, generate_series(1, 3000) AS g) AS s (n)";
    admin.execute(many, &[&scope]).await.expect("an answer");
    node.locker().close().await;

    let heir = Postgres::new(&scope, server().url());
    heir.locker().open().await.expect("a session opens");
    let mut closed = Vec::new();
    loop {
        let found = heir.locker().close_lost(3).await.expect("an answer");
        assert!(found.lost.len() <= 3);
        closed.extend(found.lost);
        if !found.more {
            break;
        }
    }
    assert_eq!(runs(&closed), open);
}

/// Has every run of a job that this names wait, or fail, when it is recorded in a schema.
async fn hinder(admin: &Client, schema: &str, job: &str, hindrance: &str) {
    let slow = format!(
        "CREATE FUNCTION {schema}.hinder() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN IF NEW.job = '{job}' THEN {hindrance}; END IF; RETURN NEW; END$$;
         CREATE TRIGGER hinder BEFORE INSERT ON {schema}.runs FOR EACH ROW EXECUTE FUNCTION {schema}.hinder()"
    );
    admin.batch_execute(&slow).await.expect("an answer");
}

/// `lease` is that of all nodes.
async fn searches_in_time(schema: &str, lease: Duration) {
    let (scope, admin) = (scope(schema), admin().await);
    let open = || Postgres::new(&scope, server().url()).schema(schema).lease(lease);
    let node = open();
    node.locker().open().await.expect("a session opens");
    let left = held(&*node.locker(), &["key"]).await;
    node.locker().close().await;
    hinder(&admin, schema, "key", "PERFORM pg_sleep(60)").await;
    let heir = open();
    let heir = heir.locker();
    let session = heir.open().await.expect("a session opens");

    // The engine gives up after that.
    let searched = timeout(CALL_DEADLINE, heir.close_lost(10)).await.expect("an answer in time");
    assert!(matches!(searched, Err(LockError::NotDone { .. })), "{searched:?}");
    held(&*heir, &["other"]).await;
    admin.batch_execute(&format!("DROP TRIGGER hinder ON {schema}.runs")).await.expect("an answer");
    let closed = tokio::select! {
        closed = heir.close_lost(10) => closed.expect("an answer"),
        reason = heir.lost(session) => panic!("the session was lost: {reason}"),
    };
    assert_eq!(runs(&closed.lost), left);
}

#[tokio::test]
async fn a_search_for_lost_runs_that_is_too_slow_costs_no_session() {
    searches_in_time("slow", Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_search_that_is_too_slow_costs_no_session_with_a_long_lease() {
    searches_in_time("slow_long", Duration::from_secs(60)).await;
}

#[tokio::test]
async fn runs_that_were_closed_are_told_though_the_call_fails_later() {
    let (scope, mut admin) = (scope("told"), admin().await);
    let node = Postgres::new(&scope, server().url());
    node.locker().open().await.expect("a session opens");
    let left = held(&*node.locker(), &["key"]).await;
    node.locker().close().await;
    let heir = Postgres::new(&scope, server().url());
    heir.locker().open().await.expect("a session opens");
    let somebody = admin.transaction().await.expect("a transaction");
    // The session cannot be forgotten.
    let lock = "SELECT FROM callsheet.sessions WHERE scope = $1 ORDER BY beacon FOR UPDATE";
    somebody.execute(lock, &[&scope]).await.expect("an answer");

    let closed = heir.locker().close_lost(10).await.expect("what was closed");
    assert_eq!((runs(&closed.lost), closed.more), (left, true));
    let failed = heir.locker().close_lost(10).await;
    assert!(matches!(failed, Err(LockError::NotDone { .. })), "{failed:?}");

    somebody.rollback().await.expect("an answer");
    let closed = heir.locker().close_lost(10).await.expect("an answer");
    assert_eq!((runs(&closed.lost), closed.more), (Vec::new(), false));
    heir.locker().close().await;
    assert!(!registered(&admin, &scope).await, "the dead session is forgotten");
}

/// How often a search is asked at most: each time it is too slow, it looks at fewer names.
const CALLS_MAX: usize = 20;

/// The store hinders the run of one dead session from being closed.
async fn the_other_session_is_searched(schema: &str, hindrance: &str) {
    let (scope, admin) = (scope(schema), admin().await);
    let open = || Postgres::new(&scope, server().url()).schema(schema).lease(Duration::from_secs(2));
    let mut left = Vec::new();
    for key in ["one", "two"] {
        let node = open();
        node.locker().open().await.expect("a session opens");
        left.extend(held(&*node.locker(), &[key]).await);
        node.locker().close().await;
    }
    let first = format!("SELECT name FROM {schema}.names WHERE run IS NOT NULL ORDER BY beacon LIMIT 1");
    let first: String = admin.query_one(&first, &[]).await.expect("a name").get(0);
    if first == "one" {
        left.reverse();
    }
    let [free, hindered] = left[..] else { panic!("two runs") };
    hinder(&admin, schema, &first, hindrance).await;
    let heir = open();
    heir.locker().open().await.expect("a session opens");

    let mut closed = Vec::new();
    for _ in 0..CALLS_MAX {
        if let Ok(found) = heir.locker().close_lost(10).await {
            closed.extend(found.lost);
        }
        if !closed.is_empty() {
            break;
        }
    }
    assert_eq!(runs(&closed), [free]);
    let failed = heir.locker().close_lost(10).await;
    assert!(matches!(failed, Err(LockError::NotDone { .. })), "{failed:?}");

    admin.batch_execute(&format!("DROP TRIGGER hinder ON {schema}.runs")).await.expect("an answer");
    let mut closed = Vec::new();
    while closed.is_empty() {
        closed.extend(heir.locker().close_lost(10).await.expect("an answer").lost);
    }
    assert_eq!(runs(&closed), [hindered]);
}

#[tokio::test]
async fn a_dead_session_of_which_a_run_is_refused_hides_no_other_one() {
    the_other_session_is_searched("refused", "RAISE EXCEPTION 'not this one'").await;
}

#[tokio::test]
async fn a_dead_session_that_is_too_slow_to_close_hides_no_other_one() {
    the_other_session_is_searched("slow_one", "PERFORM pg_sleep(60)").await;
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_leaves_no_row() {
    let (scope, admin) = (scope("unopened"), admin().await);
    let open = || Postgres::new(&scope, server().url()).schema("unopened");
    let node = open();
    node.locker().open().await.expect("a session opens");
    node.locker().close().await;
    // As another version has it.
    let rename = "ALTER TABLE unopened.debts RENAME COLUMN job TO whose";
    admin.batch_execute(rename).await.expect("an answer");

    for _ in 0..2 {
        let opened = open().locker().open().await;
        assert!(opened.is_err(), "{opened:?}");
    }
    let left = "SELECT FROM unopened.sessions";
    assert!(admin.query(left, &[]).await.expect("an answer").is_empty());
}

/// What a former session of a node was asked may still be done, for as long as that session lives.
#[tokio::test]
async fn nothing_is_final_while_a_former_session_of_the_node_lives() {
    let (scope, admin) = (scope("former"), admin().await);
    let [node, former] = [(); 2].map(|()| Postgres::new(&scope, server().url()));
    let of = |node: &Postgres| node.node().expect("the store knows its nodes").as_uuid();
    node.locker().open().await.expect("a session opens");
    former.locker().open().await.expect("a session opens");
    let (job, key) = (JobName::new("job").expect("a name"), LockKey::new("job").expect("a name"));
    let claim = |run| ClaimRequest::new(job.clone(), key.clone(), run);
    let run = RunId::from(NodeId::random().as_uuid());
    let claimed = former.locker().claim(&[claim(run)]).await.expect("an answer");
    let [Verdict::Granted { token, .. }] = claimed[..] else { panic!("{claimed:?}") };
    // As if they were one node.
    let same = "UPDATE callsheet.sessions SET node = $2 WHERE scope = $1 AND node = $3";
    admin.execute(same, &[&scope, &of(&node), &of(&former)]).await.expect("an answer");

    let end = [Completion::new(job.clone(), key.clone(), run, token, Outcome::Succeeded)];
    let unheard = ClaimRequest { recheck: true, ..claim(RunId::from(NodeId::random().as_uuid())) };
    let ended = node.locker().complete(&end).await.expect("an answer");
    assert!(matches!(&ended[..], [Completed::Unavailable { .. }]), "{ended:?}");
    let released = node.locker().release(&end).await.expect("an answer");
    assert!(matches!(&released[..], [Completed::Unavailable { .. }]), "{released:?}");
    let settled = node.locker().claim(std::slice::from_ref(&unheard)).await.expect("an answer");
    assert!(matches!(&settled[..], [Verdict::Unavailable { .. }]), "{settled:?}");

    former.locker().close().await;
    assert_eq!(node.locker().complete(&end).await.expect("an answer"), [Completed::Stale]);
    assert_eq!(node.locker().release(&end).await.expect("an answer"), [Completed::Stale]);
    assert_eq!(node.locker().claim(&[unheard]).await.expect("an answer"), [Verdict::NotGranted]);
}
