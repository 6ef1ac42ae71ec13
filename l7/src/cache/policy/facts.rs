//! What has to be known of a stored response to serve it, as plain bytes at the start of its head blob.

/// What has to be known of a stored response to serve it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// When its age was 0 (RFC 9111 4.2.3): its age now is the time since.
    pub birth_ms: u64,
    /// When its head arrived here, or that of the 304 that confirmed it last.
    pub response_ms: u64,
    /// Date, or else `response_ms`: of several that match, the one with the latest is chosen (RFC 9111 4).
    pub date_ms: u64,
    /// Last-Modified in unix seconds; 0 where there is none that can be read.
    pub last_modified_s: u64,
    /// What [`super::vary::variant`] said about the request that it answered.
    pub variant: u64,
    /// How long the whole representation is; [`Facts::TOTAL_UNKNOWN`] where the head did not say.
    pub body_total: u64,
    /// Where in the representation the stored body begins; not 0 only for slices.
    pub slice_start: u64,
    /// Lifetime (RFC 9111 4.2.1).
    pub fresh_s: u32,
    /// How long after that it may be served while it is revalidated (RFC 5861 3).
    pub swr_s: u32,
    /// How long after that it may be served when the origin fails (RFC 5861 4).
    pub sie_s: u32,
    /// Status; 0 while the object is only a key that waits for its response.
    pub status: u16,
    /// See [`Flags`].
    pub flags: Flags,
    /// Where the value of ETag is in the stored head.
    pub etag: (u16, u16),
}

/// Yes or no about a stored response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Never served without asking the origin (`no-cache`).
    pub const NO_CACHE: Flags = Flags(1);
    /// Never served stale unless the response itself allows it (`must-revalidate`, `proxy-revalidate`, `s-maxage`).
    pub const NEVER_STALE: Flags = Flags(1 << 1);
    /// `immutable` (RFC 8246).
    pub const IMMUTABLE: Flags = Flags(1 << 2);
    /// It has an ETag.
    pub const ETAG: Flags = Flags(1 << 3);
    /// Its ETag is a strong validator.
    pub const STRONG_ETAG: Flags = Flags(1 << 4);
    /// Its Last-Modified is old enough against its Date to be a strong validator (RFC 9110 8.8.2.2).
    pub const STRONG_DATE: Flags = Flags(1 << 5);
    /// A slice of a representation.
    pub const SLICE: Flags = Flags(1 << 6);
    /// The origin spoke HTTP/1.0, for Via.
    pub const HTTP10: Flags = Flags(1 << 7);
    /// Its lifetime was a guess (RFC 9111 4.2.2) or the operator's.
    pub const HEURISTIC: Flags = Flags(1 << 8);
    /// It has Vary.
    pub const VARY: Flags = Flags(1 << 9);

    /// Whether all of `flag` is set.
    pub const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// Sets `flag` when `on`.
    pub fn set(&mut self, flag: Flags, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }
}

impl Facts {
    /// How many bytes they take.
    pub const BYTES: usize = 80;
    /// The total of a body whose length was not announced.
    pub const TOTAL_UNKNOWN: u64 = u64::MAX;

    /// How old it is (RFC 9111 4.2.3).
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.birth_ms)
    }

    /// The same in seconds, as in Age.
    pub fn age_s(&self, now_ms: u64) -> u64 {
        self.age_ms(now_ms) / 1000
    }

    /// How long past its lifetime it is; `None` while it is fresh (RFC 9111 4.2).
    pub fn stale_ms(&self, now_ms: u64) -> Option<u64> {
        self.age_ms(now_ms).checked_sub(u64::from(self.fresh_s) * 1000)
    }

    /// What is left of its lifetime, negative when that is over; for Cache-Status.
    pub fn ttl_s(&self, now_ms: u64) -> i64 {
        i64::from(self.fresh_s) - self.age_s(now_ms) as i64
    }

    /// Whether `flag` is set.
    pub fn has(&self, flag: Flags) -> bool {
        self.flags.has(flag)
    }

    /// Whether there is something to revalidate it with (RFC 9111 4.3.1).
    pub fn has_validator(&self) -> bool {
        self.has(Flags::ETAG) || self.last_modified_s != 0
    }

    /// The length of the whole representation, if the head told.
    pub fn total(&self) -> Option<u64> {
        (self.body_total != Self::TOTAL_UNKNOWN).then_some(self.body_total)
    }

    /// The last moment at which it is of any use, failing origins included; it can be thrown away after. With a
    /// validator it is still of use to a revalidation.
    pub fn useful_until_ms(&self) -> u64 {
        let usable_s = u64::from(self.fresh_s) + u64::from(self.swr_s.max(self.sie_s));
        self.birth_ms.saturating_add(usable_s.saturating_mul(1000))
    }

    /// As bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let longs = [
            self.birth_ms,
            self.response_ms,
            self.date_ms,
            self.last_modified_s,
            self.variant,
            self.body_total,
            self.slice_start,
        ];
        for (room, n) in out.as_chunks_mut::<8>().0.iter_mut().zip(longs) {
            *room = n.to_le_bytes();
        }
        for (room, n) in
            out[56..68].as_chunks_mut::<4>().0.iter_mut().zip([self.fresh_s, self.swr_s, self.sie_s])
        {
            *room = n.to_le_bytes();
        }
        let shorts = [self.status, self.flags.0, self.etag.0, self.etag.1];
        for (room, n) in out[68..76].as_chunks_mut::<2>().0.iter_mut().zip(shorts) {
            *room = n.to_le_bytes();
        }
        out
    }

    /// From bytes.
    #[inline]
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let long = |at: usize| u64::from_le_bytes(*bytes[at * 8..].first_chunk().unwrap_or(&[0; 8]));
        let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap_or(&[0; 4]));
        let short = |at: usize| u16::from_le_bytes(*bytes[at..].first_chunk().unwrap_or(&[0; 2]));
        Self {
            birth_ms: long(0),
            response_ms: long(1),
            date_ms: long(2),
            last_modified_s: long(3),
            variant: long(4),
            body_total: long(5),
            slice_start: long(6),
            fresh_s: word(56),
            swr_s: word(60),
            sie_s: word(64),
            status: short(68),
            flags: Flags(short(70)),
            etag: (short(72), short(74)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            longs in any::<[u64; 7]>(), words in any::<[u32; 3]>(), shorts in any::<[u16; 4]>(),
        ) {
            let facts = Facts {
                birth_ms: longs[0],
                response_ms: longs[1],
                date_ms: longs[2],
                last_modified_s: longs[3],
                variant: longs[4],
                body_total: longs[5],
                slice_start: longs[6],
                fresh_s: words[0],
                swr_s: words[1],
                sie_s: words[2],
                status: shorts[0],
                flags: Flags(shorts[1]),
                etag: (shorts[2], shorts[3]),
            };
            prop_assert_eq!(Facts::decode(&facts.encode()), facts);
        }

        #[test]
        fn no_time_overflows(birth_ms: u64, now_ms: u64, fresh_s: u32, sie_s: u32) {
            let facts = Facts { birth_ms, fresh_s, sie_s, ..Facts::default() };
            let stale = facts.stale_ms(now_ms);
            prop_assert_eq!(stale.is_none(), facts.age_ms(now_ms) < u64::from(fresh_s) * 1000);
            facts.useful_until_ms();
            facts.ttl_s(now_ms);
        }
    }
}
