//! Nodes of two versions on one schema, as they are while nodes are replaced one by one: what the version
//! before sends is kept in `tests/statements`, and works on the tables of this version beside a node of this
//! version.
//!
//! When a migration is added, the statements of the version before it are written down first, at the commit
//! before:
//!
//! ```sh
//! CALLSHEET_KEEP_STATEMENTS=tests/statements/v2.txt cargo test --all-features --test postgres_upgrade
//! ```
//!
//! Then [`KEPT`] names that file, the former one goes, and whatever of the tests fails shows what the
//! migration would do to nodes that run. A step on which they cannot work takes two releases: one that works
//! with both shapes of the tables, and a later one that takes the old shape away.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Callsheet, EventFilter, EventKind, EventName, Job, Term,
    backend::Postgres,
    port::{Backend, Campaign, LockError, Proof, Renewal},
    schedule::every,
};
use chrono::{DateTime, Utc};
use tokio::{
    io::{AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_postgres::{Client, NoTls, Row, types::ToSql};
use uuid::Uuid;

#[path = "common/postgres.rs"]
mod harness;
#[path = "chaos/wire.rs"]
#[allow(dead_code, reason = "the tests of chaos use the rest")]
mod wire;

use self::harness::{scope, server};

/// What the version before this one sends: each statement after a line with the types of its parameters.
const KEPT: &str = include_str!("statements/v1.txt");
/// Begins such a line.
const MARK: &str = "=== ";
/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// A statement, and the types of its parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    types: String,
    text: String,
}

fn read(file: &str) -> Vec<Kept> {
    let statements = file.split(MARK).skip(1).map(|one| {
        let (types, text) = one.split_once('\n').expect("a line of types, then the statement");
        Kept { types: types.to_owned(), text: text.strip_suffix('\n').expect("its end").to_owned() }
    });
    statements.collect()
}

fn write(statements: &[Kept]) -> String {
    statements.iter().fold(String::new(), |mut file, Kept { types, text }| {
        writeln!(file, "{MARK}{types}\n{text}").expect("a text takes all");
        file
    })
}

/// A client whose names are those of a schema.
async fn client(schema: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = \"{schema}\"")).await.expect("an answer");
    client
}

/// The types of the parameters of a statement, as the server understands it.
async fn types(client: &Client, text: &str) -> String {
    let prepared = client.prepare(text).await.unwrap_or_else(|error| panic!("{error:?}: {text}"));
    prepared.params().iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_statements_of_the_version_before_are_understood() {
    let backend = Postgres::new(scope("understood"), server().url()).schema("understood");
    backend.locker().open().await.expect("it is migrated");
    let client = client("understood").await;

    let kept = read(KEPT);
    for Kept { types: known, text } in &kept {
        assert_eq!(types(&client, text).await, *known, "{text}");
    }

    assert!(kept.len() >= 40, "{}", kept.len());
    assert_eq!(write(&kept), KEPT);
}

/// Hands everything on to the server, and writes down the statements that are prepared.
async fn listening_proxy(prepared: Arc<Mutex<BTreeSet<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server().port())).await.expect("it runs");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let prepared = prepared.clone();
            tokio::spawn(async move {
                let mut next = wire::startup(&mut from_client).await;
                while let Some(message) = next {
                    if message[0] == wire::PARSE {
                        let text = message[5..].split(|byte| *byte == 0).nth(1).expect("a text");
                        let text = String::from_utf8(text.to_vec()).expect("a text");
                        prepared.lock().expect("nobody panicked").insert(text);
                    }
                    if to_server.write_all(&message).await.is_err() {
                        break;
                    }
                    next = wire::message(&mut from_client).await;
                }
            });
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
        }
    });
    port
}

#[tokio::test]
async fn the_statements_of_this_version_can_be_kept() {
    let prepared: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let port = listening_proxy(prepared.clone()).await;
    let url = server().url().replace(&server().port().to_string(), &port.to_string());
    let scope = scope("kept");
    let node = || Postgres::new(&scope, &url).schema("kept").lease(Duration::from_secs(2));
    let (leader, other) = (node(), node());

    for node in [&leader, &other] {
        node.locker().open().await.expect("a session opens");
        node.elector().observe(true).await.expect("an answer");
        node.locker().other_zone_data().await.expect("an answer");
    }
    let Campaign::Won(grant) = leader.elector().campaign(Duration::MAX).await.expect("an answer") else {
        panic!("nobody led")
    };
    assert_eq!(leader.elector().renew(grant.term).await.expect("an answer"), Renewal::Renewed);
    assert_eq!(leader.elector().renew(Term(1)).await.expect("an answer"), Renewal::Deposed);
    let lost = other.elector().campaign(Duration::MAX).await.expect("an answer");
    assert!(matches!(lost, Campaign::Lost { .. }), "{lost:?}");
    leader.elector().resign(grant.term).await.expect("an answer");
    for node in [&leader, &other] {
        node.locker().close().await;
    }

    let prepared = prepared.lock().expect("nobody panicked").clone();
    let client = client("kept").await;
    let mut statements = Vec::new();
    // What the client asks of types is its own.
    for text in prepared.into_iter().filter(|text| !text.contains("pg_catalog.pg_type")) {
        statements.push(Kept { types: types(&client, &text).await, text });
    }
    let file = write(&statements);
    assert_eq!(read(&file), statements);
    for part in [OPEN, WAIT, GRANT, RENEW, RESIGN, HEARTBEAT, ENROL, "THEN 'needs takeover'", ENDED, CLOSE] {
        assert_eq!(statements.iter().filter(|kept| kept.text.contains(part)).count(), 1, "{part}");
    }
    if let Some(path) = std::env::var_os("CALLSHEET_KEEP_STATEMENTS") {
        std::fs::write(path, file).expect("it is written");
    }
}

// What is said by one statement alone.
const OPEN: &str = "INSERT INTO sessions";
const CHANNEL: &str = "SELECT channel FROM scopes";
const WAIT: &str = "CALL wait_for_leadership";
const GRANT: &str = "INSERT INTO leader AS l";
const RENEW: &str = "UPDATE leader\nSET expires_at = clock_timestamp()";
const RESIGN: &str = "SET expires_at = '-infinity'";
const HEARTBEAT: &str = "EXISTS (SELECT FROM scopes WHERE scope = $1 AND channel = $4)";
const ENROL: &str = "'done' AS answer, cursor";
const CLAIM: &str = "THEN 'robs'";
const COMPLETE: &str = "AS cursor, false AS pauses, NULL AS pause_note FROM freed\nUNION ALL\n-- An end";
/// What the statement of this version says.
const ENDED: &str = "array_agg(ord) AS ords\nFROM freed";
const PROVE: &str = "), proved AS (";
const CLOSE: &str = "SELECT count(*) < $3 AND count(run) = 0";

/// A node of the version before: a connection that knows its statements, and nothing else.
struct Old {
    client: Client,
    kept: Vec<Kept>,
    scope: String,
    beacon: i64,
    node: Uuid,
}

impl Old {
    async fn ask(&self, part: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let mut of_part = self.kept.iter().filter(|kept| kept.text.contains(part));
        let (Some(kept), None) = (of_part.next(), of_part.next()) else {
            panic!("not one statement: {part}")
        };
        let answer = timeout(DEADLINE, self.client.query(&kept.text, parameters)).await.expect("an answer");
        answer.unwrap_or_else(|error| panic!("{error:?}: {}", kept.text))
    }

    /// Opens its session.
    async fn open(schema: &str, scope: String) -> Self {
        let client = client(schema).await;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0);
        let old = Self { client, kept: read(KEPT), scope, beacon: 4_711, node: Uuid::from_u128(4_711) };
        let lease = 5_000_f64;
        let opened = old
            .ask(OPEN, &[&old.beacon, &pid, &old.scope, &old.node, &"old", &"0.0.9", &lease, &"2026a"])
            .await;
        assert_eq!(opened[0].get::<_, Option<bool>>("acquired"), Some(true));
        old
    }

    async fn beat(&self) {
        let channel: String = self.ask(CHANNEL, &[&self.scope]).await[0].get("channel");
        let others = self.ask(HEARTBEAT, &[&self.scope, &self.beacon, &16_i64, &channel]).await;
        assert!(others[0].get::<_, bool>("stands"), "the tables know it");
    }

    /// Takes the lead, which is free.
    async fn lead(&self, schema: &str) -> i64 {
        let waited = self.ask(WAIT, &[&schema, &self.scope, &None::<i64>, &1_i32]).await;
        assert!(waited[0].get::<_, bool>("acquired"));
        let granted = self.ask(GRANT, &[&self.scope, &self.beacon, &self.node, &5_000_f64, &"2026a"]).await;
        granted[0].get("epoch")
    }

    /// Schedules a job. Answers its cursor.
    async fn enrol(&self, job: &str, term: i64) -> DateTime<Utc> {
        let none = Vec::<Option<bool>>::new();
        let schedule = "v1:0123456789abcdef0123456789abcdef";
        let parameters: [&(dyn ToSql + Sync); 13] = [
            &self.scope,
            &vec![job],
            &vec![schedule],
            &vec![Some(term)],
            &vec![false],
            &none,
            &none,
            &vec![60_000_f64],
            &self.beacon,
            &vec!["skip"],
            &Vec::<Option<&str>>::new(),
            &100_i64,
            &Utc::now(),
        ];
        let enrolled = self.ask(ENROL, &parameters).await;
        assert_eq!(enrolled[0].get::<_, &str>("answer"), "done");
        enrolled[0].get("cursor")
    }

    /// Claims the tick of a job that comes a second after its cursor.
    async fn claim(&self, job: &str, run: Uuid, cursor: DateTime<Utc>, term: i64) -> (String, i64) {
        let tick = cursor + Duration::from_secs(1);
        let parameters: [&(dyn ToSql + Sync); 11] = [
            &self.scope,
            &self.beacon,
            &self.node,
            &vec![job],
            &vec![job],
            &vec![run],
            &vec![Some(tick)],
            &vec![Some(cursor)],
            &vec![Some(term)],
            &vec![false],
            &Vec::<Option<i64>>::new(),
        ];
        let claimed = self.ask(CLAIM, &parameters).await;
        (claimed[0].get("verdict"), claimed[0].get("token"))
    }

    async fn complete(&self, job: &str, run: Uuid, token: i64) {
        let ended = self
            .ask(
                COMPLETE,
                &[&self.scope, &self.beacon, &vec![job], &vec![run], &vec![token], &vec!["succeeded"]],
            )
            .await;
        assert!(ended[0].get::<_, bool>("recorded"));
    }
}

#[tokio::test]
async fn a_node_of_the_version_before_works_beside_one_of_this_version() {
    const SCHEMA: &str = "upgraded";
    let scope = scope("upgraded");
    let backend = || Postgres::new(&scope, server().url()).schema(SCHEMA);
    backend().locker().open().await.expect("it is migrated");
    let old = Old::open(SCHEMA, scope.clone()).await;
    let term = old.lead(SCHEMA).await;

    // Both live; the older one leads.
    let job = Job::new("shared", every(Duration::from_millis(100))).run(async |_| {});
    let node = Callsheet::builder().backend(backend()).job(job).start().await.expect("it starts");
    let kinds = [EventName::LeadershipGained, EventName::RunSucceeded];
    let mut events = node.events(EventFilter::new().kinds(kinds));
    old.beat().await;
    let lease = 5_000_f64;
    assert_eq!(old.ask(RENEW, &[&scope, &old.beacon, &term, &lease]).await.len(), 1, "it leads still");
    let cursor = old.enrol("of-the-old", term).await;
    let run = Uuid::now_v7();
    let (verdict, token) = old.claim("of-the-old", run, cursor, term).await;
    assert_eq!(verdict, "granted");
    old.complete("of-the-old", run, token).await;

    // It gives up, and the newer one goes on.
    assert_eq!(old.ask(RESIGN, &[&scope, &old.beacon, &term]).await.len(), 1);
    old.client.batch_execute("SELECT pg_advisory_unlock_all()").await.expect("an answer");
    let mut led_by_new = None;
    let succeeded = async {
        while let Some(event) = events.next().await {
            match event.kind {
                EventKind::LeadershipGained { term, .. } => led_by_new = Some(term),
                EventKind::RunSucceeded { .. } if led_by_new.is_some() => break,
                _ => {}
            }
        }
    };
    timeout(DEADLINE, succeeded).await.expect("the newer node leads, and runs its job");
    let new_term = led_by_new.expect("it leads");
    assert!(i64::try_from(new_term.0).is_ok_and(|new| new > term), "{new_term:?} after {term}");
    let late = old.claim("of-the-old", Uuid::now_v7(), cursor + Duration::from_secs(1), term).await;
    assert_eq!(late.0, "deposed");

    let closed = old.ask(CLOSE, &[&scope, &old.beacon, &2_048_i64]).await;
    assert_eq!(closed.len(), 0);
    let rows = "SELECT count(*) FROM sessions WHERE scope = $1 AND node = $2";
    let left: i64 = old.client.query_one(rows, &[&scope, &old.node]).await.expect("an answer").get(0);
    assert_eq!(left, 0, "its session is taken out of the table");
    node.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn who_never_says_that_all_is_decided_neither_says_nor_unsays_it() {
    const SCHEMA: &str = "proved_by_both";
    let scope = scope("proved-by-both");
    let new = Postgres::new(&scope, server().url()).schema(SCHEMA);
    let locker = new.locker();
    locker.open().await.expect("it is migrated");
    let decided = async |proof| locker.prove(proof).await.expect("it could claim").decided;
    let old = Old::open(SCHEMA, scope.clone()).await;
    let no_tick = None::<DateTime<Utc>>;

    // It leads, and proves as a leader and as a follower.
    let term = old.lead(SCHEMA).await;
    for term in [Some(term), None] {
        old.ask(PROVE, &[&scope, &term, &no_tick]).await;
        assert_eq!(decided(Proof::default()).await, None, "nothing is known");
    }

    // It follows.
    assert_eq!(old.ask(RESIGN, &[&scope, &old.beacon, &term]).await.len(), 1);
    old.client.batch_execute("SELECT pg_advisory_unlock_all()").await.expect("an answer");
    let campaign = new.elector().campaign(Duration::ZERO).await.expect("an answer");
    let Campaign::Won(grant) = campaign else { panic!("nobody leads: {campaign:?}") };
    let nothing = decided(Proof::default()).await.expect("this leader will say it");
    assert_eq!(nothing.mark, 0);
    let says = Proof { term: Some(grant.term), all_decided: true, ..Proof::default() };
    let said = decided(says).await.expect("it says it");
    assert!(said.mark > 0, "{said:?}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    old.ask(PROVE, &[&scope, &None::<i64>, &no_tick]).await;
    for proof in [Proof::default(), Proof { all_decided: false, ..says }] {
        let still = decided(proof).await.expect("it has said it");
        assert!(
            still.mark == said.mark && still.ago >= Duration::from_millis(20),
            "{still:?} after {said:?}"
        );
    }

    // It leads again: what the other one said before is over, and nothing is known.
    new.elector().resign(grant.term).await.expect("an answer");
    locker.close().await;
    let follower = Postgres::new(&scope, server().url()).schema(SCHEMA);
    let locker = follower.locker();
    locker.open().await.expect("a session");
    old.lead(SCHEMA).await;
    let proved = locker.prove(Proof::default()).await.expect("it could claim");
    assert_eq!(proved.decided, None);
}

#[tokio::test]
async fn a_schema_of_the_next_version_is_worked_on_and_a_later_one_refused() {
    let scope = scope("too-new");
    let node = || Postgres::new(&scope, server().url()).schema("too_new");
    node().locker().open().await.expect("it is migrated");
    let client = client("too_new").await;
    let step = "INSERT INTO migrations VALUES ($1, $2, '2030-01-01T00:00:00Z', '1')";
    client.execute(step, &[&2_i32, &"the_next"]).await.expect("it is written");
    for node in [node(), node().migrate(false)] {
        node.locker().open().await.expect("it works on what the next version made");
    }

    client.execute(step, &[&3_i32, &"a_later"]).await.expect("it is written");

    for node in [node(), node().migrate(false)] {
        let refused = node.locker().open().await.expect_err("nobody knows what is in it");
        let LockError::Refused { reason } = &refused else { panic!("{refused:?}") };
        for part in ["\"too_new\"", "V3", "a_later", "V1", "V2 at most", "update this node"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }
}
