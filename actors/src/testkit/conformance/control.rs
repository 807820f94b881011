//! What every backend does by which nodes ask each other.

use std::{slice::from_ref, sync::Arc, time::Duration};

use futures_util::future::{Either, pending, select};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::Cluster;
use crate::{
    name::{By, NodeId},
    note::Note,
    port::{
        ANSWER_BYTES_MAX, Backend, Campaign, Control, ControlRequest, DESCRIPTION_BYTES_MAX, Locker,
        NodeAnswer, NodeRow, Posted, REQUEST_BYTES_MAX, REQUESTS_OPEN_MAX, Session, TakenRequest, To,
        VIEWS_OPEN_MAX,
    },
};

/// How long a campaign, and the check, wait for what is to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Within which time requests are to be answered, unless it matters.
const WITHIN: Duration = Duration::from_secs(60);

struct Member {
    backend: Arc<dyn Backend>,
    control: Arc<dyn Control>,
    locker: Arc<dyn Locker>,
    session: Session,
    id: NodeId,
}

impl Member {
    async fn join(cluster: &mut impl Cluster) -> Self {
        let backend = cluster.node().await;
        let locker = backend.locker();
        let session = locker.open().await.expect("a session opens");
        let control = backend.control().expect("its nodes can ask each other");
        let id = backend.node().expect("the store knows its nodes");
        Self { backend, control, locker, session, id }
    }

    fn request(&self, body: &str) -> ControlRequest {
        ControlRequest::new(Uuid::new_v4(), self.id, body)
    }

    /// Posts a request to all others, and answers who they are.
    async fn post(&self, request: &ControlRequest) -> Vec<NodeId> {
        match self.posted(request, REQUESTS_OPEN_MAX).await {
            Posted::Asked(asked) => asked.into_iter().map(|asked| asked.node).collect(),
            Posted::TooMany => panic!("few requests are open"),
        }
    }

    async fn posted(&self, request: &ControlRequest, open_max: usize) -> Posted {
        self.control.post(request, To::Others, WITHIN, open_max).await.expect("an answer")
    }

    async fn take(&self) -> Vec<ControlRequest> {
        let taken = self.control.take().await.expect("an answer");
        for TakenRequest { left, .. } in &taken {
            assert!(!left.is_zero() && *left <= WITHIN, "the time that is left: {left:?}");
        }
        taken.into_iter().map(|taken| taken.request).collect()
    }

    async fn answer(&self, request: &ControlRequest, answer: &str) {
        self.control.answer(request.id, answer.into()).await.expect("it is kept");
    }

    async fn answers(&self, request: &ControlRequest) -> Vec<(NodeId, NodeAnswer)> {
        let mut answers = self.control.answers(request.id, &[]).await.expect("an answer");
        answers.sort_by_key(|(node, _)| *node);
        answers
    }

    async fn close(&self, request: &ControlRequest) {
        self.control.close(request.id).await.expect("it is forgotten");
    }

    /// What the other nodes are told of this one.
    async fn row(&self, of: NodeId) -> Option<NodeRow> {
        self.control.nodes().await.expect("an answer").into_iter().find(|row| row.node == of)
    }

    /// Waits for a hint, as an engine does, which hears what it is told in its session meanwhile.
    async fn hinted(&self, hint: impl Future<Output = u64>) -> Option<u64> {
        let hears = async {
            loop {
                self.locker.next_notification(self.session).await;
            }
        };
        let hears: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(hears);
        match timeout(PATIENCE, select(Box::pin(hint), hears)).await {
            Ok(Either::Left((hints, _))) => Some(hints),
            Ok(Either::Right(_)) => pending().await,
            Err(_) => None,
        }
    }
}

fn answered(node: &Member, answer: &str) -> (NodeId, NodeAnswer) {
    (node.id, NodeAnswer::Answered(answer.into()))
}

/// Checks how nodes see and ask each other, in an empty store: a request goes to those that have a session, each of
/// them gets it once and answers it once, what is over is said to be over, and all is bounded.
///
/// # Panics
///
/// If a check fails.
pub async fn control(cluster: &mut impl Cluster) {
    let nodes = [Member::join(cluster).await, Member::join(cluster).await, Member::join(cluster).await];
    a_request_goes_to_each_other_node_once(&nodes).await;
    a_request_to_one_node_is_for_nobody_else(&nodes).await;
    a_request_that_is_posted_twice_is_one(&nodes).await;
    only_the_first_answer_of_who_has_taken_it_counts(&nodes).await;
    nobody_gets_a_request_after_its_deadline(&nodes).await;
    texts_may_be_as_long_as_their_bounds(&nodes).await;
    so_many_requests_are_open_at_once(&nodes).await;
    a_node_hears_that_it_is_asked_and_who_asked_that_it_is_answered(&nodes).await;
    nodes_are_listed_with_what_they_say_of_themselves(&nodes).await;
    who_dies_is_not_asked_and_will_not_answer(&nodes, cluster).await;
}

async fn a_request_goes_to_each_other_node_once([asks, one, other]: &[Member; 3]) {
    let request = ControlRequest {
        by: Some(By::new("alice").expect("a name")),
        note: Some(Note::new("\"why\" ünd \u{1f980}").expect("a note")),
        ..asks.request(r#"{"ask": "now"}"#)
    };

    let mut asked = asks.post(&request).await;

    asked.sort();
    let mut expected = [one.id, other.id];
    expected.sort();
    assert_eq!(asked, expected);
    assert_eq!(asks.take().await, [], "who asks is not asked");
    assert_eq!(one.take().await, from_ref(&request));
    assert_eq!(one.take().await, [], "once");
    one.answer(&request, "1").await;
    let mut waiting = [answered(one, "1"), (other.id, NodeAnswer::Waiting)];
    waiting.sort_by_key(|(node, _)| *node);
    assert_eq!(asks.answers(&request).await, waiting);
    assert_eq!(other.take().await, from_ref(&request));
    other.answer(&request, "2").await;
    asks.close(&request).await;
    assert_eq!(asks.answers(&request).await, [], "it is forgotten");
}

async fn a_request_to_one_node_is_for_nobody_else([asks, one, other]: &[Member; 3]) {
    let request = asks.request("one");

    let to_one = asks.control.post(&request, To::Node(one.id), WITHIN, REQUESTS_OPEN_MAX);
    let posted = to_one.await.expect("an answer");

    assert!(matches!(&posted, Posted::Asked(asked) if asked.len() == 1 && asked[0].node == one.id));
    assert_eq!(other.take().await, []);
    assert_eq!(one.take().await, from_ref(&request));
    asks.close(&request).await;
    let (none, unknown) = (asks.request("none"), To::Node(NodeId::numbered(7)));
    let nobody = asks.control.post(&none, unknown, WITHIN, REQUESTS_OPEN_MAX).await;
    assert_eq!(nobody, Ok(Posted::Asked(Vec::new())), "it has no session");
}

async fn a_request_that_is_posted_twice_is_one([asks, one, _]: &[Member; 3]) {
    let request = asks.request("twice");

    let first = asks.post(&request).await;
    assert_eq!(one.take().await, from_ref(&request));
    one.answer(&request, "once").await;
    let second = asks.post(&request).await;

    assert_eq!(first.len(), second.len());
    assert_eq!(one.take().await, [], "it was taken");
    assert!(asks.answers(&request).await.contains(&answered(one, "once")));
    asks.close(&request).await;
}

async fn only_the_first_answer_of_who_has_taken_it_counts([asks, one, other]: &[Member; 3]) {
    let request = asks.request("first");
    asks.post(&request).await;

    other.answer(&request, "not taken").await;
    one.take().await;
    one.answer(&request, "first").await;
    one.answer(&request, "second").await;

    let answers = asks.answers(&request).await;
    assert!(answers.contains(&answered(one, "first")), "{answers:?}");
    assert!(answers.contains(&(other.id, NodeAnswer::Waiting)), "{answers:?}");
    let unheard = asks.control.answers(request.id, &[one.id]).await.expect("an answer");
    assert_eq!(unheard, [(other.id, NodeAnswer::Waiting)], "what was heard is not read again");
    asks.close(&request).await;
    other.take().await;
}

async fn nobody_gets_a_request_after_its_deadline([asks, one, _]: &[Member; 3]) {
    let request = asks.request("late");
    let soon = Duration::from_millis(100);
    let posted = asks.control.post(&request, To::Others, soon, REQUESTS_OPEN_MAX);
    posted.await.expect("an answer");

    sleep(soon * 2).await;

    assert_eq!(one.take().await, []);
    asks.close(&request).await;
}

async fn texts_may_be_as_long_as_their_bounds([asks, one, _]: &[Member; 3]) {
    let request = asks.request(&"r".repeat(REQUEST_BYTES_MAX));
    asks.post(&request).await;

    assert_eq!(one.take().await, from_ref(&request));
    let answer = "a".repeat(ANSWER_BYTES_MAX);
    one.answer(&request, &answer).await;

    assert!(asks.answers(&request).await.contains(&answered(one, &answer)));
    asks.close(&request).await;
}

async fn so_many_requests_are_open_at_once([asks, one, other]: &[Member; 3]) {
    let requests: Vec<_> = (0..REQUESTS_OPEN_MAX).map(|_| asks.request("many")).collect();
    let (views, changes) = requests.split_at(VIEWS_OPEN_MAX);
    for view in views {
        assert!(matches!(asks.posted(view, VIEWS_OPEN_MAX).await, Posted::Asked(_)));
    }

    let further = one.request("further");
    assert_eq!(one.posted(&further, VIEWS_OPEN_MAX).await, Posted::TooMany, "of those that only look");
    for change in changes {
        asks.post(change).await;
    }
    assert_eq!(one.posted(&further, REQUESTS_OPEN_MAX).await, Posted::TooMany);
    asks.close(&requests[0]).await;
    assert_eq!(one.post(&further).await.len(), 2);

    one.close(&further).await;
    for request in &requests[1..] {
        asks.close(request).await;
    }
    assert_eq!(other.take().await, [], "what is closed is for nobody");
}

async fn a_node_hears_that_it_is_asked_and_who_asked_that_it_is_answered([asks, one, _]: &[Member; 3]) {
    // What was said before.
    let mut seen = 0;
    while let Ok(Some(hints)) = timeout(Duration::from_millis(200), one.hinted(one.control.asked(seen))).await
    {
        seen = hints;
    }
    let mut heard = 0;
    while let Ok(Some(hints)) =
        timeout(Duration::from_millis(200), asks.hinted(asks.control.answered(heard))).await
    {
        heard = hints;
    }
    let request = asks.request("hint");

    asks.post(&request).await;
    assert!(one.hinted(one.control.asked(seen)).await.is_some(), "it hears that it is asked");
    one.take().await;
    one.answer(&request, "1").await;
    assert!(asks.hinted(asks.control.answered(heard)).await.is_some(), "it hears of the answer");

    asks.close(&request).await;
}

async fn nodes_are_listed_with_what_they_say_of_themselves([asks, one, other]: &[Member; 3]) {
    let Campaign::Won(grant) = asks.backend.elector().campaign(PATIENCE).await.expect("an answer") else {
        panic!("the first node of an empty store leads");
    };
    let longest = "é".repeat(DESCRIPTION_BYTES_MAX / 2);
    one.control.describe("first".into()).await.expect("it is kept");
    one.control.describe(longest.as_str().into()).await.expect("it is kept");

    let leader = other.row(asks.id).await.expect("it has a session");
    assert_eq!((leader.term, leader.description), (Some(grant.term), None));
    let follower = other.row(one.id).await.expect("it has a session");
    assert_eq!((follower.term, follower.description.as_deref()), (None, Some(&*longest)));
    assert!(other.row(other.id).await.is_some(), "itself");
}

async fn who_dies_is_not_asked_and_will_not_answer(
    [asks, one, other]: &[Member; 3],
    cluster: &mut impl Cluster,
) {
    let request = asks.request("dies");
    asks.post(&request).await;
    one.take().await;
    one.answer(&request, "alive").await;
    other.take().await;

    cluster.kill(&one.backend).await;
    cluster.kill(&other.backend).await;

    let mut over = [answered(one, "alive"), (other.id, NodeAnswer::SessionOver)];
    over.sort_by_key(|(node, _)| *node);
    assert_eq!(asks.answers(&request).await, over);
    assert!(other.control.take().await.is_err(), "it has no session");
    assert_eq!(asks.post(&asks.request("alone")).await, [], "nobody is left");
    let nodes = asks.control.nodes().await.expect("an answer");
    assert_eq!(nodes.into_iter().map(|row| row.node).collect::<Vec<_>>(), [asks.id]);
    asks.close(&request).await;
}
