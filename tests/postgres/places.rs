//! Rows that an end finds by the place where its run was granted: whatever is at that place by then, the end is
//! of one run, one token and one session.

use super::*;

/// The rows of a scope in a schema of its own, whose places nobody else changes.
struct Rows {
    cluster: PostgresCluster,
    schema: &'static str,
}

impl Rows {
    async fn new(schema: &'static str) -> (Self, Node) {
        let cluster = PostgresCluster::new(schema).await;
        // None of it waits for the end of a lease.
        let backend = Postgres::new(&cluster.scope, &cluster.url).schema(schema).lease(DEADLINE);
        let leader = Node::open(backend).await.leading().await;
        cluster.admin.batch_execute(&format!("SET search_path = {schema}")).await.expect("an answer");
        (Self { cluster, schema }, leader)
    }

    async fn place(&self, job: &str) -> String {
        let place = "SELECT ctid::text FROM names WHERE name = $1";
        self.cluster.admin.query_one(place, &[&job]).await.expect("an answer").get(0)
    }

    async fn change(&self, set: &str, job: &str) {
        let change = format!("UPDATE names SET {set} WHERE name = $1");
        assert_eq!(self.cluster.admin.execute(&change, &[&job]).await.expect("an answer"), 1);
    }

    async fn holder(&self, job: &str) -> Option<RunId> {
        let holder = "SELECT run FROM names WHERE name = $1";
        let row = self.cluster.admin.query_one(holder, &[&job]).await.expect("an answer");
        row.get::<_, Option<uuid::Uuid>>(0).map(RunId::from)
    }

    /// Has new versions of the row written until one of them is at a place where a version of another row was.
    async fn moves_to(&self, job: &str, place: &str) {
        // Versions that were undone are in nobody's way.
        let moves = format!(
            "DO $$
             BEGIN
                 FOR version IN 1..16 LOOP
                     UPDATE {}.names SET losses = losses WHERE name = '{job}';
                     IF EXISTS (SELECT FROM {0}.names WHERE name = '{job}' AND ctid = '{place}') THEN RETURN; END IF;
                 END LOOP;
                 RAISE 'the place is not free';
             END $$",
            self.schema
        );
        let until = Instant::now() + DEADLINE;
        while self.place(job).await != place {
            assert!(Instant::now() < until, "{job} does not come to {place}");
            // Places are free once nobody sees their old versions any more.
            self.cluster.admin.batch_execute("VACUUM names").await.expect("an answer");
            self.cluster.admin.batch_execute(&moves).await.ok();
        }
    }
}

async fn complete(node: &Node, end: &Completion) -> Completed {
    let ended = node.locker.complete(std::slice::from_ref(end)).await.expect("an answer");
    ended.into_iter().next().expect("an answer per end")
}

#[tokio::test]
async fn an_end_is_recorded_though_its_row_is_elsewhere_by_then() {
    let (rows, leader) = Rows::new("places_moved").await;
    let rewrite = "VACUUM FULL names";
    let change = "UPDATE names SET losses = losses";
    for (job, moves) in [("rewritten", rewrite), ("changed", change)] {
        let due = leader.due(job).await;
        let end = end_of(&due, &leader.claim(&due).await);
        let granted_at = rows.place(job).await;
        rows.cluster.admin.batch_execute(moves).await.expect("an answer");
        assert_ne!(rows.place(job).await, granted_at, "{job}");

        assert_eq!(complete(&leader, &end).await, Completed::RECORDED, "{job}");
        assert_eq!(rows.holder(job).await, None, "{job}");
    }
}

#[tokio::test]
async fn an_end_with_another_token_is_refused_where_its_run_was_granted() {
    let (rows, leader) = Rows::new("places_token").await;
    let due = leader.due("job").await;
    let end = end_of(&due, &leader.claim(&due).await);
    let of_another = Completion { token: FencingToken(end.token.0 - 1), ..end.clone() };

    assert_eq!(complete(&leader, &of_another).await, Completed::Stale);
    assert_eq!(rows.holder("job").await, Some(end.run));
    assert_eq!(complete(&leader, &end).await, Completed::RECORDED);
}

#[tokio::test]
async fn an_end_of_another_session_is_refused_where_its_run_was_granted() {
    let (rows, leader) = Rows::new("places_session").await;
    let due = leader.due("job").await;
    let end = end_of(&due, &leader.claim(&due).await);
    let granted_at = rows.place("job").await;
    rows.change("beacon = beacon + 1", "job").await;
    rows.moves_to("job", &granted_at).await;

    assert_eq!(complete(&leader, &end).await, Completed::Stale);
    assert_eq!(rows.holder("job").await, Some(end.run));
}

#[tokio::test]
async fn an_end_frees_no_other_row_that_came_to_the_place_of_its_own() {
    let (rows, leader) = Rows::new("places_exchanged").await;
    // The first claim of a job enters it into an index, which refers to its place until the row leaves the page.
    for job in ["a", "b"] {
        let first = leader.due(job).await;
        leader.complete(vec![end_of(&first, &leader.claim(&first).await)]).await;
    }
    let due = [leader.due("a").await, leader.due("b").await];
    let verdicts = leader.locker.claim(&due).await.expect("an answer");
    let [a, b] = [0, 1].map(|nth| end_of(&due[nth], &verdicts[nth]));
    let (place_of_a, place_of_b) = (rows.place("a").await, rows.place("b").await);
    // By the token they are not told apart.
    let token = format!("token = {}", b.token.0);
    rows.change(&token, "a").await;
    rows.change(&token, "b").await;
    rows.moves_to("a", &place_of_b).await;
    rows.moves_to("b", &place_of_a).await;
    assert_eq!((rows.place("a").await, rows.place("b").await), (place_of_b, place_of_a));

    let ended = complete(&leader, &Completion { token: b.token, ..a }).await;

    assert_eq!(ended, Completed::RECORDED);
    assert_eq!((rows.holder("a").await, rows.holder("b").await), (None, Some(b.run)));
    assert_eq!(complete(&leader, &b).await, Completed::RECORDED);
}
