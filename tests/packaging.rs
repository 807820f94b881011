//! What the two packages ship and say, as cargo sees them. `.ci/run` also compiles them out of what they
//! ship.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const PACKAGES: [(&str, &str); 2] = [("callsheet", "."), ("callsheet-actors", "actors")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn metadata(arguments: &[&str]) -> Value {
    let all = [&["metadata", "--format-version", "1", "--locked", "--offline"], arguments].concat();
    serde_json::from_str(&cargo(&all)).expect("JSON")
}

/// The packages of this workspace, by name.
fn package<'a>(metadata: &'a Value, name: &str) -> &'a Value {
    let packages = metadata["packages"].as_array().expect("a list");
    packages.iter().find(|package| package["name"] == name).expect("a package of the workspace")
}

/// The files below `directory`, with paths relative to `base`.
fn files(base: &Path, directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![base.join(directory)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()),
            );
        } else {
            let relative = path.strip_prefix(base).expect("below it").to_str().expect("UTF-8");
            found.push(relative.to_owned());
        }
    }
    found
}

/// Where the links that are defined below the text of a README lead, by their titles in small letters.
fn definitions(readme: &str) -> BTreeMap<&str, &str> {
    readme.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect()
}

/// "1.91" and "1.91.0" alike.
fn compiler(version: &str) -> (u64, u64, u64) {
    let mut numbers = version.split('.').map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

fn oldest_compiler() -> String {
    let metadata = metadata(&["--no-deps"]);
    package(&metadata, "callsheet")["rust_version"].as_str().expect("a version").to_owned()
}

#[test]
fn packages_ship_sources_documents_and_licences_and_nothing_else() {
    for (name, directory) in PACKAGES {
        let base = root().join(directory);
        let made_by_cargo = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig"];
        let mut expected: BTreeSet<String> = made_by_cargo.map(str::to_owned).into();
        expected.extend(["LICENSE-APACHE", "LICENSE-MIT", "README.md"].map(str::to_owned));
        expected.extend(files(&base, "src"));
        if name == "callsheet" {
            // The example `failover` starts servers as the tests do.
            expected.extend(
                ["CHANGELOG.md", "tests/common/owner.rs", "tests/common/postgres.rs"].map(str::to_owned),
            );
            expected.extend(files(&base, "examples"));
        }

        let listing = cargo(&["package", "--list", "--allow-dirty", "--locked", "--offline", "-p", name]);

        let mut shipped: BTreeSet<String> = listing.lines().map(|line| line.replace('\\', "/")).collect();
        // Only out of a git repository.
        shipped.insert(".cargo_vcs_info.json".to_owned());
        assert_eq!(shipped, expected, "{name}");
    }
}

/// Shown where the README stands beside them. Their texts say where they are.
const PICTURES: [&str; 4] = [
    "![Curves: benches/engine.svg](benches/engine.svg)",
    "![Console: .github/console-overview.png](.github/console-overview.png)",
    "![Console: .github/console-job.png](.github/console-job.png)",
    "![Console: .github/console-jobs.png](.github/console-jobs.png)",
];

#[test]
fn packages_say_what_a_registry_shows() {
    let metadata = metadata(&["--no-deps"]);
    let version = &package(&metadata, "callsheet")["version"];

    for (name, directory) in PACKAGES {
        let package = package(&metadata, name);
        assert_eq!(package["version"], *version, "{name}");
        assert_eq!(package["license"], "MIT OR Apache-2.0", "{name}");
        assert_eq!(package["documentation"], format!("https://docs.rs/{name}"));
        assert_eq!(package["readme"], "README.md", "{name}");
        assert_eq!(package["metadata"]["docs"]["rs"]["all-features"], true, "{name}");
        for text in ["description", "keywords", "categories"] {
            assert!(!package[text].is_null(), "{name}: {text}");
        }
        let readme = fs::read_to_string(root().join(directory).join("README.md")).expect("a README");
        assert!(readme.starts_with(&format!("# {}", if name == "callsheet" { "Callsheet" } else { name })));
        // A link to a file leads nowhere on a registry's page.
        let readme = PICTURES.iter().fold(readme, |readme, picture| readme.replace(picture, ""));
        let links = readme.match_indices("](").map(|(at, _)| &readme[at + 2..]);
        let links = links.chain(definitions(&readme).into_values());
        assert_eq!(links.filter(|to| !to.starts_with("https://")).collect::<Vec<_>>(), [""; 0], "{name}");
        for license in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let own = fs::read(root().join(directory).join(license)).expect("a license");
            assert_eq!(own, fs::read(root().join(license)).expect("a license"), "{name}: {license}");
        }
    }
    let dependencies = package(&metadata, "callsheet")["dependencies"].as_array().expect("a list");
    let engine =
        dependencies.iter().find(|dependency| dependency["name"] == "callsheet-actors").expect("is one");
    assert_eq!(engine["req"], format!("^{}", version.as_str().expect("a version")));
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_the_packages_say() {
    let oldest = oldest_compiler();
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");

    let metadata = metadata(&["--all-features", "--filter-platform", host]);

    let too_new: Vec<_> = metadata["packages"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|package| Some((package["name"].as_str()?, package["rust_version"].as_str()?)))
        .filter(|(_, needs)| compiler(needs) > compiler(&oldest))
        .collect();
    assert_eq!(too_new, [], "newer than {oldest}");
}

#[test]
fn every_link_of_the_readme_is_defined_and_used() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let text: Vec<_> = readme.split("```").step_by(2).collect();
    let named = text.iter().flat_map(|part| part.split('[').skip(1)).filter_map(|rest| {
        let (title, rest) = rest.split_once(']')?;
        (!rest.starts_with('(') && !rest.starts_with(": https://"))
            .then(|| title.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
    });

    let defined: BTreeSet<_> = definitions(&readme).into_keys().map(str::to_owned).collect();
    assert_eq!(named.collect::<BTreeSet<_>>(), defined);
}

#[test]
fn the_readmes_name_the_oldest_compiler() {
    let line = format!("Rust {} or newer", oldest_compiler());

    for (name, directory) in PACKAGES {
        let readme: PathBuf = root().join(directory).join("README.md");
        assert!(fs::read_to_string(readme).expect("a README").contains(&line), "{name}: {line}");
    }
}

#[test]
fn the_changelog_has_a_dated_section_for_the_version() {
    let metadata = metadata(&["--no-deps"]);
    let heading =
        format!("## {} - ", package(&metadata, "callsheet")["version"].as_str().expect("a version"));
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).expect("a changelog");

    let date = changelog.lines().find_map(|line| line.strip_prefix(&heading)).expect("a section");
    assert!(date.parse::<chrono::NaiveDate>().is_ok(), "{date:?}");
    let first = changelog.lines().find(|line| line.starts_with("## "));
    assert_eq!(first, Some("## Unreleased"), "what is not released yet stands above it");
}
