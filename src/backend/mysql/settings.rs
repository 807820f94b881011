//! What a node needs to know to connect, checked before anything is started.

use callsheet_actors::Fault;
use mysql_async::{ClientIdentity, SslOpts};

use super::address::{self, Address, Mode, Place};
use crate::backend::{
    sql,
    store::{self, Kind, Servers, Store},
};

/// What a node is told of its server.
pub(super) type Target = Servers<Address>;
pub(super) type Settings = store::Settings<Target>;

impl Store for Target {
    const KIND: Kind = Kind {
        name: "mysql",
        example: "Mysql::new(\"billing\", url)",
        lease_min: sql::LEASE_MIN,
        lease_default: sql::LEASE_DEFAULT,
        deadline_default: sql::DEADLINE_DEFAULT,
    };

    fn at(url: &str) -> Self {
        Servers::at(url, address::read)
    }

    fn faults(&self) -> Vec<Fault> {
        match &self.address {
            Ok(_) => self.tls().err().into_iter().collect(),
            Err(fault) => vec![fault.clone()],
        }
    }
}

impl Target {
    /// How to encrypt, if it is to be encrypted. Reads the files of certificates.
    pub(super) fn tls(&self) -> Result<Option<SslOpts>, Fault> {
        if !self.encrypted()? {
            return Ok(None);
        }
        // What is wrong with the certificates is told as for all other stores.
        self.certificates.client_config()?;
        let authorities = self.certificates.trusted()?.into_iter();
        let authorities = authorities.map(|certificate| certificate.as_ref().to_vec().into()).collect();
        let identity = self.certificates.identity()?;
        let identity = identity.map(|(certificate, key)| ClientIdentity::new(certificate.into(), key.into()));
        let options = SslOpts::default()
            .with_disable_built_in_roots(true)
            .with_root_certs(authorities)
            .with_client_identity(identity);
        Ok(Some(options))
    }

    /// As for PostgreSQL: no password is sent to another machine that may not be encrypted, and what is encrypted is
    /// verified.
    fn encrypted(&self) -> Result<bool, Fault> {
        let Address { place, mode, .. } = self.address()?;
        let (has_authority, has_certificate) =
            (self.certificates.has_authority(), self.certificates.has_certificate());
        let fault = |rule: &str, cure: &str| Err(Fault::new("mysql: sslmode", shown(*mode), rule, cure));
        match (mode, place) {
            (Mode::Disabled, _) if has_authority || has_certificate => {
                let rule = "a connection that is not encrypted verifies no certificate, and shows none";
                fault(rule, "leave out sslmode=disable, or the certificates")
            }
            // A socket of this machine needs no encryption.
            (Mode::Disabled, _) | (Mode::Unsaid | Mode::Required, Place::Socket(_)) => Ok(false),
            (Mode::Unsaid | Mode::Required, Place::Host(_)) if has_authority => Ok(true),
            (Mode::Unsaid, Place::Host(_)) if place.is_here() && !has_certificate => Ok(false),
            (Mode::Unsaid, Place::Host(_)) if !has_certificate => {
                let rule = "to a host other than this machine no password is sent that may not be encrypted";
                let cure = format!("{AUTHORITY}, or write sslmode=disable on a network that you trust");
                fault(rule, &cure)
            }
            (Mode::Unsaid | Mode::Required, Place::Host(_)) => {
                let rule = "an encrypted connection verifies the server's certificate, which takes a certificate authority";
                fault(rule, AUTHORITY)
            }
        }
    }
}

const AUTHORITY: &str = "add sslrootcert=/path/to/authority.pem to the URL (sslrootcert=system: whom this machine trusts), \
                         or use Mysql::root_certificates";

fn shown(mode: Mode) -> &'static str {
    match mode {
        Mode::Unsaid => "",
        Mode::Disabled => "disable",
        Mode::Required => "require",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypted(url: &str) -> Result<bool, Fault> {
        <Target as Store>::at(url).encrypted()
    }

    #[test]
    fn no_password_goes_to_another_machine_unless_it_is_encrypted_or_that_was_said() {
        assert_eq!(encrypted("mysql://h/a?sslmode=disable"), Ok(false));
        assert_eq!(encrypted("mysql://localhost/a"), Ok(false));
        assert_eq!(encrypted("mysql://127.0.0.1/a"), Ok(false));
        assert_eq!(encrypted("mysql:///a?socket=/s&sslrootcert=system"), Ok(false));
        assert_eq!(encrypted("mysql://h/a?sslrootcert=system"), Ok(true));
        assert_eq!(encrypted("mysql://localhost/a?sslrootcert=system"), Ok(true));
        for refused in [
            "mysql://h/a",
            "mysql://h/a?sslmode=require",
            "mysql://localhost/a?sslmode=require",
            "mysql://h/a?sslmode=disable&sslrootcert=system",
            "mysql://localhost/a?sslcert=c&sslkey=k",
        ] {
            assert!(encrypted(refused).is_err(), "{refused}");
        }
    }
}
