//! The vendored files, and how large the page is.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use callsheet::Callsheet;

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
};

/// Where tests/run puts what the tests need of the registry of npm.
pub(crate) const TOOLS: &str = "target/console-tools";
/// How many bytes the page may be in all, compressed.
const PAGE_BYTES_MAX: u64 = 120 * 1024;

fn files_in(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let read =
        |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path()));
    entries.map(|entry| file(entry.expect("an entry"))).collect()
}

#[test]
fn the_vendored_files_are_those_of_the_published_packages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().expect("a directory");
    let script = root.join("tests/console_browser/vendor.mjs");
    let built = Command::new("node").arg(script).arg(made.path()).output().expect("node is installed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let (published, kept) = (files_in(made.path()), files_in(&root.join("src/console/assets/vendor")));

    assert_eq!(published.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, text) in &published {
        assert!(kept[name] == *text, "{name} differs: run `node tests/console_browser/vendor.mjs` again");
    }
}

#[actix_web::test]
async fn the_page_is_smaller_than_120_kb_compressed() {
    let node = Store::new().node(Callsheet::builder()).await;
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "overview").await;
    browser.shows("There is no job yet").await;

    let script = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('/assets/'))
        .concat(performance.getEntriesByType('navigation')).reduce((sum, one) => sum + one.encodedBodySize, 0)";
    let bytes = browser.run(script, vec![]).await.as_u64().expect("a number");

    assert!((40 * 1024..PAGE_BYTES_MAX).contains(&bytes), "{bytes}");
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
