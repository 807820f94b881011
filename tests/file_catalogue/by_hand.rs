//! What somebody does to the file who edits it.

use super::*;

const JOBS: &str = "\
# What our users asked for.

# For the board.
[report]
schedule = { every = \"1h\" } # on the hour
task = { name = \"say\", arguments = { what = \"hello\" } }
";

async fn is_told(node: &Callsheet, told: &str) {
    let says_so = async || {
        let health = node.health().await.expect("it answers");
        health.problems.iter().any(|problem| problem.to_string().contains(told))
    };
    until(&format!("its health says {told}"), says_so).await;
}

#[tokio::test]
async fn what_is_edited_by_hand_is_taken_over() {
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, "jobs.toml");
    fs::write(&path, JOBS).expect("it is written");
    let jobs = node(FileCatalogue::at(&path)).await;
    holds(&jobs, &["report"]).await;
    assert_eq!(said(&jobs, "report").await, "hello");
    let read = jobs.stored("report").await.expect("it is stored").version;

    // Of the same length, in place.
    fs::write(&path, JOBS.replace("hello", "olleh")).expect("it is written");
    until("it says another thing", async || said(&jobs, "report").await == "olleh").await;
    let late = jobs.put_if("report", &stored(says("late")), Expected::Version(read)).await;
    assert_eq!(late.expect_err("it was edited").kind(), ErrorKind::Exists);

    // As editors do: another file in its place.
    let beside = file(&directory, "beside");
    fs::write(&beside, JOBS.replace("[report]", "[other]")).expect("it is written");
    fs::rename(&beside, &path).expect("it is renamed");
    holds(&jobs, &["other"]).await;

    // What the node changes leaves the rest as it is.
    jobs.put("third", &stored(says("third"))).await.expect("it is right");
    let text = fs::read_to_string(&path).expect("it is there");
    assert!(text.starts_with(&JOBS.replace("[report]", "[other]")), "{text}");
    jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_bad_entry_parks_its_job_alone() {
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, "jobs.toml");
    let bad = "
five = 5
[colour]
schedule = \"0 9 * * *\"
task = { name = \"say\", arguments = { what = \"x\" } }
colour = \"blue\"
[song]
schedule = \"0 9 * * *\"
task.name = \"sing\"
[\"\"]
schedule = \"0 9 * * *\"
task = { name = \"say\", arguments = { what = \"x\" } }
[when]
schedule = \"61 9 * * *\"
task = { name = \"say\", arguments = { what = \"x\" } }
";
    let (first, tables) = bad.split_at(bad.find("[colour]").expect("it is there"));
    fs::write(&path, format!("{first}{JOBS}{tables}")).expect("it is written");
    let jobs = node(FileCatalogue::at(&path)).await;

    holds(&jobs, &["report"]).await;

    is_told(&jobs, "5 stored jobs").await;
    let page = jobs.list_stored(CatalogueQuery::default()).await.expect("it answers");
    let told = [
        ("five", "expected a stored job"),
        ("colour", "unknown field `colour`"),
        ("song", "no task of this name"),
        ("", "a name is not empty"),
        ("when", "`61` is not a minute"),
    ];
    for (job, told) in told {
        let found = page.jobs.iter().find(|stored| &*stored.job == job).expect("it is listed");
        let StoredHere::Parked { reason } = &found.here else { panic!("{job}: {found:?}") };
        assert!(reason.contains(told), "{job}: {reason}");
    }
    jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_or_is_gone_changes_nothing_and_is_told() {
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, "jobs.toml");
    fs::write(&path, JOBS).expect("it is written");
    let catalogue = FileCatalogue::at(&path);
    let jobs = node(catalogue.clone()).await;
    holds(&jobs, &["report"]).await;

    fs::write(&path, format!("{JOBS}\n[broken\n")).expect("it is written");
    is_told(&jobs, "catalogue").await;
    let refused = catalogue.change(&put("job", "hello")).await.expect_err("it cannot be read");
    assert!(refused.to_string().contains("jobs.toml\": it cannot be read: line 8"), "{refused}");
    assert_eq!(held(&jobs).await, ["report"]);

    fs::remove_file(&path).expect("it is there");
    let gone = async || {
        let answer = catalogue.get(&name("report")).await;
        answer.is_err_and(|error| error.to_string().contains("it is gone; put it back"))
    };
    until("it is told that it is gone", gone).await;
    assert_eq!(held(&jobs).await, ["report"]);

    fs::write(&path, "").expect("it is written");
    holds(&jobs, &[]).await;
    until("it is well", async || jobs.health().await.expect("it answers").healthy).await;
    jobs.shutdown(Duration::from_secs(5)).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_stays_a_link_and_the_mode_of_the_file_stays() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = TempDir::new().expect("a directory");
    let (path, link) = (file(&directory, "real.toml"), file(&directory, "jobs.toml"));
    fs::write(&path, JOBS).expect("it is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is one's own");
    symlink(&path, &link).expect("it is linked");

    let catalogue = FileCatalogue::at(&link);
    assert!(matches!(catalogue.change(&put("job", "hello")).await, Ok(Changed::Done(_))));

    assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
    assert!(fs::read_to_string(&path).expect("it is there").contains("[job]"));
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640);
}

/// The first block of this language in a guide.
fn block<'a>(guide: &'a str, language: &str) -> &'a str {
    let (_, rest) = guide.split_once(&format!("```{language}\n")).expect("a block");
    rest.split("```").next().unwrap_or_default()
}

#[tokio::test]
async fn the_jobs_of_the_guide_to_settings_are_read_and_none_is_left_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(&directory, "jobs.toml");
    fs::write(&path, block(include_str!("../../src/guide/settings.md"), "toml")).expect("it is written");
    let page = FileCatalogue::at(&path).list(&CatalogueQuery::default()).await.expect("it answers");

    let jobs: Vec<_> = page.rows.iter().map(|row| row.job.to_string()).collect();
    assert_eq!(jobs, ["cleanup", "heartbeat", "report"]);
    for row in &page.rows {
        let json = row.definition.as_deref().expect("it is stored");
        let job: StoredJob =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{}: {error}", row.job));
        assert_eq!(job.enabled, &*row.job != "heartbeat", "{}", row.job);
    }
    // By the settings, as an application has it.
    let path = path.to_str().expect("text").to_owned();
    let lookup = |name: &str| (name == "CALLSHEET_CATALOGUE").then(|| path.clone());
    let settings = Settings::read(lookup).expect("it is right");
    let node = settings.builder().expect("it is right").start().await.expect("it starts");
    until("it knows them", async || {
        node.list_stored(CatalogueQuery::default()).await.is_ok_and(|page| page.jobs.len() == 3)
    })
    .await;
    node.shutdown(Duration::from_secs(5)).await;
}
