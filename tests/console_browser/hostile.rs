//! Texts of others are never markup.

use std::time::Duration;

use callsheet::{
    Callsheet, Job, Outcome, Pause, Run, RunResult, StoredJob, Task,
    console::Access,
    schedule::every,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
};

/// It says what it was told.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Note {
    pub(crate) text: String,
}

impl Task for Note {
    const NAME: &'static str = "note";
    type State = ();

    async fn run(self, run: Run, (): ()) -> RunResult {
        run.report(self.text);
        Ok(())
    }
}

const IMAGE: &str = "<img src=x onerror=\"window.hacked=1\">";
const SCRIPT: &str = "\"'><script>window.hacked=2</script>";
const LINK: &str = "javascript:window.hacked=3";

async fn stage() -> Callsheet {
    let fails = async |run: Run| {
        run.report(format!("{SCRIPT}{IMAGE}"));
        run.measure(IMAGE, 1.0);
        Err::<(), _>(anyhow::anyhow!("{SCRIPT}").context(IMAGE))
    };
    let panics = async |_: Run| -> RunResult { panic!("{IMAGE}{SCRIPT}") };
    let hour = Duration::from_hours(1);
    let builder = Callsheet::builder()
        .node_name(IMAGE)
        .task::<Note>(())
        .job(Job::new(IMAGE, every(hour)).tag(SCRIPT).lock_key(SCRIPT).run(fails))
        .job(Job::new(LINK, every(hour)).tag(IMAGE).run(panics));
    let node = Store::new().node(builder).await;
    let by = node.by(IMAGE).expect("a name").note(SCRIPT).expect("a note");
    assert_eq!(by.trigger(IMAGE).await.expect("it runs").finished().await, Outcome::Failed);
    assert_eq!(by.trigger(LINK).await.expect("it runs").finished().await, Outcome::Panicked);
    by.pause_with(IMAGE, Pause::until_resumed().note(IMAGE)).await.expect("it is there");
    let stored: StoredJob = serde_json::from_value(json!({
        "schedule": {"every": "1h"}, "task": {"name": "note", "arguments": {"text": IMAGE}}, "tags": [IMAGE],
    }))
    .expect("a definition");
    by.put(SCRIPT, &stored).await.expect("it is good");
    node
}

#[actix_web::test]
async fn hostile_names_notes_errors_and_reports_are_shown_as_text() {
    let node = stage().await;
    let served = Served::of(&node, Access::Edit(IMAGE.to_owned()));
    let browser = Browser::start(WIDE).await;
    let runs = node.runs(callsheet::RunHistory::new()).await.expect("a history is kept").runs;
    let encoded = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut pages: Vec<String> =
        ["overview", "jobs", "runs", "nodes", "calendar", "operations"].map(str::to_owned).into();
    pages.extend([IMAGE, LINK, SCRIPT].map(|job| format!("job?job={}", encoded(job))));
    pages.extend(runs.iter().map(|run| format!("run?run={}", run.run)));
    for page in &pages {
        browser.open(&served.url, page).await;
        browser.shows("onerror").await;
        let script =
            "return [window.hacked || 0, document.querySelectorAll('img, iframe, script:not([src])').length,
            [...document.links].filter((link) => link.protocol === 'javascript:').length]";
        assert_eq!(browser.run(script, vec![]).await, json!([0, 0, 0]), "{page}");
    }
    assert_eq!(runs.len(), 2);

    browser.open(&served.url, &format!("job?job={}", encoded(IMAGE))).await;
    browser.click("Run now").await;
    browser.confirm("Run now").await;
    browser.shows(": started").await;
    assert_eq!(browser.run("return window.hacked || 0", vec![]).await, json!(0));
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn a_reader_is_offered_no_action() {
    let node = crate::pages::stage(&Store::new()).await;
    let served = Served::of(&node, Access::Read("bob".to_owned()));
    let browser = Browser::start(WIDE).await;
    for (page, text) in crate::pages::PAGES {
        browser.open(&served.url, page).await;
        browser.shows(text).await;
        browser.shows("may read").await;
        let script = "return [...document.querySelectorAll('main button')].map((one) => one.innerText.trim())
            .filter((text) => /^(Run|Pause|Resume|Change|Backfill|Cancel|Remove|Skip)/.test(text))";
        assert_eq!(browser.run(script, vec![]).await, json!([]), "{page}");
    }
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
