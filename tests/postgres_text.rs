//! Whatever somebody writes reaches the tables, or is refused alone: no text, and no rule of the database,
//! keeps a job from running that it does not concern.

#[path = "common/postgres.rs"]
mod harness;

use std::{fmt, sync::Arc, time::Duration};

use callsheet::{
    Callsheet, Error, EventFilter, EventKind, EventName, FencingToken, FireTime, Fires, Job, JobName,
    JobState, LockKey, NodeId, OnLost, Outcome, Overlap, Pause, PauseJobs, RunError, RunId, SkipReason, Term,
    TriggerError,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completion, Enrolled, Enrolment, Inquiry, LockError,
        Schedule, ScheduleIdentity, Skips, TickClaim, Verdict,
    },
    schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls, types::ToSql};

use self::harness::{PASSWORD, Server, scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);
/// What waits for a state looks this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn admin() -> Client {
    connect(&server().url()).await
}

/// A schema of the test's own: what it does to the tables concerns nobody else.
fn backend(schema: &str) -> Postgres {
    Postgres::new(scope(schema), server().url()).schema(schema)
}

/// A job that says when it runs.
fn job(name: &str, ran: &mpsc::UnboundedSender<String>) -> Job {
    let ran = ran.clone();
    Job::new(name, every(Duration::from_millis(100))).run_with(ran, async |run, ran| {
        // An error: the test is over.
        let _ = ran.send(run.job().to_string());
    })
}

/// Waits until a job has run so often from now on.
async fn runs(ran: &mut mpsc::UnboundedReceiver<String>, name: &str, times: usize) {
    while ran.try_recv().is_ok() {}
    let waited = timeout(DEADLINE, async {
        let mut left = times;
        while left > 0 {
            left -= usize::from(ran.recv().await.expect("the job lives") == name);
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{name} does not run"));
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let looked = timeout(DEADLINE, async {
        while !is().await {
            sleep(LOOK_AGAIN).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

async fn state(node: &Callsheet, job: &str) -> JobState {
    node.details(job).await.expect("it is there").state
}

async fn is_true(client: &Client, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> bool {
    client.query_one(query, parameters).await.expect("an answer").get(0)
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused() {
    let admin = admin().await;
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = encoding.to_lowercase();
        let create = format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        admin.batch_execute(&create).await.expect("a database");
        let url = server().url().replace("/postgres", &format!("/{name}"));

        let refused = Postgres::new(scope("encoding"), &url).locker().open().await;

        let Err(LockError::Refused { reason }) = refused else { panic!("{encoding}: {refused:?}") };
        assert_eq!(
            reason,
            format!(
                "the encoding of the database is {encoding}, in which not every name can be written; it must be UTF8: create a \
                 database with ENCODING 'UTF8' TEMPLATE template0, and name it in the URL"
            )
        );
        let tables = "SELECT count(*) = 0 FROM pg_namespace WHERE nspname = 'callsheet'";
        assert!(is_true(&connect(&url).await, tables, &[]).await, "nothing was made there");
    }
}

#[tokio::test]
async fn the_encoding_that_a_role_prefers_does_not_matter() {
    let role = format!(
        "CREATE ROLE latin LOGIN SUPERUSER PASSWORD '{PASSWORD}'; ALTER ROLE latin SET client_encoding = 'LATIN1'"
    );
    admin().await.batch_execute(&role).await.expect("a role");
    let url = server().url().replace("callsheet:", "latin:");
    let backend = Postgres::new(scope("latin"), &url).schema("latin");
    let locker = backend.locker();
    locker.open().await.expect("the connection says what it speaks");

    let job = JobName::new("日報").expect("a name");
    let enrolled =
        locker.enrol(&[Enrolment::new(job, ScheduleIdentity::of_text("täglich"), Authority::Any)]).await;

    assert!(matches!(enrolled.as_deref(), Ok([Enrolled::Done { .. }])), "{enrolled:?}");
}

/// Its words hold NUL.
#[derive(Debug)]
struct Nul;

impl fmt::Display for Nul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every\0tenth")
    }
}

impl Schedule for Nul {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let millis = after.timestamp_millis().div_euclid(100) * 100 + 100;
        DateTime::from_timestamp_millis(millis)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(self.next_after(before)? - TimeDelta::milliseconds(200))
    }
}

#[tokio::test]
async fn a_schedule_whose_words_hold_nul_keeps_no_job_from_running() {
    let (say, mut ran) = mpsc::unbounded_channel();
    let odd = Job::new("odd", Arc::new(Nul) as Arc<dyn Schedule>).run_with(say.clone(), async |run, ran| {
        let _ = ran.send(run.job().to_string());
    });
    let node = Callsheet::builder().backend(backend("nul")).job(odd).job(job("plain", &say)).start().await;
    let node = node.expect("it starts");

    runs(&mut ran, "plain", 3).await;
    runs(&mut ran, "odd", 3).await;

    let shown = node.details("odd").await.expect("it is there");
    assert_eq!(&*shown.schedule, "every\u{fffd}tenth");
    assert_ne!(shown.state, JobState::Parked);
    node.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn a_text_with_nul_tells_one_schedule_from_another() {
    let backend = backend("same");
    let locker = backend.locker();
    locker.open().await.expect("a session");
    let enrolment = |schedule: &str| {
        Enrolment::new(
            JobName::new("job").expect("a name"),
            ScheduleIdentity::of_text(schedule),
            Authority::Any,
        )
    };
    let cursor = async |schedule: &str| match locker.enrol(&[enrolment(schedule)]).await.as_deref() {
        Ok([Enrolled::Done { cursor, .. }]) => *cursor,
        other => panic!("{other:?}"),
    };

    let first = cursor("a\0b").await;

    assert_eq!(cursor("a\0b").await, first, "it is the same schedule");
    assert!(cursor("ab").await > first, "it is another one");
    let inquiry =
        Inquiry { job: JobName::new("job").expect("a name"), schedule: ScheduleIdentity::of_text("a\0b") };
    locker.inquire(&[inquiry]).await.expect("an answer");
}

#[tokio::test]
async fn a_body_that_stops_its_job_with_nul_stops_it_for_good() {
    let scope = scope("stops");
    let backend = || Postgres::new(&scope, server().url()).schema("stops");
    let stops = || {
        Job::new("stops", every(Duration::from_millis(100)))
            .run(async |_| Err::<(), _>(RunError::stop("a\0b")))
    };
    let node = Callsheet::builder().backend(backend()).job(stops()).start().await.expect("it starts");

    let admin = admin().await;
    let paused = "SELECT count(*) = 1 FROM stops.names WHERE paused AND pause_note = $1";
    let note: &(dyn ToSql + Sync) = &"stopped by its body: a\u{fffd}b";
    until("the store knows", async || is_true(&admin, paused, &[note]).await).await;
    until("the node knows", async || state(&node, "stops").await == JobState::Paused).await;
    node.shutdown(DEADLINE).await;

    let runs = "SELECT count(*) FROM stops.all_runs";
    let before: i64 = admin.query_one(runs, &[]).await.expect("an answer").get(0);
    let node = Callsheet::builder().backend(backend()).job(stops()).start().await.expect("it starts");
    until("it is paused", async || state(&node, "stops").await == JobState::Paused).await;
    sleep(Duration::from_millis(500)).await;
    let after: i64 = admin.query_one(runs, &[]).await.expect("an answer").get(0);
    assert_eq!(after, before, "it does not fire after a restart either");
    node.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn the_note_of_a_pause_may_hold_nul_and_is_as_long_as_it_is_stored() {
    let (say, _ran) = mpsc::unbounded_channel();
    let scope = scope("notes");
    let backend = || Postgres::new(&scope, server().url()).schema("notes");
    let node = || Callsheet::builder().backend(backend()).job(job("job", &say)).start();
    let (first, second) = (node().await.expect("it starts"), node().await.expect("it starts"));
    let pause = async |note: String| {
        let pause = PauseJobs::new("job").note(note);
        first.supervisor().send(pause).await.expect("it runs")
    };
    until("it is enrolled", async || state(&first, "job").await == JobState::Scheduled).await;

    let paused = pause("do\0not".to_owned()).await.expect("it is paused");

    assert_eq!(paused.len(), 1);
    let note = |status: Option<Pause>| status.and_then(|pause| pause.note);
    until("the other node heard the same", async || {
        let status = second.details("job").await.expect("it is there");
        note(status.pause).as_deref() == Some("do\u{fffd}not")
    })
    .await;
    // A NUL has one byte, what takes its place three.
    pause("\0".repeat(333)).await.expect("999 bytes");
    pause("\0".repeat(334)).await.expect_err("1,002 bytes");
    first.shutdown(DEADLINE).await;
    second.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn a_job_that_breaks_a_rule_of_the_table_is_parked_and_the_others_run_on() {
    let (say, mut ran) = mpsc::unbounded_channel();
    let names = ["bad", "good", "better"];
    let node = Callsheet::builder().backend(backend("rules")).jobs(names.map(|name| job(name, &say)));
    let node = node.start().await.expect("it starts");
    let mut events = node.events(EventFilter::new().kinds([EventName::JobParked, EventName::TickSkipped]));
    runs(&mut ran, "bad", 2).await;
    let admin = admin().await;
    // Updates of that row only, and not those that leave the number of its runs alone.
    let rule = "ALTER TABLE rules.names ADD CONSTRAINT few CHECK (name <> 'bad' OR runs < 1) NOT VALID";
    admin.batch_execute(rule).await.expect("a rule");

    until("it is parked", async || state(&node, "bad").await == JobState::Parked).await;

    runs(&mut ran, "good", 3).await;
    runs(&mut ran, "better", 3).await;
    let said = timeout(DEADLINE, async {
        loop {
            match events.next().await.expect("it runs").kind {
                EventKind::JobParked { job, reason } => break (job, reason),
                _ => continue,
            }
        }
    });
    let (parked, reason) = said.await.expect("it is said");
    assert_eq!(parked.as_str(), "bad");
    assert!(reason.contains("few") && reason.ends_with("(23514)"), "{reason}");
    let skipped = timeout(DEADLINE, async {
        loop {
            if let EventKind::TickSkipped { job, reason: SkipReason::Parked, .. } =
                events.next().await.expect("it runs").kind
            {
                break job;
            }
        }
    });
    assert_eq!(skipped.await.expect("its ticks are skipped as such").as_str(), "bad");
    let refused = node.trigger("bad").await;
    assert!(matches!(refused, Err(Error::Trigger(TriggerError::Parked { .. }))), "{refused:?}");

    admin.batch_execute("ALTER TABLE rules.names DROP CONSTRAINT few").await.expect("no rule");
    node.resume("bad").await.expect("it is tried again");
    runs(&mut ran, "bad", 2).await;
    assert_ne!(state(&node, "bad").await, JobState::Parked);
    node.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn an_end_that_cannot_be_recorded_frees_its_key() {
    let (say, mut ran) = mpsc::unbounded_channel();
    let node =
        Callsheet::builder().backend(backend("ends")).jobs(["bad", "good"].map(|name| job(name, &say)));
    let node = node.start().await.expect("it starts");
    runs(&mut ran, "bad", 1).await;
    let admin = admin().await;
    let rule = "ALTER TABLE ends.runs ADD CONSTRAINT others CHECK (job <> 'bad') NOT VALID";
    admin.batch_execute(rule).await.expect("a rule");

    until("it is parked", async || state(&node, "bad").await == JobState::Parked).await;

    runs(&mut ran, "good", 5).await;
    let free = "SELECT run IS NULL FROM ends.names WHERE name = 'bad'";
    assert!(is_true(&admin, free, &[]).await, "its key is free");
    let status = node.details("bad").await.expect("it is there");
    let reason = status.parked.expect("a reason");
    assert!(reason.contains("the end of its run") && reason.contains("23514"), "{reason}");
    node.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn a_lost_run_that_cannot_be_recorded_keeps_no_other_one_open() {
    let scope = scope("lost");
    let node = || Postgres::new(&scope, server().url()).schema("lost");
    let (dead, heir) = (node(), node());
    let (dead, heir) = (dead.locker(), heir.locker());
    dead.open().await.expect("a session");
    let names = ["a", "bad", "y", "z"];
    let claims = names.map(|name| {
        let (job, key) = (JobName::new(name).expect("a name"), LockKey::new(name).expect("a key"));
        ClaimRequest::new(job, key, RunId::from(NodeId::random().as_uuid()))
    });
    let granted = dead.claim(&claims).await.expect("an answer");
    assert!(granted.iter().all(|verdict| matches!(verdict, Verdict::Granted { .. })), "{granted:?}");
    dead.close().await;
    let admin = admin().await;
    let rule = "ALTER TABLE lost.runs ADD CONSTRAINT others CHECK (job <> 'bad') NOT VALID";
    admin.batch_execute(rule).await.expect("a rule");
    heir.open().await.expect("a session");
    let closed = async || -> Vec<String> {
        let closed = heir.close_lost(10).await.expect("an answer");
        closed.lost.iter().map(|lost| lost.job.to_string()).collect()
    };

    assert_eq!(closed().await, ["a", "y", "z"]);
    assert_eq!(closed().await, [""; 0]);

    admin.batch_execute("ALTER TABLE lost.runs DROP CONSTRAINT others").await.expect("no rule");
    assert_eq!(closed().await, ["bad"]);
}

#[tokio::test]
async fn a_full_disk_parks_nobody_and_is_not_asked_again_and_again() {
    let (say, mut ran) = mpsc::unbounded_channel();
    let names: Vec<String> = (0..20).map(|nth| format!("job {nth:02}")).collect();
    let node = Callsheet::builder().backend(backend("disk")).jobs(names.iter().map(|name| job(name, &say)));
    let node = node.start().await.expect("it starts");
    runs(&mut ran, "job 19", 1).await;
    let admin = admin().await;
    // What a sequence counts is not undone.
    let full = "
        CREATE SEQUENCE disk.attempts;
        CREATE FUNCTION disk.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM nextval('disk.attempts');
            RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full';
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON disk.names FOR EACH STATEMENT EXECUTE FUNCTION disk.refuse();
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON disk.runs FOR EACH STATEMENT EXECUTE FUNCTION disk.refuse()";
    admin.batch_execute(full).await.expect("a trigger");

    sleep(Duration::from_secs(5)).await;
    let attempts = async || -> i64 {
        admin.query_one("SELECT last_value FROM disk.attempts", &[]).await.expect("an answer").get(0)
    };
    let before = attempts().await;
    sleep(Duration::from_secs(3)).await;
    let a_second = (attempts().await - before) / 3;

    // Each job asks by itself at most every 4 s by now, all of them and the ends together: a few statements.
    assert!(a_second <= 20, "{a_second} statements a second");
    for name in &names {
        assert_ne!(state(&node, name).await, JobState::Parked, "{name}");
    }
    let free = "DROP TRIGGER refuse ON disk.names; DROP TRIGGER refuse ON disk.runs";
    admin.batch_execute(free).await.expect("no trigger");
    for name in &names {
        runs(&mut ran, name, 1).await;
    }
    node.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn a_server_that_turns_read_only_parks_nobody() {
    let own = Server::start();
    let (say, mut ran) = mpsc::unbounded_channel();
    let backend = Postgres::new(scope("read-only"), own.url());
    let node = Callsheet::builder().backend(backend).job(job("job", &say)).start().await.expect("it starts");
    runs(&mut ran, "job", 1).await;
    let admin = connect(&own.url()).await;
    for set in ["SET default_transaction_read_only = on", "RESET default_transaction_read_only"] {
        // Not in one call: that would be one transaction.
        admin.batch_execute("SET default_transaction_read_only = off").await.expect("an answer");
        admin.batch_execute(&format!("ALTER SYSTEM {set}")).await.expect("an answer");
        admin.batch_execute("SELECT pg_reload_conf()").await.expect("an answer");
        sleep(Duration::from_secs(2)).await;
        assert_ne!(state(&node, "job").await, JobState::Parked);
    }

    runs(&mut ran, "job", 2).await;
    node.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn names_as_long_as_they_may_be_have_their_places_in_every_index() {
    let (say, mut ran) = mpsc::unbounded_channel();
    // Three bytes each.
    let name: String = "報".repeat(66);
    let (name, key) = (format!("{name}ab"), format!("{name}ba"));
    assert_eq!((name.len(), key.len()), (200, 200));
    let scope = format!("{}{}", "s".repeat(80), scope("names-of-full-size"));
    let backend = Postgres::new(&scope[scope.len() - 100..], server().url()).schema("long");
    let long = job(&name, &say).lock_key(key).overlap(Overlap::Allow(64)).on_lost(OnLost::Retry);
    let any =
        job(&name.replace("ab", "cd"), &say).fires(Fires::AnyNode).limit(u64::MAX).pause_after(u32::MAX);
    let node = Callsheet::builder().backend(backend).jobs([long, any]).start().await.expect("it starts");

    runs(&mut ran, &name, 3).await;
    runs(&mut ran, &name.replace("ab", "cd"), 3).await;
    node.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn numbers_and_instants_at_their_bounds_are_answered_or_refused_alone() {
    let backend = backend("bounds");
    let locker = backend.locker();
    locker.open().await.expect("a session");
    let Ok(Campaign::Won(grant)) = backend.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let name = |name: &str| JobName::new(name).expect("a name");
    let manual = |job: &str| {
        let run = RunId::from(NodeId::random().as_uuid());
        ClaimRequest::new(name(job), LockKey::new(job).expect("a key"), run)
    };
    let held_for_ever = |job: &str| {
        let mut enrolment =
            Enrolment::new(name(job), ScheduleIdentity::of_text("words"), Authority::Term(grant.term));
        enrolment.known_for = Duration::MAX;
        enrolment
    };
    let enrolled = locker.enrol(&[held_for_ever("a"), held_for_ever("b")]).await.expect("an answer");
    let cursors: Vec<_> = enrolled
        .iter()
        .map(|enrolled| match enrolled {
            Enrolled::Done { cursor, .. } => *cursor,
            other => panic!("{other:?}"),
        })
        .collect();
    let tick = |fire_time: DateTime<Utc>, expected, term| {
        let authority = Authority::Term(term);
        let fire_time = FireTime::new(fire_time);
        let skips = Skips::default();
        Some(TickClaim { fire_time, expected, skips, authority })
    };
    let claim = |job: &str, tick| ClaimRequest { tick, limit: Some(u64::MAX), ..manual(job) };

    let far = claim("a", tick(DateTime::<Utc>::MAX_UTC, cursors[0], grant.term));
    let deposed = claim("b", tick(cursors[1] + TimeDelta::milliseconds(1), cursors[1], Term(u64::MAX)));
    let verdicts = locker.claim(&[far, deposed]).await.expect("an answer");
    assert!(matches!(verdicts[..], [Verdict::NotYet { .. }, Verdict::Deposed { .. }]), "{verdicts:?}");

    // The server's calendar begins in the year 4713 before Christ.
    let early = claim("a", tick(DateTime::<Utc>::MIN_UTC, cursors[0], grant.term));
    let good = manual("b");
    let refused = locker.claim(&[early.clone(), good.clone()]).await;
    let Err(LockError::BadData { reason }) = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("22008"), "{reason}");
    let granted = locker.claim(std::slice::from_ref(&good)).await.expect("an answer");
    assert!(matches!(granted[..], [Verdict::Granted { .. }]), "nothing was done before: {granted:?}");

    let key = LockKey::new("b").expect("a key");
    let token = FencingToken(u64::MAX);
    let end = Completion {
        pause_after: Some(u32::MAX),
        ..Completion::new(name("b"), key, good.run, token, Outcome::Failed)
    };
    locker.complete(std::slice::from_ref(&end)).await.expect("it is stale, and no error");
    let for_ever = Pause::until(DateTime::<Utc>::MAX_UTC).note("\u{1}".repeat(1_000));
    let paused = locker.pause(&[name("a")], Some(&for_ever)).await.expect("an answer");
    assert_eq!(paused, [true]);
    let again = locker.enrol(&[held_for_ever("a")]).await.expect("an answer");
    let [Enrolled::Done { stored, .. }] = &again[..] else { panic!("{again:?}") };
    let stored = stored.pause.clone().expect("it is paused");
    assert_eq!(stored.note, for_ever.note);
    assert!(stored.until > Some(Utc::now()));
}
