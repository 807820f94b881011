//! Settings, before anything is opened.

use super::*;

#[tokio::test]
async fn faults_of_the_settings_are_told_all_at_once_before_anything_is_opened() {
    let authority = "add sslrootcert=/path/to/authority.pem to the URL (sslrootcert=system: whom this machine trusts), or use \
                     Postgres::root_certificates";
    let here = format!("postgres://me:{PASSWORD}@127.0.0.1/db");
    let there = format!("postgres://me:{PASSWORD}@db.example/db");
    let with = |mode: &str| format!("{here}?{mode}");
    let example = "write postgres://user:password@host:5432/database";
    let cases = [
        (
            Postgres::new("  ", &here),
            "postgres: scope \"  \": a scope is not empty: nodes of one scope share leader and jobs; name the application: \
             Postgres::new(\"billing\", url)"
                .to_owned(),
        ),
        (
            Postgres::new("x".repeat(101), &here),
            "postgres: scope \"…\": a scope has at most 100 bytes and no control characters; choose a shorter, plain name"
                .to_owned(),
        ),
        (
            Postgres::new("_local", &here),
            "postgres: scope \"_local\": scopes that begin with `_` are reserved: _local is that of the embedded backend in \
             metrics; begin it with another character"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &here).schema("Robert'); DROP"),
            "postgres: schema \"Robert'); DROP\": a schema's name has 1 to 63 lower-case letters, digits and underscores, \
             and does not start with pg_; choose another name"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &here).lease(Duration::from_millis(999)),
            "postgres: lease \"999ms\": a lease is at least 1 s and at most 1 h; choose another one; 5 s is the default"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &here).lease(Duration::MAX),
            "postgres: lease \"213503982334601d7h15s999ms999us999ns\": a lease is at least 1 s and at most 1 h; choose another \
             one; 5 s is the default"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!("postgre://me:{PASSWORD}@localhost/db")),
            format!("postgres: url \"(not shown)\": it is a connection string of PostgreSQL; {example}"),
        ),
        (
            Postgres::new("billing", format!("postgres://me:{PASSWORD}@localhost:54x2/db")),
            "postgres: url \"(not shown)\": its port is a number from 0 to 65535; correct it; write a `:`, `/`, `@` or `?` of \
             the user or the password as %3A, %2F, %40, %3F"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!("{here}\n")),
            "postgres: url \"(not shown)\": it has no blank and no line break; take them out; a blank within a value is %20"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!(" {here}")),
            "postgres: url \"(not shown)\": it has no blank and no line break; take them out; a blank within a value is %20"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("connect_timeout=soon")),
            "postgres: url \"(not shown)\": its parameter `connect_timeout` has a value that the driver knows; correct it, or \
             leave it out"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("require_auth=md5")),
            "postgres: require_auth \"(not shown)\": it is not supported here; leave it out".to_owned(),
        ),
        (
            Postgres::new("billing", with(&format!("password=a&{PASSWORD}=b"))),
            "postgres: url \"(not shown)\": it has only parameters that the driver knows; correct its name, or leave it out"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!("user=me password={PASSWORD}")),
            format!("postgres: url \"(not shown)\": it names a host; {example}"),
        ),
        (
            Postgres::new("billing", &there),
            format!(
                "postgres: sslmode \"prefer\": to a host other than this machine no password is sent that may not be \
                 encrypted, and this mode, the default, falls back to plain text; {authority}, or write sslmode=disable on \
                 a network that you trust"
            ),
        ),
        (
            Postgres::new("billing", with("sslmode=require")),
            format!(
                "postgres: sslmode \"require\": an encrypted connection verifies the server's certificate, which takes a \
                 certificate authority; {authority}"
            ),
        ),
        (
            Postgres::new("billing", with("sslmode=disable")).root_certificates("x"),
            "postgres: sslmode \"disable\": a connection that is not encrypted verifies no certificate, and shows none; \
             leave out sslmode=disable, or the certificates"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("sslmode=always")),
            "postgres: sslmode \"always\": it is one of disable, allow, prefer, require, verify-ca, verify-full; choose one \
             of them"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("sslcrl=/revoked.pem")),
            "postgres: sslcrl \"(not shown)\": it is not supported here; leave it out".to_owned(),
        ),
        (
            Postgres::new("billing", with("sslrootcert=system&sslcert=/mine.pem")),
            "postgres: sslcert \"/mine.pem\": sslcert and sslkey come together; give both, or neither".to_owned(),
        ),
        (
            Postgres::new("billing", with("sslrootcert=/nowhere/ca.pem")),
            "postgres: sslrootcert \"/nowhere/ca.pem\": it is a file that can be read: No such file or directory (os error \
             2); check the path and the rights"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &there).root_certificates("no certificate"),
            "postgres: sslrootcert \"(given)\": it has certificates in PEM format: there is none; give certificates, in PEM \
             format"
                .to_owned(),
        ),
    ];
    for (backend, expected) in cases {
        let shown = format!("{backend:?}");
        let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(backend).start().await else {
            panic!("it started: {expected}");
        };
        assert_eq!(faults.to_string(), expected);
        assert!(!shown.contains(PASSWORD), "{shown}");
    }

    let all = Postgres::new("", with("sslmode=require")).schema("").lease(Duration::ZERO);
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(all).start().await else {
        panic!("it started");
    };
    let subjects: Vec<_> = faults.as_slice().iter().map(|fault| fault.subject.as_str()).collect();
    assert_eq!(subjects, ["postgres: scope", "postgres: schema", "postgres: lease", "postgres: sslmode"]);
}
