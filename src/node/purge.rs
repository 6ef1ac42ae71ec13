//! `millrace purge` in the node: marks stored responses, and waits until no core serves them any more.
//!
//! The control side is a participant of the store beside the cores. It is online only while it purges: a participant
//! that neither passes nor sleeps would hold up the reclaiming of memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::Bells;
use l7::cache::policy::blob::Blob;
use l7::cache::policy::key::{UrlParts, has_prefix, host_of_key, url_of_key, write_key};
use l7::cache::policy::rules::KeyRules;
use l7::cache::policy::tags::tag_hash;
use l7::cache::store::Handle;
use l7::http1::SliceSink;

use super::assemble::SharedCache;
use super::reload::Reloader;
use crate::control::purge::{Purge, Target};
use crate::control::{Answer, ControlHandler, Request};
use crate::log;

/// How long the cores may take to pass: a pass each, unless something is very wrong.
const PATIENCE: Duration = Duration::from_secs(5);
const KEY_BYTES_MAX: usize = 4096;

/// Answers `purge`.
pub struct Purger {
    cache: Option<(Handle, SharedCache)>,
    reloader: Arc<Reloader>,
    bells: Arc<Bells>,
}

impl Purger {
    /// For a node with this cache, if it has one.
    pub fn new(cache: Option<SharedCache>, reloader: Arc<Reloader>, bells: Arc<Bells>) -> Purger {
        let cache = cache.map(|c| {
            let mut handle = c.store.handle(bells.cores());
            handle.offline();
            (handle, c)
        });
        Purger { cache, reloader, bells }
    }

    fn purge(&mut self, purge: &Purge) -> Answer {
        let Some((handle, cache)) = &mut self.cache else {
            return Answer::bad("this node has no cache; set cache = true in a site, and restart it");
        };
        let began = Instant::now();
        handle.online();
        let soft = purge.soft;
        let n = match &purge.what {
            Target::All => Ok(handle.purge_all(soft)),
            Target::Tag(tag) => {
                let hash = tag_hash(tag.as_bytes(), &cache.keys);
                Ok(matching(handle, soft, |b| b.tags().any(|t| t == hash)))
            }
            Target::Host(host) => {
                let host = host.to_ascii_lowercase();
                Ok(matching(handle, soft, |b| is_host(host_of_key(b.key()), host.as_bytes())))
            }
            Target::Prefix(prefix) => match lower_authority(prefix) {
                Some(prefix) => Ok(matching(handle, soft, |b| has_prefix(b.key(), prefix.as_bytes()))),
                None => Err(format!("\"{prefix}\" is no URL; write http://HOST/PATH")),
            },
            Target::Url(url) => purge_url(handle, cache, &self.reloader, url, soft),
        };
        let answer = match n {
            Err(e) => Answer::usage(e),
            Ok(n) => {
                let marked = began.elapsed();
                self.bells.ring_all();
                if handle.wait_for_epoch(PATIENCE) {
                    if !soft {
                        handle.sweep();
                    }
                    let obeyed = began.elapsed();
                    log::info(format_args!("purge: {n} objects in {obeyed:?}"));
                    let how = if soft { "marked stale" } else { "purged" };
                    Answer::done(format!("{n} objects {how}"))
                        .with("objects", n)
                        .with("marked_us", marked.as_micros() as u64)
                        .with("obeyed_us", obeyed.as_micros() as u64)
                } else {
                    Answer::bad(
                        "a core did not pass in time; what is purged is marked, but it may still answer with it",
                    )
                }
            }
        };
        handle.offline();
        answer
    }
}

impl ControlHandler for Purger {
    fn verbs(&self) -> &'static [&'static str] {
        &["purge"]
    }

    fn handle(&mut self, request: &Request) -> Answer {
        match Purge::of(request) {
            Ok(purge) => self.purge(&purge),
            Err(e) => Answer::usage(e),
        }
    }
}

fn matching(handle: &mut Handle, soft: bool, mut wanted: impl FnMut(&Blob<'_>) -> bool) -> u64 {
    handle.purge_matching(|bytes| Blob::read(bytes).is_some_and(|b| wanted(&b)), soft)
}

/// The host of a key, with or without the port that it may have.
fn is_host(of_key: &[u8], host: &[u8]) -> bool {
    of_key == host
        || of_key.strip_prefix(host).is_some_and(|port| port.starts_with(b":") && !host.starts_with(b"["))
        || (host.ends_with(b"]") && of_key.starts_with(host))
}

/// The URL with scheme and authority in lower case, as keys have them.
fn lower_authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some(format!("{}://{}{}", scheme.to_ascii_lowercase(), rest[..end].to_ascii_lowercase(), &rest[end..]))
}

/// One URL, under the key rules of every route: what they leave out of a key, they leave out of the URL too.
fn purge_url(
    handle: &mut Handle,
    cache: &SharedCache,
    reloader: &Reloader,
    url: &str,
    soft: bool,
) -> Result<u64, String> {
    let parts = parse(url).ok_or_else(|| format!("\"{url}\" is no URL; write http://HOST/PATH"))?;
    let program = reloader.program();
    let rules = program.config.routes.iter().filter_map(|r| r.cache.as_ref());
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for rules in rules.map(|r| &r.key).chain([&KeyRules::default()]) {
        let mut room = [0; KEY_BYTES_MAX];
        let mut sink = SliceSink::new(&mut room);
        if write_key(&parts, rules, &mut sink).is_ok() && !keys.iter().any(|k| k == sink.written()) {
            keys.push(sink.written().to_vec());
        }
    }
    if cache.store.has_parts() {
        // Slices have keys of their own, however many there are.
        return Ok(matching(handle, soft, |b| keys.iter().any(|k| k == url_of_key(b.key()))));
    }
    let mut scratch = vec![0; cache.store.head_bytes_max()];
    let mut n = 0;
    for key in &keys {
        let is_it = |v: &l7::cache::store::ObjectView<'_>| {
            Blob::read(v.blob).is_some_and(|b| b.key() == key.as_slice())
        };
        n += handle.purge_hash(cache.keys.hash(key), &mut scratch, is_it, soft);
    }
    Ok(n)
}

fn parse(url: &str) -> Option<UrlParts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let rest = rest.split('#').next()?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (path, None),
    };
    if host.is_empty() {
        return None;
    }
    Some(UrlParts { https, host: host.as_bytes(), port, path: path.as_bytes(), query })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let p = parse("http://Example.com:8080/a/b?c=d#e").expect("a URL");
        assert_eq!((p.https, p.host, p.port), (false, &b"Example.com"[..], Some(8080)));
        assert_eq!((p.path, p.query), (&b"/a/b"[..], Some(&b"c=d"[..])));
        let p = parse("https://[2001:db8::1]/").expect("a URL");
        assert_eq!((p.host, p.port, p.https), (&b"[2001:db8::1]"[..], None, true));
        for bad in ["", "example.com/", "ftp://a/", "http:///x", "http://a:b/"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert_eq!(lower_authority("HTTP://A.Example/Path").as_deref(), Some("http://a.example/Path"));
    }

    #[test]
    fn a_host_is_meant_with_any_port() {
        assert!(is_host(b"a.example", b"a.example"));
        assert!(is_host(b"a.example:8080", b"a.example"));
        assert!(is_host(b"a.example:8080", b"a.example:8080"));
        assert!(!is_host(b"a.example.org", b"a.example"));
        assert!(is_host(b"[::1]:8080", b"[::1]"));
    }
}
