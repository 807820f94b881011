//! What axe finds: the rules of WCAG 2.2 AA, and good practice.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    alice,
    browser::{Browser, NARROW, WIDE},
    cluster::{Served, Store, stop},
    pages::{PAGES, stage},
    vendored::TOOLS,
};

const RULES: [&str; 6] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

fn axe() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TOOLS).join("axe.min.js");
    fs::read_to_string(&path).unwrap_or_else(|error| {
        let command = format!("node tests/console_browser/vendor.mjs --tools {TOOLS}");
        panic!("{} cannot be read: {error}; run `{command}`, as tests/run does", path.display())
    })
}

/// What axe says against the page that is shown.
async fn found(browser: &Browser, axe: &str) -> Vec<String> {
    browser.run(axe, vec![]).await;
    let script = "const done = arguments[1];
        axe.run(document, {runOnly: arguments[0]}).then((result) => done(result.violations.map((rule) =>
            `${rule.id}: ${rule.nodes.slice(0, 3).map((node) => node.html).join(' | ')}`)), (error) => done([String(error)]))";
    let found = browser.run_async(script, vec![json!(RULES)]).await;
    let said = |one: &Value| one.as_str().unwrap_or_default().to_owned();
    found.as_array().expect("a list").iter().map(said).collect()
}

async fn nothing_is_found(size: (u32, u32), scheme: &str) {
    let axe = axe();
    let node = stage(&Store::new()).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(size).await;
    browser.prefer(scheme).await;
    for (page, text) in PAGES {
        browser.open(&served.url, page).await;
        browser.shows(text).await;
        assert_eq!(found(&browser, &axe).await, Vec::<String>::new(), "{page}");
    }
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn axe_finds_nothing_on_any_page_in_light_colours() {
    nothing_is_found(WIDE, "light").await;
}

#[actix_web::test]
async fn axe_finds_nothing_on_any_page_in_dark_colours() {
    nothing_is_found(WIDE, "dark").await;
}

#[actix_web::test]
async fn axe_finds_nothing_on_any_page_of_a_narrow_screen() {
    nothing_is_found(NARROW, "light").await;
}

#[actix_web::test]
async fn axe_finds_nothing_in_any_dialog() {
    let axe = axe();
    let node = stage(&Store::new()).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    for (button, text) in [
        ("Run now", "It takes no tick of the schedule"),
        ("Pause", "How long"),
        ("Change schedule", "A cron expression"),
        ("Backfill", "Fire times of the past"),
    ] {
        browser.open(&served.url, "job?job=midnight").await;
        browser.click(button).await;
        browser.shows(text).await;
        assert_eq!(found(&browser, &axe).await, Vec::<String>::new(), "{button}");
    }
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
