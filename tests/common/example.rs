//! The examples as processes.

use std::{env, process::Command};

/// The example that cargo built beside this test.
pub(crate) fn example(name: &str) -> Command {
    let test = env::current_exe().expect("a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps/<test>");
    let example = profile.join("examples").join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        example.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test …` does not; build it with \
         `cargo build --example {name}` (and the profile, features and target of this test)",
        example.display()
    );
    let mut command = Command::new(example);
    // Whatever whoever runs the tests has set for examples of their own.
    for variable in
        ["BACKEND", "CATALOGUE", "DATABASE_URL", "ELECTION", "LEASE", "LOCAL_FILE", "NODE_NAME", "SCOPE"]
    {
        command.env_remove(format!("CALLSHEET_{variable}"));
    }
    command
}
