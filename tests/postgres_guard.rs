//! What a run writes under a guard is refused once the run has lost its key, and the key waits for what is
//! under way.

#[path = "common/postgres.rs"]
mod harness;

use std::{sync::Arc, time::Duration};

use callsheet::{
    Callsheet, Fires, Job, JobName, LockKey, NodeId, Outcome, Run, RunId, RunResult,
    backend::Postgres,
    port::{Backend, ClaimRequest, Completed, Completion, Locker, Verdict},
    postgres::{Guard, GuardError},
    schedule::every,
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The application's table, of the test's own.
async fn table(test: &str) -> String {
    let table = format!("effects_{test}");
    connect().await.batch_execute(&format!("CREATE TABLE {table} (token bigint)")).await.expect("a table");
    table
}

async fn written(table: &str) -> Vec<i64> {
    let rows = connect().await.query(&format!("SELECT token FROM {table} ORDER BY token"), &[]).await;
    rows.expect("an answer").iter().map(|row| row.get(0)).collect()
}

/// What the body of a job is told; one run at a time listens.
type Told = Arc<Mutex<mpsc::UnboundedReceiver<Step>>>;

/// What a body does, when it is told to.
enum Step {
    Write(oneshot::Sender<Result<(), GuardError>>),
    /// Tells that the guard holds, then waits before it commits.
    WriteSlowly(oneshot::Sender<()>, oneshot::Receiver<()>),
    End,
}

async fn write(run: &Run, table: &str) -> Result<(), GuardError> {
    let mut client = connect().await;
    let transaction = client.transaction().await.expect("a transaction");
    insert(run, table, &transaction).await;
    run.guard(&transaction).await?;
    transaction.commit().await.expect("it is committed");
    Ok(())
}

async fn insert(run: &Run, table: &str, transaction: &tokio_postgres::Transaction<'_>) {
    let token = i64::try_from(run.token().map_or(0, |token| token.0)).expect("a small token");
    transaction.execute(&format!("INSERT INTO {table} VALUES ($1)"), &[&token]).await.expect("it is written");
}

async fn body(run: Run, (table, steps): (String, Told)) -> RunResult {
    let mut steps = steps.lock().await;
    while let Some(step) = steps.recv().await {
        match step {
            Step::Write(answer) => drop(answer.send(write(&run, &table).await)),
            Step::WriteSlowly(guarded, go_on) => {
                let mut client = connect().await;
                let transaction = client.transaction().await?;
                run.guard(&transaction).await?;
                insert(&run, &table, &transaction).await;
                guarded.send(()).expect("the test waits");
                go_on.await?;
                transaction.commit().await?;
            }
            Step::End => break,
        }
    }
    Ok(())
}

/// A node with one run, which does what it is told.
struct Guarded {
    jobs: Callsheet,
    scope: String,
    node: NodeId,
    table: String,
    steps: mpsc::UnboundedSender<Step>,
}

impl Guarded {
    async fn start(test: &str, fires: Fires) -> Self {
        let (scope, table) = (scope(test), table(test).await);
        let (steps, told) = mpsc::unbounded_channel();
        let told = Arc::new(Mutex::new(told));
        let job = Job::new("job", every(Duration::from_hours(1)))
            .fires(fires)
            .run_with((table.clone(), told), body);
        let backend = Postgres::new(&scope, server().url());
        let node = backend.node().expect("the store knows its nodes");
        let jobs = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
        jobs.trigger("job").await.expect("it runs");
        Self { jobs, scope, node, table, steps }
    }

    fn tell(&self, step: Step) {
        self.steps.send(step).expect("the body listens");
    }

    async fn write(&self) -> Result<(), GuardError> {
        let (answer, answered) = oneshot::channel();
        self.tell(Step::Write(answer));
        timeout(DEADLINE, answered).await.expect("the body answers").expect("the body lives")
    }

    /// Ends the node's connections, as a fault of the network does.
    async fn cut(&self) {
        let cut = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
                   WHERE application_name LIKE 'callsheet ' || $1 || ' session %'";
        let node = self.node.as_uuid().simple().to_string();
        let ended = connect().await.query_one(cut, &[&&node[..12]]).await.expect("an answer");
        assert_eq!(ended.get::<_, i64>(0), 1);
    }
}

/// Another node of the scope, which wants the key.
async fn another(scope: &str) -> Arc<dyn Locker> {
    let locker = Postgres::new(scope, server().url()).locker();
    locker.open().await.expect("a session opens");
    locker
}

async fn claim(locker: &dyn Locker, run: RunId) -> Verdict {
    let (job, key) = (JobName::new("job").expect("a name"), LockKey::new("job").expect("a key"));
    let claim = ClaimRequest::new(job, key, run);
    locker.claim(&[claim]).await.expect("an answer").pop().expect("one verdict")
}

fn run_id() -> RunId {
    RunId::from(NodeId::random().as_uuid())
}

#[tokio::test]
async fn a_current_run_writes_and_one_whose_key_was_stolen_does_not() {
    let guarded = Guarded::start("stolen", Fires::Leader).await;
    let thief = another(&guarded.scope).await;
    guarded.write().await.expect("the run holds its key");
    let first = written(&guarded.table).await;
    assert_eq!(first.len(), 1);

    guarded.cut().await;
    let stolen = claim(&*thief, run_id()).await;
    let Verdict::Granted { token, lost: Some(_) } = stolen else { panic!("{stolen:?}") };
    let refused = guarded.write().await;

    assert!(matches!(refused, Err(GuardError::Stale { .. })), "{refused:?}");
    assert_eq!(written(&guarded.table).await, first, "nothing of it is left");
    assert!(i64::try_from(token.0).expect("a small token") > first[0]);
    guarded.tell(Step::End);
    guarded.jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_key_is_not_taken_over_while_a_guarded_transaction_is_open() {
    let guarded = Guarded::start("open", Fires::Leader).await;
    let thief = another(&guarded.scope).await;
    let (holds, guard_holds) = oneshot::channel();
    let (go_on, told) = oneshot::channel();
    guarded.tell(Step::WriteSlowly(holds, told));
    timeout(DEADLINE, guard_holds).await.expect("the guard answers").expect("the body lives");
    let move_cursor =
        "SELECT FROM callsheet.names WHERE scope = $1 AND name = 'job' FOR NO KEY UPDATE NOWAIT";
    connect().await.execute(move_cursor, &[&guarded.scope]).await.expect("the job's cursor moves on");

    guarded.cut().await;
    let run = run_id();
    let early = claim(&*thief, run).await;
    go_on.send(()).expect("the body waits");
    let stolen = async {
        loop {
            match claim(&*thief, run).await {
                Verdict::Granted { token, .. } => return token,
                Verdict::Locked { .. } => sleep(Duration::from_millis(5)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    let token = timeout(DEADLINE, stolen).await.expect("it is granted once the transaction has ended");

    assert!(matches!(early, Verdict::Locked { .. }), "{early:?}");
    let [written] = written(&guarded.table).await[..] else { panic!("the write is lost") };
    assert!(i64::try_from(token.0).expect("a small token") > written);
    guarded.tell(Step::End);
    guarded.jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_run_without_a_claim_is_told_so() {
    let guarded = Guarded::start("unclaimed", Fires::Local).await;
    let refused = guarded.write().await;
    assert!(matches!(refused, Err(GuardError::Unclaimed { .. })), "{refused:?}");
    guarded.tell(Step::End);
    guarded.jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_stolen_key_cannot_be_completed() {
    let scope = scope("complete");
    let (victim, thief) = (another(&scope).await, another(&scope).await);
    let run = run_id();
    let Verdict::Granted { token, .. } = claim(&*victim, run).await else { panic!("nobody has it") };
    // The session ends, and the same node opens another one.
    victim.open().await.expect("a session opens");
    let taken_over = async {
        while !matches!(claim(&*thief, run_id()).await, Verdict::Granted { lost: Some(_), .. }) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, taken_over).await.expect("the key of a dead session is granted");

    let (job, key) = (JobName::new("job").expect("a name"), LockKey::new("job").expect("a key"));
    let end = Completion::new(job, key, run, token, Outcome::Succeeded);
    let completed = victim.complete(&[end]).await.expect("an answer");

    assert_eq!(completed, [Completed::Stale]);
    let outcome = connect()
        .await
        .query_one("SELECT outcome FROM callsheet.runs WHERE run = $1", &[&run.as_uuid()])
        .await;
    assert_eq!(outcome.expect("a row").get::<_, &str>(0), "lost");
}
