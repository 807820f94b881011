//! What single keys and the palette do.

use callsheet::Callsheet;
use serde_json::json;
use thirtyfour::Key;

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    quiet,
};

#[actix_web::test]
async fn the_list_of_jobs_is_used_without_a_mouse() {
    let jobs = ["alpha", "beta", "gamma"].map(quiet);
    let node = Store::new().node(Callsheet::builder().jobs(jobs)).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "jobs").await;
    browser.shows("gamma").await;

    browser.press("jj").await;
    let current = "return document.querySelector('tr[data-current] .name').innerText";
    assert_eq!(browser.run(current, vec![]).await, json!("beta"));
    browser.press("k").await;
    assert_eq!(browser.run(current, vec![]).await, json!("alpha"));
    browser.press("xjx").await;
    let chosen = "return [...document.querySelectorAll('tr.chosen .name')].map((one) => one.innerText)";
    assert_eq!(browser.run(chosen, vec![]).await, json!(["alpha", "beta"]));
    browser.press("k").await;
    browser.press(&Key::Enter.value().to_string()).await;
    browser.until("the job is open", "return location.hash === '#/job?job=alpha'", vec![]).await;

    browser.press_ctrl("k").await;
    browser.shows("Go to").await;
    browser.press("gamm").await;
    let found = "const one = document.querySelector('.palette [aria-selected=true]');
        return one && one.innerText.startsWith('gamma')";
    browser.until("the palette finds it", found, vec![]).await;
    browser.press(&Key::Enter.value().to_string()).await;
    browser.until("the other is open", "return location.hash === '#/job?job=gamma'", vec![]).await;

    browser.open(&served.url, "jobs").await;
    browser.shows("gamma").await;
    browser.press("/").await;
    browser.press("bet").await;
    browser.shows("1 of 3 jobs").await;
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
