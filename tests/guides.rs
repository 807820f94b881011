//! README and guides say what is so: they are held against the sources, and against each other.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use callsheet::{
    BLOCKING_THREADS_DEFAULT, CLOCK_OFFSET_MAX_DEFAULT, CONNECT_TIMEOUT_DEFAULT, ERROR_BYTES_DEFAULT,
    FORGET_AFTER_DEFAULT, HOOK_TIMEOUT_DEFAULT, Operation, Policies, RESIGN_PAUSE_DEFAULT,
    SHUTDOWN_ABORT_AFTER_DEFAULT, metrics::JOB_LABELS_DEFAULT, schedule::parse_duration,
};

const README: &str = include_str!("../README.md");
const CONFIGURATION: &str = include_str!("../src/guide/configuration.md");
const HEALTH: &str = include_str!("../src/guide/health.md");
const LIMITS: &str = include_str!("../src/guide/limits.md");
const METRICS: &str = include_str!("../src/guide/metrics.md");
const NODE_LIMITS: &str = include_str!("../src/guide/node_limits.md");
const GUIDES_ON_DOCS_RS: &str = "https://docs.rs/callsheet/latest/callsheet/guide/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether there is a file of tests, or a directory of them, of this name.
fn is_test(name: &str) -> bool {
    ["tests/{name}.rs", "tests/{name}/main.rs"]
        .iter()
        .any(|path| root().join(path.replace("{name}", name)).is_file())
}

/// The names of the guides, as their files have them.
fn guides() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("src/guide")).expect("a directory");
    let names = files.map(|file| file.expect("an entry").file_name().into_string().expect("UTF-8"));
    names.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).collect()
}

/// The part of a guide below a heading, up to the next one.
fn section<'a>(guide: &'a str, heading: &str) -> &'a str {
    let (_, rest) = guide.split_once(&format!("\n# {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n# ").next().unwrap_or_default()
}

/// What stands between two texts, each time.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

/// The guarantees and their limits: of ticks and runs, and of nodes.
fn limits() -> [(&'static str, &'static str); 2] {
    [("limits", LIMITS), ("node_limits", NODE_LIMITS)]
}

/// As a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ');
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The public methods of some sources that hand on what they are called on: the options.
fn options(sources: &[&str], of: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        let code = read(source);
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (name, rest) in code.match_indices("    pub fn ").map(|(at, start)| {
            let item = &code[at + start.len()..];
            item.split_at(item.find(['(', '<']).expect("parameters"))
        }) {
            let signature = rest.split([';', '{']).next().unwrap_or_default();
            let takes_self = ["(self", "(mut self"].iter().any(|start| signature.contains(start));
            let signature = signature.split("where").next().unwrap_or_default();
            let (_, gives) = signature.rsplit_once("->").unwrap_or_default();
            if takes_self && ["Self", of].contains(&gives.trim()) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// The items of a type that a table links to.
fn linked(table: &str, of: &str) -> BTreeSet<String> {
    between(table, &format!("](crate::{of}::"), ")").into_iter().map(str::to_owned).collect()
}

/// The cell after the one that links to an item, without its marks.
fn default_of<'a>(table: &'a str, item: &str) -> &'a str {
    let row = table.lines().find(|line| line.starts_with('|') && line.contains(&format!("(crate::{item})")));
    let cells: Vec<_> = row.unwrap_or_else(|| panic!("no row of {item}")).split('|').collect();
    let at = cells.iter().position(|cell| cell.contains(&format!("(crate::{item})"))).expect("a cell");
    cells[at + 1].trim().trim_matches('`')
}

#[test]
fn the_readme_is_readable_in_two_minutes() {
    let words = README.split_whitespace().count();

    assert!(words < 900, "{words} words");
}

#[test]
fn the_readme_has_thirteen_guarantees_each_with_a_test_and_its_limits() {
    let table = README.split_once("## What is guaranteed").expect("a heading").1;
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| [")).collect();
    assert_eq!(rows.len(), 13);

    let limits: BTreeSet<_> = limits()
        .into_iter()
        .flat_map(|(guide, text)| {
            let titles = between(text, "\n# ", "\n").into_iter().map(anchor);
            titles.map(move |title| format!("{guide}/index.html#{title}"))
        })
        .collect();
    for row in rows {
        let [_, guarantee, tests, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let title = between(guarantee, "[", "]")[0].to_lowercase();
        let limit = between(README, &format!("\n[{title}]: {GUIDES_ON_DOCS_RS}"), "\n");
        assert!(limit.len() == 1 && limits.contains(limit[0]), "{row}");
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            assert!(is_test(test), "{test}");
        }
    }
}

#[test]
fn the_limits_name_tests_that_there_are() {
    let lists: Vec<_> = limits()
        .into_iter()
        .flat_map(|(_, text)| text.split("\nTests: ").skip(1))
        .map(|rest| rest.split("\n\n").next())
        .collect();
    assert_eq!(lists.len(), 13);

    for tests in lists.into_iter().flatten() {
        for test in tests.split('`').skip(1).step_by(2).filter(|test| !test.contains([':', ' '])) {
            assert!(is_test(test), "{test}");
        }
    }
}

/// The first sentence of what the documentation of a file says, on one line.
fn first_sentence(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let text = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    text[..end].to_owned()
}

#[test]
fn the_list_of_tests_has_each_of_them_once_under_a_guarantee_or_a_subject() {
    let list = read("tests/README.md");
    let mut missing = String::new();
    for entry in fs::read_dir(root().join("tests")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8");
        if !is_test(name) {
            continue;
        }
        let source = [path.join("main.rs"), path.clone()].into_iter().find(|path| path.is_file());
        let source = fs::read_to_string(source.expect("a source")).expect("a source");
        let row = format!("| `{name}` | {} |\n", first_sentence(&source));
        let times = list.matches(&format!("| `{name}` |")).count();
        if times != 1 || !list.contains(&row) {
            missing += &row;
        }
    }
    assert!(missing.is_empty(), "tests/README.md is to have these rows, each once:\n{missing}");

    for row in between(&list, "\n| `", "`") {
        assert!(is_test(row), "{row}: there is no such test");
    }
    let guarantees = limits().into_iter().flat_map(|(_, text)| between(text, "\n# ", "\n"));
    for guarantee in guarantees.filter(|title| *title != "Not promised") {
        assert!(list.contains(&format!("\n## {guarantee}\n")), "{guarantee} has no tests");
    }
}

#[test]
fn every_guide_is_shown_listed_and_linked_by_its_name() {
    let index = read("src/guide/mod.rs");
    let linked = between(README, GUIDES_ON_DOCS_RS, "/index.html");

    for guide in guides() {
        assert!(index.contains(&format!("include_str!(\"{guide}.md\")")), "{guide} is not shown");
        assert!(index.contains(&format!("//! | [`{guide}`] |")), "{guide} is not listed");
    }
    assert!(!linked.is_empty());
    for guide in linked.into_iter().filter(|guide| !guide.contains('\n')) {
        assert!(guides().contains(guide), "{guide}");
    }
}

#[test]
fn the_configuration_names_every_option_and_no_other() {
    let scheduler = [section(CONFIGURATION, "The scheduler"), section(CONFIGURATION, "Threads")].concat();
    let of_start = BTreeSet::from(["start_on".to_owned(), "start".to_owned()]);
    let builder = &options(&["src/builder.rs", "src/builder/tasks.rs"], "Builder") | &of_start;
    assert_eq!(linked(&scheduler, "Builder"), builder);

    let postgres = options(&["src/backend/postgres/mod.rs"], "Postgres");
    let made = BTreeSet::from(["new".to_owned(), "url_from".to_owned()]);
    assert_eq!(linked(section(CONFIGURATION, "PostgreSQL"), "backend::Postgres"), &postgres | &made);

    let redis = options(&["src/backend/redis/mod.rs"], "Redis");
    let made = BTreeSet::from(["new".to_owned()]);
    assert_eq!(linked(section(CONFIGURATION, "Redis"), "backend::Redis"), &redis | &made);

    let mysql = options(&["src/backend/mysql/mod.rs"], "Mysql");
    assert_eq!(linked(section(CONFIGURATION, "MySQL and MariaDB"), "backend::Mysql"), &mysql | &made);
    let pooled = options(&["src/backend/postgres_lease/mod.rs"], "PostgresLease");
    let made = &made | &BTreeSet::from(["url_from".to_owned()]);
    let named = linked(section(CONFIGURATION, "PostgreSQL through a pooler"), "backend::PostgresLease");
    assert_eq!(named, &pooled | &made);

    let job = options(
        &["actors/src/definition.rs", "actors/src/definition/of_task.rs", "actors/src/job_config.rs"],
        "Job",
    );
    // Of another type in the same file.
    let job = &job - &BTreeSet::from(["over".to_owned()]);
    let made = BTreeSet::from(["new".to_owned(), "from_config".to_owned()]);
    assert_eq!(linked(section(CONFIGURATION, "A job"), "Job"), &job | &made);

    let retry = options(&["actors/src/core/policy.rs"], "Retry");
    let made = BTreeSet::from(["attempts".to_owned()]);
    assert_eq!(linked(section(CONFIGURATION, "A job"), "Retry"), &retry | &made);
}

#[test]
fn the_configuration_names_the_defaults_that_are_in_force() {
    let Policies { misfire_after, abort_after, priority, retry, .. } = Policies::default();
    let durations = [
        ("Builder::hook_timeout", HOOK_TIMEOUT_DEFAULT),
        ("Builder::shutdown_abort_after", SHUTDOWN_ABORT_AFTER_DEFAULT),
        ("Builder::connect_timeout", CONNECT_TIMEOUT_DEFAULT),
        ("Builder::clock_offset_max", CLOCK_OFFSET_MAX_DEFAULT),
        ("Builder::forget_after", FORGET_AFTER_DEFAULT),
        ("Builder::resign_pause", RESIGN_PAUSE_DEFAULT),
        ("Job::misfire_after", misfire_after),
        ("Job::abort_after", abort_after),
        ("Retry::initial", retry.initial),
        ("Retry::max", retry.max),
    ];
    for (option, default) in durations {
        let told: Duration = parse_duration(default_of(CONFIGURATION, option)).expect(option);
        assert_eq!(told, default, "{option}");
    }

    let numbers = [
        ("Builder::job_labels_max", JOB_LABELS_DEFAULT.to_string()),
        ("Builder::error_bytes_max", ERROR_BYTES_DEFAULT.to_string()),
        ("Builder::blocking_threads", format!("at most {BLOCKING_THREADS_DEFAULT}")),
        ("Job::priority", priority.to_string()),
        ("Retry::attempts", retry.attempts.to_string()),
        ("Retry::factor", retry.factor.to_string()),
        ("Retry::jitter", retry.jitter.to_string()),
    ];
    for (option, default) in numbers {
        assert_eq!(default_of(CONFIGURATION, option).replace(',', ""), default, "{option}");
    }
}

#[test]
fn the_metrics_name_every_metric_and_no_other() {
    let code = read("actors/src/metrics/series.rs");
    let metrics: BTreeSet<_> = between(&code, ": &str = \"callsheet_", "\"").into_iter().collect();
    assert!(metrics.len() > 20, "{metrics:?}");

    let table = section(METRICS, "Metrics");
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| `callsheet_")).collect();
    let told =
        rows.iter().map(|row| between(row, "`callsheet_", "`")[0].split('{').next().unwrap_or_default());
    assert_eq!(told.collect::<BTreeSet<_>>(), metrics);
}

#[test]
fn the_health_names_every_operation_and_every_problem() {
    let noticed = section(HEALTH, "What is noticed, and how soon");
    for operation in Operation::ALL {
        assert!(noticed.contains(&format!("`{operation}`")), "{operation}");
    }

    let code = read("actors/src/health.rs");
    let names = code.split_once("pub fn name(&self)").expect("a method").1;
    let names = names.split("    }\n\n").next().unwrap_or_default();
    let problems = between(names, "=> \"", "\"");
    assert!(problems.len() > 10, "{problems:?}");
    for problem in problems {
        assert!(HEALTH.contains(&format!("`{problem}`")), "{problem}");
    }
}
