//! Tags of objects, for purges: kept as hashes only.

use super::fields::Line;
use super::hash::HashKeys;
use super::rules::{CacheRules, has};
use crate::http1::bytes;

/// The most tags that are kept of one response.
pub const TAGS_MAX: usize = 256;

/// The hash of a tag, as a blob has it. Tags are compared byte for byte.
pub fn tag_hash(tag: &[u8], keys: &HashKeys) -> u64 {
    keys.hash(tag)
}

/// The hashes of the tags that `lines` have: `Cache-Tag: a, b` and `Surrogate-Key: a b`, or what the rules name.
pub fn tags_of<'a>(
    lines: impl Iterator<Item = Line<'a>>,
    rules: &'a CacheRules,
    keys: &'a HashKeys,
) -> impl Iterator<Item = u64> {
    lines
        .filter_map(|line| {
            let spaces = has(&rules.space_tags, line.name);
            (spaces || has(&rules.comma_tags, line.name)).then_some((line.value, spaces))
        })
        .flat_map(|(value, spaces)| {
            value.split(move |&b| if spaces { bytes::is_blank(b) } else { b == b',' }).map(bytes::trim)
        })
        .filter(|tag| !tag.is_empty())
        .take(TAGS_MAX)
        .map(|tag| tag_hash(tag, keys))
}
