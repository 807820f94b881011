//! How a URL, or a connection string of keys and values, is read.

use std::error::Error;

use callsheet_actors::Fault;
use tokio_postgres::Config;

use super::tls::Tls;

/// Shown instead of what may contain a password.
pub(super) const NOT_SHOWN: &str = "(not shown)";

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
const EXAMPLE: &str = "write postgres://user:password@host:5432/database";

/// Reads what was written, without showing it: where to, as whom, and what it says about encryption.
pub(in crate::backend) fn read(url: &str) -> (Result<Box<Config>, Fault>, Tls) {
    let (rest, tls) = Tls::take_from(url);
    (check(url, &rest), tls)
}

fn check(url: &str, without_tls: &str) -> Result<Box<Config>, Fault> {
    let fault = |rule: &str, cure: &str| Err(Fault::new("postgres: url", NOT_SHOWN, rule, cure));
    let is_url = SCHEMES.iter().any(|scheme| url.trim_start().starts_with(scheme));
    if is_url && url.contains(char::is_whitespace) {
        return fault("it has no blank and no line break", "take them out; a blank within a value is %20");
    }
    let error = match without_tls.parse::<Config>() {
        Ok(config) if config.get_hosts().is_empty() => return fault("it names a host", EXAMPLE),
        Ok(config) => return Ok(Box::new(config)),
        Err(error) => error.source().map(ToString::to_string).unwrap_or_default(),
    };
    let named = |before: &str| error.strip_prefix(before)?.strip_suffix('`');
    if let Some("port") = named("invalid value for option `") {
        let cure =
            "correct it; write a `:`, `/`, `@` or `?` of the user or the password as %3A, %2F, %40, %3F";
        return fault("its port is a number from 0 to 65535", cure);
    }
    if let Some(parameter) = named("invalid value for option `") {
        let rule = format!("its parameter `{parameter}` has a value that the driver knows");
        return fault(&rule, "correct it, or leave it out");
    }
    if error.starts_with("unknown option `") {
        // Its name is not shown: it may be a part of a password.
        return fault("it has only parameters that the driver knows", "correct its name, or leave it out");
    }
    fault("it is a connection string of PostgreSQL", EXAMPLE)
}
