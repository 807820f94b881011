//! What the compiler says to somebody who meets a trait of ours for the first time: our words, and nothing of
//! the test kit.
//!
//! Each case is compiled against the library that this test is linked with. Its whole output is the
//! compiler's own and changes with it, so only our words are asserted.

#![allow(clippy::print_stderr, reason = "it shows what the compiler said")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// What compiles, and needs the feature `testkit`: by it the right one of several builds of the library is
/// found.
const RIGHT: &str = r#"
    let _ = callsheet::testkit::fakes::Period::hours(1);
    let _ = Job::new("right", every("5s")).run(async |run| println!("{run:?}"));
    let jobs = Callsheet::builder();
"#;

/// The parts of the compiler's words that help, for what somebody may write at first.
const WRONG: &[(&str, &str, &[&str])] = &[
    (
        "a text as schedule",
        r#"let _ = Job::new("report", "0 3 * * *");"#,
        &["`&str` is not a schedule", r#"make one: `cron("0 3 * * *")`"#],
    ),
    (
        "a closure as listener",
        r#"let _ = Callsheet::builder().listen(|event: Event| println!("{event}"));"#,
        &[
            "is not an actor that handles `callsheet::Event`",
            "`MyActor.start()`",
            "`Callsheet::events` is a stream",
        ],
    ),
    (
        "a closure as actor",
        r#"let _ = Job::new("report", every("5s")).run_actor(async |_: Run| {});"#,
        &["is not an actor that handles `callsheet::Run`", "`Job::run` takes a function"],
    ),
    (
        "a body that returns a number",
        r#"let _ = Job::new("report", every("5s")).run(async |_| 5_u32);"#,
        &["a body or a hook cannot return `u32`", "it returns `()`, or a `Result<(), E>`"],
    ),
    (
        "a body that returns a result with a value",
        r#"let _ = Job::new("report", every("5s")).run(async |_| "5".parse::<u32>());"#,
        &["a body or a hook cannot return `Result<u32, ParseIntError>`", "`.map(drop)`"],
    ),
    (
        "a body that is not Send",
        r#"let _ = Job::new("report", every("5s")).run(async |_| {
            let shared = std::rc::Rc::new(5);
            tokio_sleep().await;
            println!("{shared}");
        });"#,
        &["has type `Rc<i32>` which is not `Send`", "run_local"],
    ),
    (
        "a body that borrows",
        r#"let name = String::from("report");
        let _ = Job::new("report", every("5s")).run(async |_| println!("{name}"));"#,
        &["run_with"],
    ),
    (
        "a body that moves what it captures",
        r#"let name = String::from("report");
        let _ = Job::new("report", every("5s")).run(async move |_| println!("{name}"));"#,
        &["run_with"],
    ),
];

#[test]
fn first_mistakes_are_met_with_our_words() {
    let compiler = Compiler::new();
    let mut faults = Vec::new();
    for (what, code, words) in WRONG {
        let said = compiler.compile(&compiler.library, code).expect_err(what);
        eprintln!("== {what}\n{said}");
        faults.extend(
            words.iter().filter(|words| !said.contains(**words)).map(|words| format!("{what}: no {words:?}")),
        );
        let foreign = ["testkit", "Misbehaving", "fakes"];
        faults.extend(
            foreign.iter().filter(|word| said.contains(**word)).map(|word| format!("{what}: {word:?}")),
        );
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

struct Compiler {
    rustc: PathBuf,
    /// Where cargo puts libraries, and this test.
    deps: PathBuf,
    /// The library that this test is linked with.
    library: PathBuf,
    dir: TempDir,
}

impl Compiler {
    fn new() -> Self {
        let deps = env::current_exe().expect("a path").parent().expect("a directory").to_owned();
        let beside_cargo = env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
        let rustc = env::var_os("RUSTC").map(PathBuf::from).or(beside_cargo.filter(|path| path.exists()));
        let rustc = rustc.unwrap_or_else(|| "rustc".into());
        let dir = tempfile::tempdir().expect("a directory");
        let mut compiler = Self { rustc, deps, library: PathBuf::new(), dir };

        let mut built = compiler.built();
        built.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let mut said = Vec::new();
        for (_, library) in built {
            match compiler.compile(&library, RIGHT) {
                Ok(()) => {
                    compiler.library = library;
                    return compiler;
                }
                Err(why) => said.push(why),
            }
        }
        panic!("there is no build of the library with which this compiles:\n{}", said.join("\n"));
    }

    /// The builds of the library, with the times at which they were built.
    fn built(&self) -> Vec<(std::time::SystemTime, PathBuf)> {
        let files = fs::read_dir(&self.deps).expect("a directory").map(|file| file.expect("a file"));
        let is_library = |name: &str| name.starts_with("libcallsheet-") && name.ends_with(".rlib");
        files
            .filter(|file| file.file_name().to_str().is_some_and(is_library))
            .map(|file| (file.metadata().and_then(|data| data.modified()).expect("a time"), file.path()))
            .collect()
    }

    /// Checks a program with this code in its main function.
    ///
    /// # Errors
    ///
    /// What the compiler says.
    fn compile(&self, library: &Path, code: &str) -> Result<(), String> {
        let main = self.dir.path().join("main.rs");
        let program = format!(
            "#![allow(unused)]\nuse callsheet::prelude::*;\nasync fn tokio_sleep() {{}}\nfn main() {{\n{code}\n}}\n"
        );
        fs::write(&main, program).expect("a file");
        let mut library_named = std::ffi::OsString::from("callsheet=");
        library_named.push(library);
        let output = Command::new(&self.rustc)
            .args(["--edition", "2024", "--emit", "metadata", "--color", "never"])
            .arg("--extern")
            .arg(library_named)
            .arg("-L")
            .arg(format!("dependency={}", self.deps.display()))
            .arg("--out-dir")
            .arg(self.dir.path())
            .arg(&main)
            .output()
            .expect("the compiler runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}
