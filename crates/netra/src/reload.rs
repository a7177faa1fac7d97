//! What a running server takes over of a configuration that was read again: all of it, or nothing.

use netra_gateway::{FreshCertificate, PerMinute, Tls};
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
}

/// What was read, and can be used as it is.
#[must_use = "nothing is changed before it is taken over"]
pub struct Reload<'a> {
    of: &'a Settable,
    certificate: Option<FreshCertificate>,
    limits: Limits,
    requests: u32,
    logins: u32,
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
    }
}
