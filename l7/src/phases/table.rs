//! Names that are known when a config is loaded, found with one probe and one comparison: a perfect hash table by
//! hash and displace (Belazzougui, Botelho, Dietzfelbinger 2009).
//!
//! Whoever sends the names that are looked up can choose them as he likes: there are no chains to make longer, so
//! the hash needs no key.
//!
//! Size: 12 bytes a place, twice to four times as many places as names, 2 bytes for each two names.

/// A table from names, in any case of letters, to numbers.
#[derive(Debug)]
pub(super) struct Table {
    /// One displacement for each bucket; the number of buckets is a power of two.
    displace: Box<[u16]>,
    /// The number of places is a power of two.
    places: Box<[Place]>,
    text: Box<[u8]>,
    /// Bit n: there is a name of n bytes; the last bit is for all that are longer.
    lengths: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    /// [`FREE`] where there is nothing.
    len: u32,
    value: u32,
}

/// No name is as long as this.
const FREE: u32 = u32::MAX;

impl Table {
    /// The table of these names. Where a name comes twice, in whatever case, the later one counts.
    pub fn new<'n>(names: impl IntoIterator<Item = (&'n [u8], u32)>) -> Self {
        let mut by_name = std::collections::BTreeMap::new();
        for (name, value) in names {
            by_name.insert(name.to_ascii_lowercase(), value);
        }
        if by_name.is_empty() {
            return Table { displace: Box::new([]), places: Box::new([]), text: Box::new([]), lengths: 0 };
        }
        let names: Vec<(Vec<u8>, u32)> = by_name.into_iter().collect();
        // Twice the places as long as that is what it takes; then all displacements are found in a few tries.
        let mut room = (names.len() * 2).next_power_of_two();
        let (displace, order) = loop {
            if let Some(found) = displacements(&names, room) {
                break found;
            }
            room *= 2;
        };
        let mut places = vec![Place { start: 0, len: FREE, value: 0 }; room].into_boxed_slice();
        let (mut text, mut lengths) = (Vec::new(), 0);
        for ((name, value), at) in names.iter().zip(order) {
            places[at] = Place { start: text.len() as u32, len: name.len() as u32, value: *value };
            text.extend_from_slice(name);
            lengths |= length_bit(name.len());
        }
        Table { displace, places, text: text.into_boxed_slice(), lengths }
    }

    /// Whether there are no names.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The number of `name`, in any case of letters.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<u32> {
        if self.lengths & length_bit(name.len()) == 0 {
            return None;
        }
        let hash = hash(name);
        let displace = self.displace.get(hash as usize & (self.displace.len() - 1))?;
        let place = self.places.get(slot(hash, *displace, self.places.len()))?;
        if place.len as usize != name.len() {
            return None;
        }
        let text = self.text.get(place.start as usize..)?.get(..name.len())?;
        text.eq_ignore_ascii_case(name).then_some(place.value)
    }
}

#[inline]
fn length_bit(len: usize) -> u64 {
    1 << len.min(63)
}

/// Which place a name has.
#[inline]
fn slot(hash: u64, displace: u16, room: usize) -> usize {
    ((hash >> 32) ^ mix(hash ^ (u64::from(displace) << 17), 0x9e37_79b9_7f4a_7c15)) as usize & (room - 1)
}

/// The displacement of each bucket and the place of each name, if `room` places will do.
fn displacements(names: &[(Vec<u8>, u32)], room: usize) -> Option<(Box<[u16]>, Vec<usize>)> {
    let buckets = (names.len() / 2).max(1).next_power_of_two();
    let mut members = vec![Vec::new(); buckets];
    for (n, (name, _)) in names.iter().enumerate() {
        members[hash(name) as usize & (buckets - 1)].push(n);
    }
    let mut by_size: Vec<usize> = (0..buckets).collect();
    by_size.sort_by_key(|&bucket| core::cmp::Reverse(members[bucket].len()));
    let mut displace = vec![0u16; buckets].into_boxed_slice();
    let mut is_taken = vec![false; room];
    let mut order = vec![0; names.len()];
    for bucket in by_size {
        let fits = (0..=u16::MAX).find_map(|candidate| {
            let mut slots: Vec<usize> =
                members[bucket].iter().map(|&n| slot(hash(&names[n].0), candidate, room)).collect();
            let all = slots.clone();
            slots.sort_unstable();
            slots.dedup();
            (slots.len() == all.len() && slots.iter().all(|&at| !is_taken[at])).then_some((candidate, all))
        });
        let (candidate, slots) = fits?;
        displace[bucket] = candidate;
        for (&n, at) in members[bucket].iter().zip(slots) {
            is_taken[at] = true;
            order[n] = at;
        }
    }
    Some((displace, order))
}

/// Letters count the same in both cases, and some other bytes too: what is found is compared anyway.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// Sixteen bytes at a time.
#[inline]
fn hash(name: &[u8]) -> u64 {
    let len = name.len();
    let seed = 0xa076_1d64_78bd_642f ^ len as u64;
    match len {
        0..=3 => {
            let first = name.first().map_or(0, |&b| u64::from(b));
            let middle = name.get(len / 2).map_or(0, |&b| u64::from(b));
            let last = name.last().map_or(0, |&b| u64::from(b));
            mix((first << 16 | middle << 8 | last) | FOLD, seed)
        }
        4..=7 => {
            let (first, last) = (name.first_chunk::<4>(), name.last_chunk::<4>());
            let word = |chunk: Option<&[u8; 4]>| u64::from(u32::from_le_bytes(*chunk.unwrap_or(&[0; 4])));
            mix((word(first) << 32 | word(last)) | FOLD, seed)
        }
        _ => {
            let mut state = seed;
            let mut rest = name;
            while let Some((block, after)) = rest.split_first_chunk::<16>() {
                state = mix(
                    word8(block.first_chunk()) ^ state,
                    word8(block.last_chunk()) ^ 0xe703_7ed1_a0b4_28db,
                );
                rest = after;
            }
            // The last sixteen bytes again, overlapping what has been taken; the first eight where there are fewer.
            let head = name.get(len.saturating_sub(16)..).and_then(|tail| tail.first_chunk());
            mix(word8(head) ^ state, word8(name.last_chunk()) ^ 0x8ebc_6af0_9c88_c6e3)
        }
    }
}

#[inline]
fn word8(chunk: Option<&[u8; 8]>) -> u64 {
    u64::from_le_bytes(*chunk.unwrap_or(&[0; 8])) | FOLD
}

/// Both halves of a 128-bit product, one over the other.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        for count in [0usize, 1, 2, 3, 7, 100, 1000, 20_000] {
            let names: Vec<String> =
                (0..count).map(|n| format!("{}Name-{n}.example", "x".repeat(n % 40))).collect();
            let table = Table::new(names.iter().enumerate().map(|(n, name)| (name.as_bytes(), n as u32)));
            assert_eq!(table.is_empty(), count == 0);
            for (n, name) in names.iter().enumerate() {
                assert_eq!(table.get(name.as_bytes()), Some(n as u32));
                assert_eq!(table.get(name.to_ascii_uppercase().as_bytes()), Some(n as u32));
                assert_eq!(
                    table.get(&name.as_bytes()[1..]),
                    names.iter().position(|other| *other == name[1..]).map(|n| n as u32)
                );
                assert_eq!(table.get(format!("{name}x").as_bytes()), None);
            }
            assert_eq!(table.get(b""), None);
            assert_eq!(table.get(b"other"), None);
        }
    }

    #[test]
    fn short_names_and_the_later_of_two() {
        let table =
            Table::new([(&b""[..], 0), (b"a", 1), (b"ab", 2), (b"abc", 3), (b"ABC", 4), (&[b'z'; 500], 5)]);
        for (name, value) in [(&b""[..], 0), (b"A", 1), (b"aB", 2), (b"abc", 4), (&[b'Z'; 500], 5)] {
            assert_eq!(table.get(name), Some(value));
        }
        assert_eq!(table.get(&[b'z'; 499]), None);
        // Alike to the hash, not to the comparison.
        assert_eq!(Table::new([(&b"a^b"[..], 1)]).get(b"a~b"), None);
    }
}
