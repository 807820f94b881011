//! Certificates: whom a connection trusts, and what it shows of itself.

use std::{fs, path::PathBuf, sync::Arc};

use callsheet_actors::Fault;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The parameters of a URL that name files of certificates, as libpq calls them.
pub(super) const ROOTS: &str = "sslrootcert";
pub(super) const CERTIFICATE: &str = "sslcert";
pub(super) const KEY: &str = "sslkey";

/// What was said about certificates.
#[derive(Clone)]
pub(super) struct Certificates {
    /// The store that is connected to, at the beginning of a fault.
    store: &'static str,
    roots: Roots,
    /// What this node shows of itself: a certificate with those that lead up to its authority, and its key.
    certificate: Option<Pem>,
    key: Option<Pem>,
}

/// Whom to trust.
#[derive(Clone, Default)]
enum Roots {
    #[default]
    Nobody,
    Pem(Pem),
    System,
}

/// A certificate and its key, in PEM format.
#[cfg(any(feature = "etcd", feature = "mysql"))]
pub(super) type Identity = (Vec<u8>, Vec<u8>);

/// Text in PEM format.
#[derive(Clone)]
enum Pem {
    Given(Vec<u8>),
    File(PathBuf),
}

impl Certificates {
    /// None, for connections to this store.
    pub(super) fn none(store: &'static str) -> Self {
        Self { store, roots: Roots::Nobody, certificate: None, key: None }
    }

    /// Takes a parameter of a URL, if it is one of these: whether it is.
    pub(super) fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            ROOTS if value == "system" => self.roots = Roots::System,
            ROOTS => self.roots = Roots::Pem(Pem::File(PathBuf::from(value))),
            CERTIFICATE => self.certificate = Some(Pem::File(PathBuf::from(value))),
            KEY => self.key = Some(Pem::File(PathBuf::from(value))),
            _ => return false,
        }
        true
    }

    /// Trusts these certificates, whatever else was said.
    pub(super) fn trust(&mut self, pem: &[u8]) {
        self.roots = Roots::Pem(Pem::Given(pem.to_owned()));
    }

    /// Trusts whom this machine trusts.
    #[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
    pub(super) fn trust_system(&mut self) {
        self.roots = Roots::System;
    }

    /// Shows this certificate, whatever else was said.
    pub(super) fn identify(&mut self, certificate: &[u8], key: &[u8]) {
        self.certificate = Some(Pem::Given(certificate.to_owned()));
        self.key = Some(Pem::Given(key.to_owned()));
    }

    /// The same, with the certificates that were given instead of those of the URL.
    #[cfg(feature = "postgres")]
    pub(super) fn overridden_by(mut self, given: &Self) -> Self {
        if given.has_authority() {
            self.roots = given.roots.clone();
        }
        if given.certificate.is_some() {
            (self.certificate, self.key) = (given.certificate.clone(), given.key.clone());
        }
        self
    }

    /// Whether it was said whom to trust.
    pub(super) fn has_authority(&self) -> bool {
        !matches!(self.roots, Roots::Nobody)
    }

    /// Whether there is a certificate to show.
    pub(super) fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// How to encrypt, and whom to trust: nobody who does not show a certificate of the authorities for the host.
    /// Reads the files.
    pub(super) fn client_config(&self) -> Result<ClientConfig, Fault> {
        let roots = self.load_roots()?;
        // Not the provider of the process: which one that is, if any, is the application's business.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verified = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| self.fault("TLS", "", error.to_string(), "this is a defect; please report it"))?
            .with_root_certificates(roots);
        match (&self.certificate, &self.key) {
            (None, None) => Ok(verified.with_no_client_auth()),
            (Some(certificate), Some(key)) => {
                let chain = self.certificates(certificate, CERTIFICATE)?;
                verified.with_client_auth_cert(chain, self.private_key(key)?).map_err(|error| {
                    let rule = format!("it is a certificate, and {KEY} is its key: {error}");
                    let cure = "give the key of this very certificate";
                    self.fault(CERTIFICATE, certificate.shown(), rule, cure)
                })
            }
            (Some(pem), None) | (None, Some(pem)) => {
                let rule = format!("{CERTIFICATE} and {KEY} come together");
                Err(self.fault(CERTIFICATE, pem.shown(), rule, "give both, or neither"))
            }
        }
    }

    /// Whom to trust, in PEM format; `None`: whom this machine trusts.
    #[cfg(feature = "etcd")]
    pub(super) fn authorities(&self) -> Result<Option<Vec<u8>>, Fault> {
        match &self.roots {
            Roots::Nobody | Roots::System => Ok(None),
            Roots::Pem(pem) => self.read(pem, ROOTS).map(Some),
        }
    }

    /// The certificates of the authorities, for a driver that makes its own connections.
    #[cfg(feature = "mysql")]
    pub(super) fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        match &self.roots {
            Roots::Nobody => Ok(Vec::new()),
            Roots::Pem(pem) => self.certificates(pem, ROOTS),
            Roots::System => {
                let found = rustls_native_certs::load_native_certs().certs;
                // Without those that are none: the driver takes all, or nothing.
                let fit = |certificate: &CertificateDer<'_>| {
                    RootCertStore::empty().add(certificate.clone().into_owned()).is_ok()
                };
                Ok(found.into_iter().filter(fit).collect())
            }
        }
    }

    /// The certificate to show and its key, as texts in PEM format, for the same.
    #[cfg(any(feature = "etcd", feature = "mysql"))]
    pub(super) fn identity(&self) -> Result<Option<Identity>, Fault> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Ok(Some((self.read(certificate, CERTIFICATE)?, self.read(key, KEY)?)))
            }
            (None, _) | (_, None) => Ok(None),
        }
    }

    fn load_roots(&self) -> Result<RootCertStore, Fault> {
        let mut store = RootCertStore::empty();
        match &self.roots {
            Roots::Nobody => {}
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    let rule = "this machine has certificates of authorities";
                    let cure = "install them (Debian: ca-certificates), or name a file";
                    return Err(self.fault(ROOTS, "system", rule, cure));
                }
            }
            Roots::Pem(pem) => {
                for certificate in self.certificates(pem, ROOTS)? {
                    let added = store.add(certificate);
                    added.map_err(|error| self.unfit(pem, ROOTS, "certificates", error))?;
                }
            }
        }
        Ok(store)
    }

    fn certificates(&self, pem: &Pem, of: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let text = self.read(pem, of)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match read {
            Ok(certificates) if certificates.is_empty() => {
                Err(self.unfit(pem, of, "certificates", "there is none"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(self.unfit(pem, of, "certificates", error)),
        }
    }

    fn private_key(&self, pem: &Pem) -> Result<PrivateKeyDer<'static>, Fault> {
        let text = self.read(pem, KEY)?;
        PrivateKeyDer::from_pem_slice(&text)
            .map_err(|error| self.unfit(pem, KEY, "a key without a password", error))
    }

    fn read(&self, pem: &Pem, of: &str) -> Result<Vec<u8>, Fault> {
        match pem {
            Pem::Given(text) => Ok(text.clone()),
            Pem::File(path) => fs::read(path).map_err(|error| {
                let rule = format!("it is a file that can be read: {error}");
                self.fault(of, pem.shown(), rule, "check the path and the rights")
            }),
        }
    }

    /// What is wrong with the text, which itself is never shown: it may be a key.
    fn unfit(&self, pem: &Pem, of: &str, what: &str, error: impl std::fmt::Display) -> Fault {
        let rule = format!("it has {what} in PEM format: {error}");
        self.fault(of, pem.shown(), rule, format!("give {what}, in PEM format"))
    }

    fn fault(
        &self,
        what: &str,
        value: impl Into<String>,
        rule: impl Into<String>,
        cure: impl Into<String>,
    ) -> Fault {
        Fault::new(format!("{}: {what}", self.store), value, rule, cure)
    }
}

impl Pem {
    fn shown(&self) -> String {
        match self {
            Self::Given(_) => "(given)".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}
