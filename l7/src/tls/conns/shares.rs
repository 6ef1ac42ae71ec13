//! How many connections each source has, where `[tls] connections_per_source_max` bounds it; otherwise there is no memory
//! for that, and nothing is counted.
//!
//! A connection counts from its acceptance until its number is another's: while it shakes hands, and while it ends.

use std::net::IpAddr;

use dataplane::sip;
use hugepages::{Arena, FixedVec, Footprint, Limits, SlabIndex};

use crate::tls::record::SessionId;
use crate::tls::sources::{FREE, Place, Source, Sources, places};

/// See the module.
pub(super) struct Shares(Option<Counted>);

struct Counted {
    sources: Sources<FixedVec<Place>>,
    /// Whose each connection is, by the number of its session.
    owners: FixedVec<Source>,
}

impl Shares {
    pub fn cost(limits: &Limits) -> usize {
        match limits.tls_per_source {
            0 => 0,
            _ => {
                let n = limits.tls_connections;
                Arena::cost::<Place>(places(n)) + Arena::cost::<Source>(n as usize)
            }
        }
    }

    pub fn footprint(limits: &Limits, f: &mut Footprint) {
        let n = limits.tls_connections;
        if limits.tls_per_source > 0 && n > 0 {
            let bytes = Sources::bytes(n).div_ceil(n as usize) + size_of::<Source>();
            f.add("tls sources", n.into(), bytes as u64, "how many connections each source has");
        }
    }

    pub fn new(limits: &Limits, arena: &mut Arena, key: sip::Key) -> Option<Shares> {
        let (n, per_source) = (limits.tls_connections, limits.tls_per_source);
        if per_source == 0 {
            return Some(Shares(None));
        }
        let table = arena.array(places(n), |_| FREE)?;
        let owners = arena.array(n as usize, |_| Source::NONE)?;
        Some(Shares(Some(Counted { sources: Sources::within(table, per_source, key), owners })))
    }

    /// One more connection of a source. `None`: it has as many as it may have.
    pub fn enter(&mut self, source: IpAddr) -> Option<Source> {
        let Some(counted) = &mut self.0 else { return Some(Source::NONE) };
        let source = Source::of(source);
        counted.sources.add(source).then_some(source)
    }

    /// It comes to nothing.
    pub fn leave(&mut self, source: Source) {
        if let Some(counted) = &mut self.0 {
            counted.sources.remove(source);
        }
    }

    /// It has got its number.
    pub fn begin(&mut self, c: SessionId, source: Source) {
        if let Some(counted) = &mut self.0 {
            counted.owners[c.to_u32() as usize] = source;
        }
    }

    /// The connection of that number is over.
    pub fn end(&mut self, c: SessionId) {
        if let Some(counted) = &mut self.0 {
            let source = std::mem::replace(&mut counted.owners[c.to_u32() as usize], Source::NONE);
            counted.sources.remove(source);
        }
    }
}
