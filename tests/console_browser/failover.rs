//! The leader goes away while the page of another node is open.

use callsheet::Callsheet;

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    pages::jobs,
};

#[actix_web::test]
async fn a_page_that_is_open_shows_the_next_leader() {
    let store = Store::new();
    let first = store.node(jobs(Callsheet::builder().node_name("web-1"))).await;
    let second = store.node(jobs(Callsheet::builder().node_name("web-2"))).await;
    let served = Served::of(&second, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "overview").await;
    browser.shows("answered by web-2").await;
    browser.hides(", this node").await;

    stop(first).await;

    browser.shows(", this node").await;
    browser.end().await;
    served.stop().await;
    stop(second).await;
}
