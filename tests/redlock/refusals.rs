//! What is refused, with its cure and without passwords.

use callsheet::{
    Callsheet, Fires, Job, NodeId, Overlap, StartError,
    backend::{Elected, Redlock},
    port::Election,
    schedule::every,
};

use super::{PASSWORD, Quorum, SECOND};

async fn refused(redlock: Redlock, job: Option<Job>) -> String {
    let builder = Callsheet::builder().backend(Elected::new(redlock)).jobs(job).connect_timeout(SECOND);
    let Err(error) = builder.start().await else { panic!("it started") };
    let text = error.to_string();
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

#[tokio::test]
async fn bad_settings_are_all_reported_at_first_and_without_the_password() {
    let redlock = Redlock::new("", [format!("redis://me:{PASSWORD}@h:x")]).lease(SECOND / 10);
    let shown = format!("{redlock:?}");
    let builder = Callsheet::builder().backend(Elected::new(redlock));
    let Err(StartError::Invalid(faults)) = builder.start().await else { panic!("it started") };
    let text = faults.to_string();
    for what in ["redlock: scope", "redlock: lease", "redlock: urls", "redlock: url 1"] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    assert!(!text.contains(PASSWORD) && !shown.contains(PASSWORD), "{text}\n{shown}");
}

#[tokio::test]
async fn two_urls_of_one_server_are_refused_as_it_would_vote_twice() {
    let quorum = Quorum::start(3).await;
    let socket = format!("unix://:{PASSWORD}@{}", quorum.0[0].socket().display());
    let urls = [quorum.0[0].url(), socket, quorum.0[1].url()];
    let redlock = Redlock::new("same", urls).lease(2 * SECOND);

    let text = refused(redlock, None).await;

    assert!(text.contains("name each server once"), "{text}");
}

#[tokio::test]
async fn a_minority_that_is_down_or_refuses_is_told_by_the_health() {
    let quorum = Quorum::start(5).await;
    let mut urls = quorum.urls();
    urls[3] = quorum.0[3].url_with("wrong-but-secret");
    urls[4] = "redis://127.0.0.1:1".to_owned();
    let backend = Elected::new(Redlock::new("told", urls));
    let node = Callsheet::builder().backend(backend).start().await.expect("a majority is there");

    for number in [4, 5] {
        let server = format!("server {number} ");
        super::store::until("told", async || {
            let health = node.health().await.expect("an answer");
            let text = format!("{:?}", health.problems);
            assert!(!text.contains("secret"), "{text}");
            text.contains(&server) && text.contains("has no vote")
        })
        .await;
    }
    node.shutdown(SECOND).await;
}

#[tokio::test]
async fn too_few_servers_are_named_with_what_mends_it() {
    let quorum = Quorum::start(3).await;
    let mut urls = quorum.urls();
    urls[0] = quorum.0[0].url_with("wrong-but-secret");
    urls[2] = "redis://127.0.0.1:1".to_owned();

    let text = refused(Redlock::new("few", urls), None).await;

    assert!(text.contains("2 of 3 servers did not answer, and 2 have to"), "{text}");
    assert!(
        text.contains("check the user and the password") && text.contains("Connection refused"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_job_that_needs_more_than_votes_is_refused_by_name() {
    let urls = ["redis://a", "redis://b", "redis://c"];
    let any_node = |name: &str| Job::new(name, every(SECOND)).fires(Fires::AnyNode);
    let queues = any_node("queues").overlap(Overlap::Queue(2)).run(async |_| {});
    let counting = Job::new("counts", every(SECOND).from_completion());
    let counts = counting.fires(Fires::AnyNode).run(async |_| {});

    let text = refused(Redlock::new("more", urls), Some(queues)).await;
    assert!(text.contains("queues") && text.contains("cluster_overlap"), "{text}");
    let text = refused(Redlock::new("more", urls), Some(counts)).await;
    assert!(text.contains("counts") && text.contains("from the end of runs"), "{text}");
}

#[test]
fn two_nodes_of_one_process_are_two() {
    let nodes = [(); 2].map(|()| Redlock::new("billing", ["redis://a", "redis://b", "redis://c"]));
    let ids: Vec<Option<NodeId>> = nodes.iter().map(Election::node).collect();

    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}
