//! What listeners with `https` present, from a config: which certificate for which name, and who is let in.

use std::fmt;
use std::sync::Arc;

use l7::tls::front::{ClientAuth, Entry, Front, FrontSpec, Tickets, certified, provider};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls::time_provider::DefaultTimeProvider;

use crate::config::{self, Config, HostPattern, Site, TlsVersion};

/// What is spoken within, the best first.
const ALPN: [&[u8]; 1] = [b"http/1.1"];
/// Bytes of early data that a client may send: a request's head with room to spare, and less than a window.
const EARLY_DATA_BYTES: u32 = 16 << 10;

/// What listeners present.
pub struct Fronts {
    /// What they present.
    pub front: Front,
    /// The site of each of its entries.
    pub sites: Vec<u16>,
}

/// A certificate by which a name is proved to an ACME server (RFC 8737).
#[derive(Clone)]
pub struct Challenge {
    /// The name.
    pub name: String,
    /// The certificate.
    pub certificate: Arc<CertifiedKey>,
}

/// The fronts of a config; `None` where no listener has `https`. `tickets` are the node's.
///
/// # Errors
/// One sentence.
pub fn fronts(
    config: &Config,
    tickets: Option<Tickets>,
    challenges: &[Challenge],
) -> Result<Option<Fronts>, String> {
    if config.listeners.iter().all(|l| l.https.is_none()) {
        return Ok(None);
    }
    let provider = provider();
    let mut entries = Vec::new();
    let mut sites = Vec::new();
    for (number, site) in config.sites.iter().enumerate() {
        for (names, certificates) in shown(config, site) {
            let host = names.first().map(String::as_str).unwrap_or_default();
            let failed = |e: &dyn fmt::Display| format!("site {host}: {e}");
            let certified = |c: &Arc<config::Certificate>| {
                let ocsp = c.ocsp.as_ref().map(|o| o.to_vec());
                certified(c.chain.clone(), c.key.0.clone_key(), ocsp, &provider).map_err(|e| failed(&e))
            };
            let certificates = certificates.iter().map(certified).collect::<Result<_, _>>()?;
            entries.push(Entry {
                certificates,
                client_auth: client_auth(site).map_err(|e| failed(&e))?,
                alpn: ALPN.map(<[u8]>::to_vec).to_vec(),
                tls12: config.tls.min_version <= TlsVersion::V1_2,
                early_data_bytes: if config.tls.early_data { EARLY_DATA_BYTES } else { 0 },
                names,
            });
            sites.push(number as u16);
        }
    }
    let spec = FrontSpec {
        entries,
        challenges: challenges.iter().map(|c| (c.name.clone(), Arc::clone(&c.certificate))).collect(),
        provider,
        time: Arc::new(DefaultTimeProvider),
        tickets,
    };
    let front = Front::new(spec).map_err(|e| match e.entry {
        Some(n) => format!("site {}: {e}", config.sites[usize::from(sites[n])].hosts[0]),
        None => format!("a challenge of ACME: {e}"),
    })?;
    Ok(Some(Fronts { front, sites }))
}

/// Hosts of a site that are shown the same certificates, and these.
type Shown<'c> = (Vec<String>, &'c [Arc<config::Certificate>]);

/// A site's own certificates; without any, for each host those of another site that are for it, or else those of the
/// default site. A host for which there is nothing is left out.
fn shown<'c>(config: &'c Config, site: &'c Site) -> Vec<Shown<'c>> {
    if !site.tls.certificates.is_empty() {
        return vec![(site.hosts.iter().map(ToString::to_string).collect(), &site.tls.certificates)];
    }
    let is_default = |s: &&Site| s.hosts.contains(&HostPattern::Default);
    let default = config.sites.iter().find(is_default).filter(|s| !s.tls.certificates.is_empty());
    let mut all: Vec<Shown<'c>> = Vec::new();
    for host in site.hosts.iter().filter(|h| **h != HostPattern::Default) {
        let covers = |s: &&Site| s.tls.certificates.iter().any(|c| c.covers(host));
        let Some(other) = config.sites.iter().find(covers).or(default) else { continue };
        let certificates = &other.tls.certificates[..];
        match all.iter_mut().find(|(_, shown)| std::ptr::eq(*shown, certificates)) {
            Some((names, _)) => names.push(host.to_string()),
            None => all.push((vec![host.to_string()], certificates)),
        }
    }
    all
}

fn client_auth(site: &Site) -> Result<ClientAuth, rustls::Error> {
    let Some(auth) = &site.tls.client_auth else { return Ok(ClientAuth::None) };
    let mut roots = RootCertStore::empty();
    for certificate in auth.roots.certificates.iter() {
        roots.add(certificate.clone())?;
    }
    let roots = Arc::new(roots);
    Ok(if auth.required { ClientAuth::Required(roots) } else { ClientAuth::Optional(roots) })
}
