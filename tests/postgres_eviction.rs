//! A frozen leader whose connections outlive its term is succeeded all the same, and they are ended; nobody
//! else's connections are touched.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/impostor.rs"]
mod impostor;
#[path = "common/log.rs"]
mod log;

use std::time::{Duration, Instant};

use callsheet::{
    JobName, LockKey, NodeId, RunId, Term,
    backend::Postgres,
    port::{Backend, Campaign, ClaimRequest, Renewal, Verdict},
};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use self::{
    harness::{PASSWORD, scope, server},
    impostor::{Gate, gate},
    log::Log,
};

/// The lease of those that are frozen: the default.
const LEASE: Duration = Duration::from_secs(5);
/// That of the nodes that look at them. A session is judged by its own lease, and a shorter one costs a node
/// its session on a machine that is so busy that it does not get a turn for seconds.
const NODE_LEASE: Duration = Duration::from_secs(15);
/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A node with a session.
async fn node(scope: &str) -> Postgres {
    node_at(scope, server().url()).await
}

async fn node_at(scope: &str, url: String) -> Postgres {
    let node = Postgres::new(scope, url).lease(NODE_LEASE);
    node.locker().open().await.expect("a session opens");
    node
}

/// A beacon that no other test has; half of them are below zero.
fn beacon() -> i64 {
    NodeId::random().as_uuid().as_u64_pair().0.cast_signed()
}

/// Plants the term of a leader that is not of this process: over since a second, or not yet.
async fn plant_term(scope: &str, beacon: i64, over: bool) {
    let plant = "INSERT INTO callsheet.leader (scope, epoch, node, beacon, granted_at, expires_at)
                 VALUES ($1, 7, gen_random_uuid(), $2, now() - interval '1 minute',
                         now() + $3::int4 * interval '1 second')";
    let (admin, seconds) = (admin().await, if over { -1 } else { 3_600 });
    admin.execute(plant, &[&scope, &beacon, &seconds]).await.expect("a row");
}

/// Takes the leadership of a scope, as a leader does.
async fn take_leadership(client: &Client, scope: &str) {
    let take = "SELECT pg_advisory_lock(hashtextextended('callsheet leader callsheet/' || $1, 0))";
    client.query(take, &[&scope]).await.expect("nobody else has it");
}

async fn give_leadership_up(client: &Client, scope: &str) {
    let give = "SELECT pg_advisory_unlock(hashtextextended('callsheet leader callsheet/' || $1, 0))";
    assert!(client.query_one(give, &[&scope]).await.expect("an answer").get::<_, bool>(0), "it had it");
}

async fn light(client: &Client, beacon: i64) {
    client.query("SELECT pg_advisory_lock($1)", &[&beacon]).await.expect("nobody else has it");
}

/// Opens a session of a scope, with this lease, on a connection.
async fn open_session(client: &Client, scope: &str, beacon: i64, lease: Duration) {
    light(client, beacon).await;
    let register = "INSERT INTO callsheet.sessions (scope, beacon, pid, role, node, name, version, lease, zone_data, since)
                    SELECT $1, $2, a.pid, a.usesysid, gen_random_uuid(), '', '', $3 * interval '1 second', '', now()
                    FROM pg_stat_get_activity(pg_backend_pid()) AS a";
    client.execute(register, &[&scope, &beacon, &lease.as_secs_f64()]).await.expect("a row");
}

async fn leads(node: &Postgres) -> Term {
    let elector = node.elector();
    let won = async {
        loop {
            match elector.campaign(Duration::MAX).await.expect("an answer") {
                Campaign::Won(grant) => return grant.term,
                Campaign::Lost { retry_in, .. } => sleep(retry_in).await,
            }
        }
    };
    let term = timeout(DEADLINE, won).await.expect("a frozen leader is succeeded");
    assert!(term.0 > 7, "it follows the frozen one: {term}");
    term
}

/// Goes on to lead until something has happened.
async fn leads_until(node: &Postgres, term: Term, happens: impl Future<Output = ()>) {
    let elector = node.elector();
    let renews = async {
        loop {
            assert_eq!(elector.renew(term).await.expect("an answer"), Renewal::Renewed);
            sleep(LEASE / 10).await;
        }
    };
    let happened = async {
        tokio::select! {
            () = happens => {}
            () = renews => {}
        }
    };
    timeout(DEADLINE, happened).await.expect("it happens");
}

/// Until a process is gone. It is not asked itself: then it would say something.
async fn ends(pids: &[i32]) {
    let admin = admin().await;
    let there = "SELECT FROM pg_stat_activity WHERE pid = ANY ($1)";
    while !admin.query(there, &[&pids]).await.expect("an answer").is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0)
}

async fn is_ended(client: &Client) -> bool {
    client.simple_query("SELECT").await.is_err()
}

#[tokio::test]
async fn a_frozen_leaders_connections_are_ended_after_its_lease() {
    let beacon = beacon();
    let scope = scope("frozen");
    let node = node(&scope).await;
    let (session, leadership) = (admin().await, admin().await);
    let pids = [pid(&session).await, pid(&leadership).await];
    open_session(&session, &scope, beacon, LEASE).await;
    take_leadership(&leadership, &scope).await;
    plant_term(&scope, beacon, true).await;

    // Whoever holds the lock does not keep others from leading.
    let term = leads(&node).await;

    leads_until(&node, term, ends(&pids)).await;
}

#[tokio::test]
async fn the_keys_of_a_frozen_leader_are_free_after_its_lease() {
    let beacon = beacon();
    let scope = scope("keys");
    let node = node(&scope).await;
    // Its leadership connection has ended with its lease, this one has not.
    let session = admin().await;
    open_session(&session, &scope, beacon, LEASE).await;
    plant_term(&scope, beacon, true).await;
    let held = "INSERT INTO callsheet.names (scope, name, token, run, beacon, claimed_at, run_node, run_job)
                VALUES ($1, 'key', 3, gen_random_uuid(), $2, now(), gen_random_uuid(), 'job')";
    admin().await.execute(held, &[&scope, &beacon]).await.expect("a key that is held");

    let term = leads(&node).await;

    assert!(matches!(claim(&node).await, Verdict::Busy { .. }), "its lease is not over");
    let freed = async {
        while !matches!(claim(&node).await, Verdict::Granted { lost: Some(_), .. }) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    leads_until(&node, term, freed).await;
}

async fn claim(node: &Postgres) -> Verdict {
    let run = RunId::from(NodeId::random().as_uuid());
    let (job, key) = (JobName::new("job").expect("a name"), LockKey::new("key").expect("a key"));
    let claim = ClaimRequest::new(job, key, run);
    node.locker().claim(&[claim]).await.expect("an answer").pop().expect("one verdict")
}

#[tokio::test]
async fn who_lets_go_of_the_leadership_lock_before_it_is_ended_is_left_alone() {
    let beacon = beacon();
    let scope = scope("let-go");
    let Gate { port, reached, open } = gate(server().port(), "pg_terminate_backend").await;
    let url = server().url().replace(&format!(":{}/", server().port()), &format!(":{port}/"));
    let node = node_at(&scope, url).await;
    let leadership = admin().await;
    take_leadership(&leadership, &scope).await;
    // By then the process may serve somebody else, who has other locks.
    light(&leadership, beacon ^ 1).await;
    plant_term(&scope, beacon, true).await;
    let term = leads(&node).await;

    let lets_go = async {
        reached.await.expect("the way to the server is there");
        give_leadership_up(&leadership, &scope).await;
        open.send(()).expect("the message waits");
        let has_it = "SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                      WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE $1";
        let (admin, like) = (admin().await, format!("% leadership % {scope}"));
        while admin.query(has_it, &[&like]).await.expect("an answer").is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    leads_until(&node, term, lets_go).await;

    assert!(!is_ended(&leadership).await);
}

#[tokio::test]
async fn a_leader_whose_term_is_not_over_is_left_alone() {
    let beacon = beacon();
    let scope = scope("alive");
    let node = node(&scope).await;
    let (session, leadership) = (admin().await, admin().await);
    // With a lease that goes on.
    open_session(&session, &scope, beacon, Duration::from_secs(600)).await;
    take_leadership(&leadership, &scope).await;
    plant_term(&scope, beacon, false).await;
    let loses = async || {
        let campaign = node.elector().campaign(Duration::MAX).await.expect("an answer");
        assert!(matches!(campaign, Campaign::Lost { leader: Some(_), .. }), "{campaign:?}");
    };

    // Until the leader has said nothing for more than a lease.
    let planted_at = Instant::now();
    while planted_at.elapsed() < LEASE + LEASE / 5 {
        loses().await;
    }
    assert!(!is_ended(&leadership).await);
    // It loses the lock, but not its term.
    drop(leadership);
    loses().await;
    assert!(!is_ended(&session).await);
}

#[tokio::test]
async fn a_node_that_lost_only_its_term_keeps_its_session() {
    let beacon = beacon();
    let scope = scope("deposed");
    let node = node(&scope).await;
    let session = admin().await;
    open_session(&session, &scope, beacon, LEASE).await;
    plant_term(&scope, beacon, true).await;
    let term = leads(&node).await;

    let beats = async {
        for _ in 0..5 {
            sleep(LEASE / 2).await;
            session.simple_query("SELECT").await.expect("it is not ended");
        }
    };
    leads_until(&node, term, beats).await;
}

#[tokio::test]
async fn who_may_not_end_a_silent_holder_says_which_right_is_missing() {
    let beacon = beacon();
    let log = Log::keep();
    let scope = scope("no-right");
    let leader = admin().await;
    let powerless = format!(
        "CREATE ROLE powerless LOGIN PASSWORD '{PASSWORD}';
         GRANT USAGE ON SCHEMA callsheet TO powerless;
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA callsheet TO powerless;
         GRANT DELETE ON callsheet.debts, callsheet.names, callsheet.sessions TO powerless"
    );
    // The schema is there once a node was.
    node(&scope).await.locker().close().await;
    leader.batch_execute(&powerless).await.expect("a role");
    let url = server().url().replace("callsheet:", "powerless:");
    let node = Postgres::new(&scope, url).lease(NODE_LEASE).migrate(false);
    node.locker().open().await.expect("a session opens");
    open_session(&leader, &scope, beacon, LEASE).await;
    take_leadership(&leader, &scope).await;
    plant_term(&scope, beacon, true).await;
    let holder = pid(&leader).await;

    let term = leads(&node).await;
    let said = format!(
        "role \"callsheet\", application \"\"); grant pg_signal_backend to this role, or end it: SELECT pg_terminate_backend({holder})"
    );
    let is_said = async {
        while !log.text().contains(&said) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    leads_until(&node, term, is_said).await;

    leads_until(&node, term, sleep(LEASE * 2)).await;
    assert!(!is_ended(&leader).await);
    assert_eq!(log.text().matches(&said).count(), 1, "{}", log.text());
}
