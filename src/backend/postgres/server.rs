//! Where the server is, and with which credentials and certificates a node connects to it.

use std::sync::{Arc, Mutex, PoisonError};

use callsheet_actors::Fault;
use tokio_postgres::Config;

use super::{
    credentials::Callback,
    tls::{Connector, Tls},
    url::{self, NOT_SHOWN},
};

/// A server, as a node was told of it.
#[derive(Clone)]
pub(in crate::backend) struct Server {
    url: Url,
    /// Asked for the password of each connection, instead of the URL's.
    pub(in crate::backend) password_from: Option<Callback>,
    pub(in crate::backend) tls: Tls,
}

/// Where a connection leads.
#[derive(Clone)]
enum Url {
    /// What is wrong with it, if it is not one.
    Given(Result<Box<Config>, Fault>),
    Asked {
        callback: Callback,
        /// What the last one called this node.
        node_name: Arc<Mutex<String>>,
    },
}

impl Server {
    pub(in crate::backend) fn at(url: &str) -> Self {
        let (config, tls) = url::read(url);
        Self { url: Url::Given(config), password_from: None, tls }
    }

    /// A server whose URL is asked for.
    pub(in crate::backend) fn asked(callback: Callback) -> Self {
        let url = Url::Asked { callback, node_name: Arc::default() };
        Self { url, password_from: None, tls: Tls::default() }
    }

    /// What is wrong with the URL and the certificates, as far as they are known.
    pub(in crate::backend) fn faults(&self) -> Vec<Fault> {
        match &self.url {
            Url::Given(Ok(config)) => self.tls.connector(config).err().into_iter().collect(),
            Url::Given(Err(fault)) => vec![fault.clone()],
            Url::Asked { .. } => Vec::new(),
        }
    }

    /// The callback that answers the password, or whatever there is.
    pub(in crate::backend) fn callback(&self) -> Option<&Callback> {
        let of_url = match &self.url {
            Url::Given(_) => None,
            Url::Asked { callback, .. } => Some(callback),
        };
        self.password_from.as_ref().or(of_url)
    }

    /// Whom to connect to as whom, and whether encrypted: asks the application, if it is to be asked.
    pub(in crate::backend) async fn address(&self) -> Result<(Config, Connector), Fault> {
        let (mut config, connector) = match &self.url {
            Url::Given(config) => {
                let config = config.clone()?;
                let connector = self.tls.connector(&config)?;
                (*config, connector)
            }
            Url::Asked { callback, node_name } => {
                let url = callback.ask().await.map_err(|reason| unanswered("url", reason))?;
                let (config, tls) = url::read(&url);
                let config = config?;
                let connector = tls.overridden_by(&self.tls).connector(&config)?;
                let name = config.get_application_name().unwrap_or_default();
                name.clone_into(&mut *node_name.lock().unwrap_or_else(PoisonError::into_inner));
                (*config, connector)
            }
        };
        if let Some(callback) = &self.password_from {
            config.password(callback.ask().await.map_err(|reason| unanswered("password", reason))?);
        }
        config.ssl_mode(connector.mode);
        Ok((config, connector))
    }

    /// What the URL calls this node; empty if nothing.
    pub(super) fn node_name(&self) -> String {
        match &self.url {
            Url::Given(config) => {
                let name = config.as_ref().ok().and_then(|config| config.get_application_name());
                name.unwrap_or_default().to_owned()
            }
            Url::Asked { node_name, .. } => node_name.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn unanswered(what: &str, reason: String) -> Fault {
    Fault::new(format!("postgres: {what}"), NOT_SHOWN, reason, "it is asked again for each connection")
}
