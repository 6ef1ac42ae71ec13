//! How many handshakes, or connections, each source has: who has many is refused, and takes nothing from the others.
//!
//! A source is an IPv4 address or an IPv6 network of 64 bits: whoever has one address of such a network may have all.

use std::net::IpAddr;
use std::ops::DerefMut;

use dataplane::sip;

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source(u64);

impl Source {
    /// No source: there is no limit.
    pub const NONE: Source = Source(u64::MAX);

    /// That of an address. No network under `::/32` is handed out, so that an IPv4 address looks like none.
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Source((v6.to_bits() >> 64) as u64),
        }
    }
}

/// Counts by source: open addressing, at most half full. Whoever sends from many sources does not know the key.
pub(super) struct Sources<P = Box<[Place]>> {
    places: P,
    key: sip::Key,
    per_source: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    source: Source,
    count: u32,
}

/// Nobody's.
pub(super) const FREE: Place = Place { source: Source::NONE, count: 0 };

impl Sources {
    /// For `n` at most, of which one source may have `per_source`.
    pub fn new(n: u32, per_source: u32, key: sip::Key) -> Sources {
        Sources::within(vec![FREE; places(n)].into(), per_source, key)
    }

    /// Bytes for so many.
    pub const fn bytes(n: u32) -> usize {
        places(n) * size_of::<Place>()
    }
}

/// Places that a table for `n` at most needs.
pub(super) const fn places(n: u32) -> usize {
    (n as usize * 2).next_power_of_two()
}

impl<P: DerefMut<Target = [Place]>> Sources<P> {
    /// The same in [`places`] that are there already, and are [`FREE`].
    pub fn within(places: P, per_source: u32, key: sip::Key) -> Sources<P> {
        debug_assert!(places.len().is_power_of_two());
        Sources { places, key, per_source }
    }

    /// One more, unless it has as many as it may have. To be called for as many as there may be, and no more.
    pub fn add(&mut self, source: Source) -> bool {
        if source == Source::NONE {
            return true;
        }
        let at = self.find(source);
        let Some(place) = self.places.get_mut(at) else { return false };
        if place.count >= self.per_source {
            return false;
        }
        *place = Place { source, count: place.count + 1 };
        true
    }

    /// One less.
    pub fn remove(&mut self, source: Source) {
        let at = self.find(source);
        let Some(place) = self.places.get_mut(at).filter(|place| place.count > 0) else { return };
        place.count -= 1;
        if place.count == 0 {
            self.close_up(at);
        }
    }

    /// Where it is, or a free place for it. There always is one.
    fn find(&self, source: Source) -> usize {
        let mut at = self.home(source);
        loop {
            let place = self.places[at];
            if place.count == 0 || place.source == source {
                return at;
            }
            at = self.next(at);
        }
    }

    /// Empties a place: those behind it move up, so that none is behind a gap.
    fn close_up(&mut self, mut gap: usize) {
        let mut at = gap;
        loop {
            at = self.next(at);
            let place = self.places[at];
            if place.count == 0 {
                self.places[gap] = FREE;
                return;
            }
            let mask = self.places.len() - 1;
            let distance = |from: usize| at.wrapping_sub(from) & mask;
            if distance(self.home(place.source)) >= distance(gap) {
                self.places[gap] = place;
                gap = at;
            }
        }
    }

    fn home(&self, source: Source) -> usize {
        sip::words(self.key, [source.0]) as usize & (self.places.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_or_a_network() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    proptest! {
        #[test]
        fn counts_as_a_map_does(steps in prop::collection::vec((0u64..12, any::<bool>()), 0..400)) {
            let (room, limit) = (16, 3);
            let mut sources = Sources::new(room, limit, [1, 2]);
            let mut map: HashMap<u64, u32> = HashMap::new();
            for (source, add) in steps {
                let all: u32 = map.values().sum();
                let count = map.entry(source).or_default();
                if add && all < room {
                    prop_assert_eq!(sources.add(Source(source)), *count < limit);
                    *count = (*count + 1).min(limit);
                } else if !add {
                    sources.remove(Source(source));
                    *count = count.saturating_sub(1);
                }
            }
            let left = sources.places.iter().filter(|place| place.count > 0).count();
            prop_assert_eq!(left, map.values().filter(|count| **count > 0).count());
            for (source, count) in map {
                for _ in count..limit {
                    prop_assert!(sources.add(Source(source)));
                }
                prop_assert!(!sources.add(Source(source)));
            }
        }
    }
}
