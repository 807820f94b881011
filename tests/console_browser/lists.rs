//! What a page that stays open shows: of other nodes, of older records, of a long time.

use std::time::Duration;

use callsheet::{Callsheet, RunHistory};
use serde_json::json;

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    pages::stage,
    quiet,
};

/// Whether the page shows so many rows of runs.
const ROWS: &str =
    "return document.querySelectorAll('tbody a[data-open][href^=\"#/run?\"]').length === arguments[0]";

async fn run_often(node: &Callsheet, times: usize) {
    for _ in 0..times {
        node.trigger("import").await.expect("it runs").finished().await;
    }
    // What a node is asked for is written by then: the other one finds it.
    node.runs(RunHistory::new()).await.expect("a history is kept");
}

#[actix_web::test]
async fn a_page_of_a_follower_shows_runs_of_the_leader_as_they_come() {
    let store = Store::new();
    let leader = store.node(Callsheet::builder().node_name("web-1").job(quiet("import"))).await;
    let follower = store.node(Callsheet::builder().node_name("web-2").job(quiet("import"))).await;
    let served = Served::of(&follower, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "runs").await;
    browser.shows("Nothing has run yet").await;
    run_often(&leader, 1).await;
    browser.until("the list shows the run", ROWS, vec![json!(1)]).await;

    browser.open(&served.url, "job?job=import").await;
    browser.until("the page of the job shows the run", ROWS, vec![json!(1)]).await;
    run_often(&leader, 1).await;
    browser.until("the page of the job shows the next run", ROWS, vec![json!(2)]).await;
    browser.end().await;
    served.stop().await;
    stop(follower).await;
    stop(leader).await;
}

#[actix_web::test]
async fn a_list_with_older_rows_has_no_hole_when_new_ones_come() {
    let node = Store::new().node(Callsheet::builder().job(quiet("import"))).await;
    run_often(&node, 60).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "runs").await;
    browser.until("the first page is shown", ROWS, vec![json!(50)]).await;
    browser.click("Show older").await;
    browser.until("the older rows are shown", ROWS, vec![json!(60)]).await;

    run_often(&node, 20).await;

    browser.until("all rows are shown", ROWS, vec![json!(80)]).await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn of_more_overdue_jobs_than_are_named_the_page_says_how_many_it_leaves_out() {
    let late = |number| quiet(&format!("late {number:02}")).expect_success_within(Duration::from_secs(1));
    let node = Store::new().node(Callsheet::builder().jobs((0..12).map(late))).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "overview").await;
    browser
        .shows("12 expectations of jobs are not met. The node names the first 10; 2 overdue expectations")
        .await;
    browser.shows("10 jobs and more need attention").await;

    browser.open(&served.url, "jobs?state=overdue").await;
    browser
        .shows("Not all overdue jobs are here: 2 overdue expectations are of jobs that are not named")
        .await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

/// What the node answers for the overview was looked at long ago.
const OLD: &str = "const ask = window.fetch;
    window.fetch = async (address, given) => {
        if (String(address).includes('api/events')) return new Response('', { status: 503 });
        const response = await ask(address, given);
        if (!String(address).endsWith('api/overview')) return response;
        const body = await response.json();
        body.as_of = new Date(Date.parse(body.now) - 20_000).toISOString();
        return new Response(JSON.stringify(body));
    }";

#[actix_web::test]
async fn what_was_looked_at_long_ago_is_said_to_be_old() {
    let node = Store::new().node(Callsheet::builder().job(quiet("import"))).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "overview").await;
    browser.shows("Everything runs as planned").await;
    browser.hides("The jobs as they were").await;

    browser.before_pages(OLD).await;
    browser.open(&served.url, "overview").await;

    browser.shows("The jobs as they were 20 s before").await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn the_activity_of_seven_days_is_shown() {
    let node = stage(&Store::new()).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "overview").await;
    browser.click("7 d").await;
    browser.shows("per 2h").await;
    browser.shows("In the last 7 d").await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
