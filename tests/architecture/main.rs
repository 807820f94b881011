//! Who may know whom: every path of every source of both packages, against a table of layers.
//!
//! A new file must find its place in `table.rs`, or be named there. What this says of a change: move the item to where it belongs,
//! or hand in what is needed. Only what is truly new moves a line of the table.

mod graph;
mod syntax;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use self::{
    graph::{Graph, Package, Reference, Target},
    table::{EFFECTS, LAYERS, Layer, NOT_PURE, PURE, SURFACE},
};

/// The sources of both packages.
fn sources() -> Vec<Package> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    vec![Package::read(root, "callsheet_actors", "actors/src"), Package::read(root, "callsheet", "src")]
}

/// Everything that is against the table.
fn faults(packages: &[Package]) -> Vec<String> {
    let graph = Graph::of(packages);
    let mut faults = unlisted(&graph.files);
    faults.extend(unused(&graph.files));
    faults.extend(graph.references.iter().filter_map(upward));
    faults.extend(circles(&graph.references));
    faults.extend(graph.references.iter().filter_map(|it| beyond_surface(&graph, it)));
    faults.extend(graph.references.iter().filter_map(impure));
    faults
}

fn layer_of(file: &str) -> Option<(usize, &'static Layer)> {
    LAYERS.iter().enumerate().find(|(_, layer)| layer.files.iter().any(|glob| matches(glob, file)))
}

fn unlisted(files: &[String]) -> Vec<String> {
    let unlisted = files.iter().filter(|file| layer_of(file).is_none());
    unlisted
        .map(|file| format!("{file} stands in no layer; name it in tests/architecture/table.rs"))
        .collect()
}

fn unused(files: &[String]) -> Vec<String> {
    let globs = LAYERS.iter().flat_map(|layer| layer.files).flat_map(|glob| alternatives(glob));
    let unused = globs.filter(|glob| !files.iter().any(|file| matches(glob, file)));
    unused
        .map(|glob| format!("{glob} is no file any more; delete it in tests/architecture/table.rs"))
        .collect()
}

/// Names something of a layer above, or of one that it must not know.
fn upward(reference: &Reference) -> Option<String> {
    let Target::File(target) = &reference.target else { return None };
    let ((at, layer), (of, other)) = (layer_of(&reference.file)?, layer_of(target)?);
    let forbidden = of > at || layer.never.contains(&other.name);
    forbidden.then(|| format!("{reference}: {} must not know {}", layer.name, other.name))
}

/// Files that name each other in a circle, unless they are chapters of one thing.
fn circles(references: &[Reference]) -> Vec<String> {
    let mut named: BTreeMap<&str, BTreeMap<&str, &Reference>> = BTreeMap::new();
    for reference in references {
        if let Target::File(target) = &reference.target {
            named.entry(&reference.file).or_default().entry(target).or_insert(reference);
        }
    }
    let reached = |from: &str| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            for target in named.get(&*file).into_iter().flatten().map(|(target, _)| *target) {
                if reached.insert(target) {
                    open.push(target.to_owned());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = named.keys().map(|file| (*file, reached(file))).collect();
    let leads_back = |from: &str, to: &str| reached.get(to).is_some_and(|reached| reached.contains(from));
    let edges = named
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(move |(to, reference)| (*from, *to, *reference)));
    let faults = edges.filter(|(from, to, _)| leads_back(from, to) && !are_chapters(from, to));
    faults.map(|(_, to, reference)| format!("{reference}: {to} leads back to it, in a circle")).collect()
}

fn are_chapters(one: &str, other: &str) -> bool {
    let both = |globs: &[&str]| [one, other].iter().all(|file| globs.iter().any(|glob| matches(glob, file)));
    LAYERS.iter().flat_map(|layer| layer.chapters).any(|globs| both(globs))
}

/// The facade names a module of the engine that is not part of its surface.
fn beyond_surface(graph: &Graph, reference: &Reference) -> Option<String> {
    let rest = reference.full.strip_prefix("callsheet_actors::")?;
    let (name, below) = rest.split_once("::").unwrap_or((rest, ""));
    let is_lower = name.starts_with(char::is_lowercase);
    let is_module =
        graph.modules.contains(&format!("callsheet_actors::{name}")) || is_lower && !below.is_empty();
    let beyond = is_module && reference.file.starts_with("src/") && !SURFACE.contains(&name);
    beyond.then(|| format!("{reference}: `{name}` is no part of the engine's surface"))
}

/// A file that only computes names what does something.
fn impure(reference: &Reference) -> Option<String> {
    let file = &*reference.file;
    let is_pure = PURE.iter().any(|glob| matches(glob, file)) && !NOT_PURE.contains(&file);
    let is_known = |effect: &&&str| match reference.full.strip_suffix("::*") {
        Some(glob) => is_below(glob, effect) || is_below(effect, glob),
        None => is_below(&reference.full, effect),
    };
    let effect = EFFECTS.iter().find(is_known).filter(|_| is_pure && reference.target == Target::Foreign)?;
    Some(format!("{reference}: a file that only computes must not know {effect}"))
}

/// Whether a path begins with another one.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `{a,b}` in a path stands for either.
fn alternatives(glob: &str) -> Vec<String> {
    let Some((before, rest)) = glob.split_once('{') else { return vec![glob.to_owned()] };
    let (names, after) = rest.split_once('}').expect("a list of names ends");
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

fn matches(glob: &str, file: &str) -> bool {
    alternatives(glob).iter().any(|glob| match glob.split_once('*') {
        None => glob == file,
        Some((before, "*")) => file.starts_with(before),
        Some((before, after)) => {
            let name = file.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
        }
    })
}

#[test]
fn every_file_knows_only_what_its_place_in_the_table_allows() {
    let faults = faults(&sources());

    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The faults of sources that are made up: files of the engine, and of the facade, with what they say.
fn faults_of(engine: &[(&str, &str)], facade: &[(&str, &str)]) -> Vec<String> {
    faults(&[made_up("callsheet_actors", "actors/src", engine), made_up("callsheet", "src", facade)])
}

fn made_up(krate: &'static str, dir: &'static str, given: &[(&str, &str)]) -> Package {
    let mut files = BTreeMap::from([("lib.rs".to_owned(), String::new())]);
    for (path, text) in given {
        files.entry((*path).to_owned()).or_default().push_str(text);
        if *path == "lib.rs" {
            continue;
        }
        let mut below = path.trim_end_matches(".rs");
        // Each file is declared in the one above it.
        loop {
            let (above, name) = below.rsplit_once('/').unwrap_or(("lib", below));
            let parent: &mut String = files.entry(format!("{above}.rs")).or_default();
            let declared = format!("\npub mod {name};");
            if !parent.contains(&declared) {
                parent.push_str(&declared);
            }
            if above == "lib" {
                break;
            }
            below = above;
        }
    }
    Package { krate, dir, files }
}

fn assert_found(faults: &[String], expected: &str) {
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected:?} is not among {faults:#?}");
}

/// Actors and what lies below them.
const ENGINE: [(&str, &str); 6] = [
    ("lock.rs", "pub(crate) use self::actor::LockActor;"),
    ("lock/actor.rs", "pub(crate) struct LockActor;"),
    ("message.rs", "pub const PAGE_MAX: usize = 1;"),
    ("engine.rs", "pub struct Engine;"),
    ("node.rs", "use crate::placement::JobThreads; pub(crate) struct Node(JobThreads);"),
    ("lib.rs", "pub use crate::engine::Engine;"),
];

/// The same with one more line in a file.
fn faults_with(file: &str, line: &str) -> Vec<String> {
    faults_of(&[&ENGINE[..], &[(file, line)]].concat(), &[])
}

#[test]
fn a_machine_that_knows_an_actor_is_found() {
    let faults = faults_with("core/election.rs", "\nuse crate::{message as m, lock::LockActor};");

    assert_found(
        &faults,
        "actors/src/core/election.rs:2 names `crate::lock::LockActor` of actors/src/lock/actor.rs: core must not know lock",
    );
    assert_found(
        &faults,
        "actors/src/core/election.rs:2 names `crate::message` of actors/src/message.rs: core must not know supervisor",
    );
}

#[test]
fn a_path_inside_of_a_function_is_found() {
    let faults =
        faults_with("core/clock.rs", "fn f() -> usize { if true { crate::message::PAGE_MAX } else { 0 } }");

    assert_found(
        &faults,
        "names `crate::message::PAGE_MAX` of actors/src/message.rs: core must not know supervisor",
    );
}

#[test]
fn a_path_by_way_of_an_imported_module_is_found() {
    let faults = faults_with("core/clock.rs", "use crate::lock;\nfn f(_: lock::LockActor) {}");

    assert_found(&faults, "actors/src/core/clock.rs:2 names `lock::LockActor` of actors/src/lock/actor.rs");
}

#[test]
fn a_path_that_a_macro_is_given_is_found() {
    let faults = faults_with("core/text.rs", "fn f() { println!(\"{}\", [1 + crate::message::PAGE_MAX]) }");

    assert_found(
        &faults,
        "names `crate::message::PAGE_MAX` of actors/src/message.rs: words must not know supervisor",
    );
}

#[test]
fn a_name_is_followed_through_re_exports() {
    let faults = faults_with("core/text.rs", "use crate::Engine;");

    assert_found(&faults, "names `crate::Engine` of actors/src/engine.rs: words must not know engine");
}

#[test]
fn what_tests_name_does_not_count() {
    let tests = "#[cfg(test)] mod tests { use crate::Engine; }\n#[cfg(any(test, feature = \"testkit\"))] use crate::Engine;";

    let faults = faults_with("core/text.rs", tests);

    assert!(!faults.iter().any(|fault| fault.contains("core/text.rs:")), "{faults:#?}");
}

#[test]
fn an_election_that_knows_the_lock_is_found() {
    let faults = faults_with("election.rs", "use crate::lock::LockActor;");

    assert_found(&faults, "of actors/src/lock/actor.rs: election must not know lock");
}

#[test]
fn a_circle_between_files_of_one_layer_is_found() {
    let faults =
        faults_with("placement.rs", "use crate::node::Node; pub(crate) struct JobThreads(Box<Node>);");

    assert_found(&faults, "actors/src/node.rs leads back to it, in a circle");
}

#[test]
fn a_file_without_a_place_is_found() {
    assert_found(&faults_with("utils.rs", ""), "actors/src/utils.rs stands in no layer");
}

#[test]
fn a_place_without_a_file_is_found() {
    assert_found(&faults_of(&ENGINE[..2], &[]), "actors/src/engine.rs is no file any more");
}

#[test]
fn a_facade_that_looks_behind_the_surface_is_found() {
    let faults = faults_of(&ENGINE, &[("handle.rs", "use callsheet_actors::engine::Engine;")]);

    assert_found(&faults, "src/handle.rs:1 names `callsheet_actors::engine::Engine`");
    assert_found(&faults, "`engine` is no part of the engine's surface");
}

#[test]
fn a_schedule_that_reads_a_clock_is_found() {
    let now = "fn f() { std::time::SystemTime::now(); }";
    let faults = faults_of(&ENGINE, &[("schedule/every.rs", now)]);

    assert_found(&faults, "a file that only computes must not know std::time::SystemTime");
}

#[test]
fn a_schedule_that_knows_the_engine_is_found() {
    let faults = faults_of(&ENGINE, &[("schedule/every.rs", "use callsheet_actors::Engine;")]);

    assert_found(&faults, "of actors/src/engine.rs: schedules must not know engine");
}

/// The faults of a schedule that says this.
fn faults_of_schedule(text: &str) -> Vec<String> {
    faults_of(&ENGINE, &[("schedule/every.rs", text)])
}

#[test]
fn a_schedule_that_asks_a_crate_for_the_time_or_an_id_is_found() {
    for (text, effect) in [
        ("fn f() { chrono::Utc::now(); }", "chrono::Utc::now"),
        ("use chrono::Utc;\nfn f() { Utc::now(); }", "chrono::Utc::now"),
        ("use chrono::Utc;\nfn f() { <Utc>::now(); }", "chrono::Utc::now"),
        ("use chrono::{DateTime, Local};", "chrono::Local"),
        ("use jiff::Zoned;\nfn f() { Zoned::now(); }", "jiff::Zoned::now"),
        ("fn f() { uuid::Uuid::now_v7(); }", "uuid::Uuid::now_v7"),
        ("use uuid::Uuid;\nfn f() { Uuid::new_v4(); }", "uuid::Uuid::new_v4"),
        ("fn f() { rand::random::<u64>(); }", "rand"),
    ] {
        let faults = faults_of_schedule(text);
        assert_found(&faults, &format!("a file that only computes must not know {effect}"));
    }
}

#[test]
fn a_schedule_that_only_names_a_type_of_such_a_crate_is_not_found() {
    let text = "use chrono::{DateTime, Utc};\nfn f(at: DateTime<Utc>, id: uuid::Uuid) { Utc::from(at); }";

    let faults = faults_of_schedule(text);

    assert!(!faults.iter().any(|fault| fault.contains("only computes")), "{faults:#?}");
}

#[test]
fn an_effect_is_found_by_way_of_imports() {
    for text in [
        "use std::time;\nfn f() { time::Instant::now(); }",
        "use std::{self as s};\nfn f() { s::time::Instant::now(); }",
        "use std as s;\nuse s::time as t;\nfn f() { t::Instant::now(); }",
        "extern crate std as s;\nfn f() { s::time::Instant::now(); }",
        "use std::time::*;\nfn f() { Instant::now(); }",
        "use std::*;\nfn f() { time::Instant::now(); }",
        "fn f() { use std::{time as t}; t::Instant::now(); }",
        "fn f() { use std as s; use s::time; time::Instant::now(); }",
        "pub mod a { pub use std::time; }\nuse self::a::*;\nfn f() { time::Instant::now(); }",
        "use crate::other;\nfn f() { other::time::Instant::now(); }",
    ] {
        let other = ("other.rs", "pub use std::time;");
        let faults = faults_of(&ENGINE, &[("schedule/every.rs", text), other]);
        assert_found(&faults, "a file that only computes must not know std::");
    }
}

#[test]
fn an_effect_is_named_as_it_is_written_and_as_it_is() {
    let faults = faults_of_schedule("use std::time;\nfn f() { time::Instant::now(); }");

    assert_found(&faults, ":2 names `time::Instant::now`, which is `std::time::Instant::now`: a file that");
}

#[test]
fn a_path_in_an_attribute_is_found() {
    for text in [
        "struct S { #[serde(with = \"crate::lock::actor\")] field: u8 }",
        "#[rtype(result = \"crate::lock::LockActor\")] struct S;",
        "#[rtype(result = \"Result<(), crate::lock::LockActor>\")] struct S;",
        "#[serde(bound = \"T: crate::lock::LockActor, T: Clone\")] struct S<T>(T);",
        "#[derive(Clone, crate::lock::LockActor)] struct S;",
        "#[cfg_attr(unix, derive(crate::lock::LockActor))] struct S;",
    ] {
        let faults = faults_with("core/clock.rs", text);
        assert_found(&faults, "of actors/src/lock/actor.rs: core must not know lock");
    }
}

#[test]
fn prose_in_an_attribute_is_no_path() {
    let text = "#[error(\"see crate::lock::LockActor for more\")] struct S;\n/// crate::lock::LockActor\nstruct D;\n\
                #[cfg_attr(test, derive(crate::lock::LockActor))] struct T;";

    let faults = faults_with("core/clock.rs", text);

    assert!(!faults.iter().any(|fault| fault.contains("core/clock.rs:")), "{faults:#?}");
}

#[test]
fn a_facade_that_looks_behind_the_surface_by_an_alias_is_found() {
    for text in [
        "use callsheet_actors::engine;\nfn f(_: engine::Engine) {}",
        "pub use callsheet_actors::engine;",
        "use callsheet_actors as a;\nfn f(_: a::engine::Engine) {}",
        "use callsheet_actors::{self as a};\nuse a::engine::Engine;",
        "use callsheet_actors::engine::*;",
        "use callsheet_actors::*;\nfn f(_: engine::Engine) {}",
        "extern crate callsheet_actors as a;\nfn f(_: a::engine::Engine) {}",
    ] {
        let faults = faults_of(&ENGINE, &[("handle.rs", text)]);
        assert_found(&faults, "`engine` is no part of the engine's surface");
    }
}

#[test]
fn only_what_the_test_kit_adds_is_left_out() {
    for condition in [
        "any(unix, feature = \"testkit\")",
        "any(feature = \"testkit\", unix)",
        "all(unix, feature = \"testkit\")",
        "not(feature = \"testkit\")",
        "feature = \"testkits\"",
    ] {
        let faults = faults_with("core/text.rs", &format!("#[cfg({condition})] use crate::Engine;"));
        assert_found(&faults, "of actors/src/engine.rs: words must not know engine");
    }
    let exact = "#[cfg(feature = \"testkit\")] use crate::Engine;";

    let faults = faults_with("core/text.rs", exact);

    assert!(!faults.iter().any(|fault| fault.contains("core/text.rs:")), "{faults:#?}");
}

#[test]
fn a_connection_that_knows_the_session_is_found() {
    let postgres = |from: &'static str, text: &'static str| {
        let session =
            ("backend/postgres/session.rs", "use super::connection::Connected; pub struct OpenSession;");
        let connection = ("backend/postgres/connection.rs", "pub struct Connected;");
        let elector = ("backend/postgres/elector.rs", "use super::session::OpenSession; pub struct Elector;");
        faults_of(&ENGINE, &[session, connection, elector, (from, text)])
    };

    let connection = postgres("backend/postgres/connection.rs", "use super::session::OpenSession;");
    let session = postgres("backend/postgres/session.rs", "use super::elector::Elector;");

    assert_found(&connection, "src/backend/postgres/connection.rs leads back to it, in a circle");
    assert_found(&session, "src/backend/postgres/session.rs leads back to it, in a circle");
}

#[test]
fn who_may_see_an_item_is_not_known_by_it() {
    let text = "pub(in crate::lock) struct S;\nm! { pub(in crate::lock) struct T; }";

    let faults = faults_with("core/clock.rs", text);

    assert!(!faults.iter().any(|fault| fault.contains("core/clock.rs:")), "{faults:#?}");
}
