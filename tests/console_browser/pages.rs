//! What the pages show, compared with what the engine says.

use std::time::Duration;

use callsheet::{
    Builder, Callsheet, Job, Outcome, Pause, Run, RunHistory,
    console::Access,
    schedule::{cron, every},
};

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    quiet,
};

/// Jobs of many kinds.
pub(crate) fn jobs(builder: Builder) -> Builder {
    builder
        .job(quiet("reports/daily").tag("reports"))
        .job(Job::new("import", every(Duration::from_hours(1))).tag("import").run(async |run: Run| {
            run.measure("rows", 1204.0);
            run.report("1,204 rows are imported");
        }))
        .job(Job::new("mail", every(Duration::from_hours(1))).run(async |_: Run| {
            let refused = std::io::Error::other("the server answers 554");
            Err::<(), _>(anyhow::Error::from(refused).context("send the digest"))
        }))
        .job(Job::new("slow", every(Duration::from_hours(1))).run(async |run: Run| {
            run.progress(0.4);
            run.report("page 4 of 10");
            run.cancelled().await;
        }))
        .job(Job::new("midnight", cron("0 0 * * *").timezone("Europe/Lisbon")).run(async |_: Run| {}))
}

/// A node with something to see on every page.
pub(crate) async fn stage(store: &Store) -> Callsheet {
    let node = store.node(jobs(Callsheet::builder().node_name("web-1"))).await;
    let by = node.by("carol").expect("a name").note("a look").expect("a note");
    assert_eq!(by.trigger("import").await.expect("it runs").finished().await, Outcome::Succeeded);
    assert_eq!(by.trigger("mail").await.expect("it runs").finished().await, Outcome::Failed);
    by.trigger("slow").await.expect("it runs");
    by.pause_with("reports/daily", Pause::until_resumed().note("the disk is full"))
        .await
        .expect("it is there");
    node
}

/// Each page, with a text that only its data can bring.
pub(crate) const PAGES: [(&str, &str); 9] = [
    ("overview", "web-1"),
    ("jobs", "reports/daily"),
    ("job?job=slow", "page 4 of 10"),
    ("job?job=midnight", "Europe/Lisbon"),
    ("runs", "import"),
    ("nodes", "leader"),
    ("locks", "slow"),
    ("calendar", "fire times of"),
    ("operations", "the disk is full"),
];

#[allow(
    clippy::print_stdout,
    reason = "how soon a page is seen depends on the machine: it is told, not judged"
)]
#[actix_web::test]
async fn each_page_shows_its_data_and_the_browser_complains_of_nothing() {
    let node = stage(&Store::new()).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    for (page, text) in PAGES {
        browser.open(&served.url, page).await;
        browser.shows(text).await;
        println!(
            "{page}: first contentful paint {} ms after it was asked for",
            browser.first_paint_ms().await
        );
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{page}");
    }
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn the_page_of_a_run_shows_its_error_chain_report_and_measures() {
    let node = stage(&Store::new()).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    for (outcome, texts) in [
        (Outcome::Failed, ["send the digest", "the server answers 554", "web-1"]),
        (Outcome::Succeeded, ["1,204 rows are imported", "rows", "1204"]),
    ] {
        let page = node.runs(RunHistory::new().outcome(outcome)).await.expect("a history is kept");
        browser.open(&served.url, &format!("run?run={}", page.runs[0].run)).await;
        for text in texts {
            browser.shows(text).await;
        }
    }
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn a_scheduler_without_jobs_shows_how_to_add_one() {
    let node = Store::new().node(Callsheet::builder()).await;
    let served = Served::of(&node, Access::Read("bob".to_owned()));
    let browser = Browser::start(WIDE).await;
    for (page, text) in [
        ("overview", "There is no job yet"),
        ("jobs", "Callsheet::builder()"),
        ("runs", "Nothing has run yet"),
        ("locks", "No key is held"),
        ("operations", "Nobody has done anything yet"),
    ] {
        browser.open(&served.url, page).await;
        browser.shows(text).await;
    }
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn a_run_that_starts_is_shown_without_a_reload() {
    let node = Store::new().node(Callsheet::builder().job(quiet("import"))).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "runs").await;
    browser.shows("Nothing has run yet").await;
    browser.until("the stream is read", "return document.body.innerText.includes('live')", vec![]).await;

    node.trigger("import").await.expect("it runs").finished().await;

    browser.shows("succeeded").await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
