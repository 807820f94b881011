//! How the schema comes to the server: by a node, or by the printed statements, or first one and then the
//! other.

#[path = "common/postgres.rs"]
mod harness;

use std::{pin::pin, time::Duration};

use callsheet::{
    Callsheet, Job,
    backend::Postgres,
    port::{Backend, Campaign, LockError},
    schedule::every,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_postgres::Client;

use self::harness::{PASSWORD, connect, scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

async fn admin() -> Client {
    connect(&server().url()).await
}

/// The URL of another role of the same password.
fn url_of(role: &str) -> String {
    server().url().replace("callsheet:", &format!("{role}:"))
}

async fn opens(backend: &Postgres) {
    backend.locker().open().await.expect("a session opens");
}

/// What is in a schema, in words that do not name it.
async fn contents(schema: &str) -> Vec<String> {
    let contents = "
        SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = $1
        UNION ALL SELECT replace(indexdef, $1, '') FROM pg_indexes WHERE schemaname = $1
        UNION ALL SELECT concat_ws(' ', relname, reloptions) FROM pg_class
        WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'
        UNION ALL SELECT conname || replace(pg_get_constraintdef(oid), $1, '') FROM pg_constraint
        WHERE connamespace = $1::text::regnamespace
        ORDER BY 1";
    let admin = admin().await;
    let mut lines: Vec<String> =
        admin.query(contents, &[&schema]).await.expect("an answer").iter().map(|row| row.get(0)).collect();
    let steps =
        format!("SELECT concat_ws(' ', version, name, checksum) FROM {schema}.migrations ORDER BY version");
    lines
        .extend(admin.query(&steps, &[]).await.expect("an answer").iter().map(|row| row.get::<_, String>(0)));
    lines
}

#[tokio::test]
async fn the_printed_statements_make_what_a_node_makes_and_make_it_once() {
    let by_node = Postgres::new(scope("made"), server().url()).schema("made_by_node");
    opens(&by_node).await;
    let printed = Postgres::new("any", "").schema("made_by_hand").ddl();
    let admin = admin().await;
    admin.batch_execute(&printed).await.expect("it is made");

    let made = contents("made_by_node").await;
    assert_eq!(contents("made_by_hand").await, made);
    assert!(made.len() > 20, "{made:?}");
    let again = admin.batch_execute(&printed).await.expect_err("it is there");
    assert!(again.as_db_error().is_some_and(|error| error.message().contains("already exists")), "{again:?}");
    admin.batch_execute("ROLLBACK").await.expect("nothing is left open");
    assert_eq!(contents("made_by_hand").await, made);
}

#[tokio::test]
async fn a_node_waits_for_the_migration_of_another_one() {
    let scope = scope("waiting");
    let other = admin().await;
    other.query(TAKE, &[&"waited_for"]).await.expect("nobody else has it");
    let node = Postgres::new(&scope, server().url()).schema("waited_for");

    let mut opened = pin!(opens(&node));
    let admin = admin().await;
    let waiting = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE application_name LIKE $1 AND locktype = 'advisory' AND NOT granted";
    let id = node.node().expect("the store knows its nodes").as_uuid().simple().to_string();
    let migration = format!("callsheet {} migration % {scope}", &id[..12]);
    let waits = async {
        while admin.query_opt(waiting, &[&migration]).await.expect("an answer").is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = &mut opened => panic!("it did not wait"),
        waits = timeout(DEADLINE, waits) => waits.expect("it waits for the lock"),
    }
    let made = "SELECT FROM pg_namespace WHERE nspname = 'waited_for'";
    assert!(admin.query_opt(made, &[]).await.expect("an answer").is_none(), "it has made nothing yet");
    other.batch_execute("SELECT pg_advisory_unlock_all()").await.expect("an answer");

    opened.await;
}

const TAKE: &str = "SELECT pg_advisory_lock(hashtextextended('callsheet migration ' || $1, 0))";

#[tokio::test]
async fn who_holds_the_lock_of_migrations_keeps_no_node_from_restarting() {
    let scope = scope("restarted");
    let node = || Postgres::new(&scope, server().url()).schema("restarted");
    opens(&node()).await;
    let stranger = admin().await;
    stranger.query(TAKE, &[&"restarted"]).await.expect("nobody else has it");

    opens(&node()).await;
}

#[tokio::test]
async fn who_keeps_a_node_from_migrating_is_named() {
    let (scope, admin) = (scope("unmade"), admin().await);
    let role = format!("CREATE ROLE blocker LOGIN PASSWORD '{PASSWORD}'");
    admin.batch_execute(&role).await.expect("it is made");
    let stranger = connect(&url_of("blocker")).await;
    let pid: i32 = stranger.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0);
    let node = Postgres::new(&scope, server().url()).schema("unmade");

    // Shared or not.
    for take in [TAKE.to_owned(), TAKE.replace("lock(", "lock_shared(")] {
        stranger.query(&take, &[&"unmade"]).await.expect("nobody else has it");
        let refused = node.locker().open().await.expect_err("it must make the schema");

        let LockError::Unavailable { reason } = &refused else { panic!("{refused:?}") };
        let named = format!("process {pid} of the server (role \"blocker\"");
        let cure = format!("SELECT pg_terminate_backend({pid})");
        assert!(reason.contains(&named) && reason.contains(&cure), "{reason}");
        stranger.batch_execute("SELECT pg_advisory_unlock_all()").await.expect("an answer");
    }
    opens(&node).await;
}

#[tokio::test]
async fn the_schema_of_another_build_is_refused_with_the_cure() {
    let scope = scope("divergent");
    let node = || Postgres::new(&scope, server().url()).schema("divergent");
    opens(&node()).await;
    let other = "UPDATE divergent.migrations SET checksum = '1'";
    admin().await.batch_execute(other).await.expect("it is changed");

    let refused = node().locker().open().await.expect_err("nobody knows what is in it");

    let LockError::Refused { reason } = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("another build of Callsheet"), "{reason}");
    assert!(reason.contains("DROP SCHEMA \"divergent\" CASCADE"), "{reason}");
}

#[tokio::test]
async fn a_history_of_migrations_that_cannot_be_read_is_an_error_with_the_cure() {
    // A step that is not this one's as well: the library reads a history only if it may have something to do.
    let changes = [
        "applied_on = 'yesterday', name = 'other'",
        "checksum = 'none'",
        "applied_on = NULL, name = 'other'",
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let (scope, schema) = (scope("unreadable"), format!("unreadable_{nth}"));
        let node = || Postgres::new(&scope, server().url()).schema(&schema);
        opens(&node()).await;
        let changed = format!("UPDATE {schema}.migrations SET {change}");
        admin().await.batch_execute(&changed).await.expect("it is changed");

        // The library panics over it.
        let refused = node().locker().open().await.expect_err("nobody knows what is in it");

        let LockError::Refused { reason } = &refused else { panic!("{refused:?}") };
        let named = format!("the migration library panicked over the schema \"{schema}\"");
        assert!(reason.contains(&named), "{change}: {reason}");
        assert!(reason.contains(&format!("look at \"{schema}\".migrations")), "{change}: {reason}");
    }
}

#[tokio::test]
async fn a_role_with_rights_on_the_tables_alone_works_and_migrates() {
    let roles = format!(
        "CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}';
         CREATE ROLE worker LOGIN PASSWORD '{PASSWORD}';
         GRANT CREATE ON DATABASE postgres TO keeper"
    );
    admin().await.batch_execute(&roles).await.expect("roles");
    let keeper = connect(&url_of("keeper")).await;
    let printed = Postgres::new("any", "").schema("kept").ddl();
    let grants = printed
        .lines()
        .filter_map(|line| line.strip_prefix("--   GRANT"))
        .map(|grant| format!("GRANT{grant}"));
    let grants: String = grants.collect::<String>().replace("<role>", "worker");
    keeper.batch_execute(&printed).await.expect("it is made");
    keeper.batch_execute(&grants).await.expect("rights are given");
    let (ran, mut runs) = mpsc::unbounded_channel();
    let job = Job::new("tick", every(Duration::from_millis(100))).run_with(ran, async |_, ran| {
        let _ = ran.send(());
    });

    let scope = scope("worker");
    let worker = Postgres::new(&scope, url_of("worker")).schema("kept").migrate(false);
    let jobs = Callsheet::builder().backend(worker).job(job).start().await.expect("it starts");
    timeout(DEADLINE, runs.recv()).await.expect("it runs").expect("jobs run");
    jobs.shutdown(Duration::from_secs(5)).await;

    let before = contents("kept").await;
    opens(&Postgres::new(&scope, url_of("keeper")).schema("kept")).await;
    assert_eq!(contents("kept").await, before);
    let cursors = admin().await.query("SELECT FROM kept.names", &[]).await.expect("an answer");
    assert_eq!(cursors.len(), 1, "the job is still known");
}

#[tokio::test]
async fn an_older_node_beside_a_newer_one_leaves_its_schema_alone() {
    let scope = scope("newer");
    opens(&Postgres::new(&scope, server().url()).schema("newer")).await;
    let newer = "ALTER TABLE newer.names ADD COLUMN note text;
                 CREATE TABLE newer.notes (note text);
                 INSERT INTO newer.migrations VALUES (2, 'notes', '2030-01-01T00:00:00Z', '1')";
    admin().await.batch_execute(newer).await.expect("it is changed");
    let before = contents("newer").await;

    let older = Postgres::new(&scope, server().url()).schema("newer");
    opens(&older).await;
    let campaign = older.elector().campaign(Duration::MAX).await.expect("an answer");

    assert!(matches!(campaign, Campaign::Won(_)), "{campaign:?}");
    assert_eq!(contents("newer").await, before);
}

#[tokio::test]
async fn a_schema_may_have_the_name_of_a_word_of_the_language() {
    for schema in ["user", "1st"] {
        opens(&Postgres::new(scope("quoted"), server().url()).schema(schema)).await;
    }
}
