//! A job gets another name while nodes of both versions run: it goes on as one job.

use std::sync::Mutex;

use callsheet::{Callsheet, Job, JobStatus, schedule::every};

use super::*;

const OLD: &str = "cleanup";
const NEW: &str = "sweep";

/// A run: the name of its job, its fire time and its token.
type Ran = (&'static str, DateTime<Utc>, FencingToken);

/// The runs of the job, under whichever name.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Vec<Ran>>>);

impl Runs {
    fn job(&self, name: &'static str) -> Job {
        let runs = self.clone();
        let job = Job::new(name, every(Duration::from_millis(200))).run(move |run| {
            let ran = (name, run.fire_time().expect("a tick"), run.token().expect("it is claimed"));
            runs.0.lock().expect("nobody panicked").push(ran);
            async {}
        });
        if name == NEW { job.formerly(OLD) } else { job }
    }

    async fn node(&self, scope: &str, name: &'static str) -> Callsheet {
        let backend = Postgres::new(scope, server().url());
        Callsheet::builder()
            .backend(backend)
            .connect_timeout(DEADLINE)
            .job(self.job(name))
            .start()
            .await
            .expect("it starts")
    }

    /// Until so many more runs have begun under a name.
    async fn go_on(&self, name: &str) {
        let count =
            || self.0.lock().expect("nobody panicked").iter().filter(|(job, ..)| *job == name).count();
        let enough = count() + 3;
        let goes_on = async {
            while count() < enough {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, goes_on).await.unwrap_or_else(|_| panic!("{name} does not run"));
    }
}

/// What a node says of a job that waits for its other name.
async fn waits(node: &Callsheet, name: &str) -> JobStatus {
    let waits = async {
        loop {
            let status = node.details(name).await.expect("it is there");
            if status.conflicting.is_some() {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, waits).await.expect("it says so")
}

#[tokio::test]
async fn a_job_is_renamed_by_a_rolling_deploy_and_back() {
    let (scope, runs) = (scope("renamed"), Runs::default());
    let old = runs.node(&scope, OLD).await;
    runs.go_on(OLD).await;
    let new = runs.node(&scope, NEW).await;
    let reason = waits(&new, NEW).await.conflicting.expect("a reason");
    let leader = old.health().await.expect("it runs").node.to_string();
    assert!(reason.contains("\"cleanup\"") && reason.contains(&leader), "{reason}");

    old.shutdown(DEADLINE).await;
    runs.go_on(NEW).await;
    let back = runs.node(&scope, OLD).await;
    let reason = waits(&back, OLD).await.conflicting.expect("a reason");
    assert!(reason.contains("\"sweep\""), "{reason}");
    new.shutdown(DEADLINE).await;
    runs.go_on(OLD).await;
    back.shutdown(DEADLINE).await;

    let runs = runs.0.lock().expect("nobody panicked");
    for pair in runs.windows(2) {
        let [(_, tick, token), (_, next, greater)] = pair else { unreachable!() };
        assert!(next > tick && greater > token, "each tick once, with a greater token: {pair:?}");
    }
}

fn renamed(job: &str, former: &str) -> Enrolment {
    let mut enrolment = enrolment(job, Authority::Any);
    enrolment.formerly = Some(name(former));
    enrolment
}

/// A move is a statement of its own.
#[tokio::test]
async fn whoever_comes_after_a_node_that_died_with_a_move_goes_on() {
    let nodes = Nodes::of("died-with-a-move").await;
    let node = nodes.open().await;
    let cursor = node.enrol(enrolment(OLD, Authority::Any)).await;
    node.locker.close().await;
    let moves = "SELECT answer FROM callsheet.take_over($1, 'sweep', 'cleanup', 'sweep', 1, 0)";
    let moved = nodes.admin.query_one(moves, &[&nodes.scope]).await.expect("an answer");
    assert_eq!(moved.get::<_, &str>("answer"), "moved");

    let next = nodes.open().await;
    let renamed = renamed(NEW, OLD);
    assert_eq!(next.enrol(renamed).await, cursor, "one of the new version");
    assert_eq!(next.enrol(enrolment(OLD, Authority::Any)).await, cursor, "one of the old version");
}

/// One of them has what is kept, and the other one waits for it.
#[tokio::test]
async fn of_two_names_that_are_enrolled_at_once_one_is_taken() {
    let nodes = Nodes::of("two-names-at-once").await;
    let (one, two) = (nodes.open().await, nodes.open().await);
    let decided = async |node: &Node, enrolment: &Enrolment| loop {
        match node.locker.enrol(std::slice::from_ref(enrolment)).await.as_deref() {
            Ok([Enrolled::Locked]) | Err(LockError::NotDone { .. }) => {}
            Ok([Enrolled::Done { .. }]) => return true,
            Ok([Enrolled::OtherName { .. }]) => return false,
            other => panic!("{other:?}"),
        }
    };
    for nth in 0..RACES / 5 {
        let [old, new] = ["old", "new"].map(|version| format!("{version}-{nth}"));
        let renamed = renamed(&new, &old);
        let former = enrolment(&old, Authority::Any);
        if nth % 2 == 1 {
            one.enrol(former.clone()).await;
        }
        let raced = async { tokio::join!(decided(&one, &former), decided(&two, &renamed)) };
        let (first, second) = timeout(DEADLINE, raced).await.expect("an answer");
        assert!(first != second, "one of two is enrolled, not {first} and {second}");
    }
}
