//! Ten thousand jobs.

use callsheet::Callsheet;
use serde_json::json;

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    quiet,
};

const JOBS: usize = 10_000;
/// How many rows are in the page at most, however many there are to see.
const ROWS_MAX: i64 = 100;

#[actix_web::test]
async fn of_ten_thousand_jobs_only_what_is_seen_is_in_the_page() {
    let jobs = (0..JOBS).map(|n| quiet(&format!("tenant-{n:05}")));
    let node = Store::new().node(Callsheet::builder().jobs(jobs)).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "jobs").await;
    browser.shows("tenant-00000").await;

    // Each look scrolls to the end of what is loaded, which loads more.
    let script = "const rows = document.querySelector('.window');
        rows.scrollTop = rows.scrollHeight;
        return document.body.innerText.includes(arguments[0])";
    browser.until("the last job is reached", script, vec![json!("tenant-09999")]).await;
    let rows = browser.run("return document.querySelectorAll('tbody tr').length", vec![]).await;
    assert!(rows.as_i64().is_some_and(|rows| rows <= ROWS_MAX), "{rows}");

    browser.fill("Search name, tag or schedule", "04321").await;
    browser.shows("1 of 10\u{202f}000 jobs").await;
    browser.shows("tenant-04321").await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
