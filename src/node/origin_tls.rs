//! TLS to origins, from the config: whom each one has to be, whom we believe about that, and who we are.

use std::sync::Arc;

use l7::tls::origin::{Identity, OriginTls, Roots, Spec, Trust};

use crate::config;

/// What the origins of one upstream have in common.
pub struct Maker<'a> {
    tls: &'a config::OriginTls,
    system: Option<&'a Trust>,
    cores: usize,
    /// Made with the first origin that needs them: an upstream without https needs no roots.
    made: Option<(Trust, Option<Arc<Identity>>)>,
}

impl Maker<'_> {
    /// For an upstream; `system` is whom the system trusts.
    pub fn new<'a>(u: &'a config::Upstream, system: Option<&'a Trust>, cores: usize) -> Maker<'a> {
        Maker { tls: &u.tls, system, cores, made: None }
    }

    /// How TLS is spoken with an origin; `None`: it is not.
    ///
    /// # Errors
    /// One sentence.
    pub fn of(&mut self, o: &config::Origin) -> Result<Option<Arc<OriginTls>>, String> {
        if o.scheme != config::Scheme::Https {
            return Ok(None);
        }
        let made = self.made().and_then(|(trust, identity)| {
            let name = self.tls.name.as_deref().unwrap_or(host_of(&o.authority));
            let mut spec = Spec::new(name, trust).map_err(|e| e.to_string())?;
            spec.identity = identity;
            OriginTls::new(spec, self.cores).map_err(|e| e.to_string())
        });
        made.map(|tls| Some(Arc::new(tls))).map_err(|e| format!("origin https://{}: {e}", o.authority))
    }

    fn made(&mut self) -> Result<(Trust, Option<Arc<Identity>>), String> {
        if let Some(made) = &self.made {
            return Ok(made.clone());
        }
        let trust = match &self.tls.roots {
            _ if !self.tls.verify => Trust::Anybody,
            Some(roots) => {
                let all = Roots::new(&roots.certificates, true);
                Trust::Roots(Arc::new(all.map_err(|e| format!("{}: {e}", roots.file.display()))?))
            }
            // Read with the config.
            None => {
                self.system.cloned().ok_or("nobody has asked whom the system trusts; this is a defect")?
            }
        };
        let identity = match &self.tls.certificate {
            None => None,
            Some(c) => {
                let identity = Identity::new(c.chain.clone(), c.key.0.clone_key());
                Some(Arc::new(identity.map_err(|e| format!("{}: {e}", c.chain_file.display()))?))
            }
        };
        Ok(self.made.insert((trust, identity)).clone())
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, _)) if !authority.ends_with(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_authorities() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example"),
            ("192.0.2.1:1", "192.0.2.1"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:8443", "[2001:db8::1]"),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn what_is_configured_is_what_is_asked_for() {
        let origin = |text: &str| config::names::origin(text).expect("an origin");
        let mut u = config::Upstream::plain(origin("https://A.example:8443"));
        u.tls.verify = false;
        let name = |u: &config::Upstream| {
            let tls = Maker::new(u, None, 2).of(&u.origins[0]).expect("good");
            tls.map(|t| (t.name().to_str().into_owned(), t.spec().trust == Trust::Anybody))
        };
        assert_eq!(name(&u), Some(("a.example".to_owned(), true)));
        u.tls.name = Some("b.example".to_owned());
        assert_eq!(name(&u), Some(("b.example".to_owned(), true)));
        u.origins = vec![origin("https://[2001:db8::1]")];
        u.tls.name = None;
        assert_eq!(name(&u), Some(("2001:db8::1".to_owned(), true)));
        u.origins = vec![origin("http://a.example")];
        assert_eq!(name(&u), None);
    }
}
