//! What a running server takes over of a configuration that was read again: all of it, or nothing.

use netra_gateway::{FreshCertificate, Origins, PerMinute, Tls};
use netra_protocol::limits::Limits;
use netra_store::Store;

use crate::config::Config;
use crate::node::Error;

/// What of a running server can be set.
pub(crate) struct Settable {
    pub(crate) store: Store,
    pub(crate) tls: Option<Tls>,
    /// Of whoever is not signed in.
    pub(crate) requests: PerMinute,
    pub(crate) logins: PerMinute,
    /// Of other pages.
    pub(crate) origins: Origins,
}

impl Settable {
    pub(crate) fn of(store: &Store, tls: Option<Tls>, edge: &netra_gateway::Config) -> Self {
        Self {
            store: store.clone(),
            tls,
            requests: edge.requests_per_address.clone(),
            logins: edge.logins_per_minute.clone(),
            origins: edge.allowed_origins.clone(),
        }
    }
}

/// What was read, and can be used as it is.
#[must_use = "nothing is changed before it is taken over"]
pub struct Reload<'a> {
    of: &'a Settable,
    certificate: Option<FreshCertificate>,
    limits: Limits,
    requests: u32,
    logins: u32,
    origins: Vec<String>,
}

impl Settable {
    pub(crate) fn read(&self, config: &Config) -> Result<Reload<'_>, Error> {
        let certificate = match (&self.tls, &config.tls) {
            (Some(tls), Some((certificate, key))) => {
                Some(tls.read_again(certificate, key).map_err(Error::Tls)?)
            }
            _ => None,
        };
        Ok(Reload {
            of: self,
            certificate,
            limits: config.limits.clone(),
            requests: config.requests_per_address,
            logins: config.logins_per_minute,
            origins: config.allowed_origins.clone(),
        })
    }
}

impl Reload<'_> {
    /// Puts all of it in force.
    pub fn take_over(self) {
        if let Some(certificate) = self.certificate {
            certificate.show();
        }
        self.of.store.set_limits(self.limits);
        self.of.requests.set(self.requests);
        self.of.logins.set(self.logins);
        self.of.origins.set(self.origins);
    }
}
