//! `[cache]`, and `cache` of sites and routes.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::upstream::switch_on;
use super::{At, Reader, texts};
use crate::config::model::*;
use crate::config::names;
use crate::config::reader::{Table, Value};
use crate::config::report::quote;
use crate::config::units::show_size;
use crate::config::{CACHE_BYTES_MIN, POOLS_BYTES_MIN};

/// Nothing is fresh for longer: RFC 9111, section 1.2.2 has caches think in 31 bits of seconds, and people in years.
const TTL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10 * 365 * 24 * 3600);
/// Fields, cookies and parameters of a key, and fields with tags: each is looked for in every request.
const NAMES_MAX: usize = 32;
/// Smaller slices would be more heads than bodies; larger ones no slices.
const SLICE: RangeInclusive<u64> = (16 << 10)..=(1 << 30);
const SLICE_STEP: u64 = 4096;
/// What is counted of requests for what is not kept.
const ADMIT_AFTER_MAX: u64 = 100;

/// What `[cache]` says, before the defaults are known.
pub(super) struct CacheAt {
    memory: Option<At<u64>>,
    object_max: Option<At<u64>>,
    pinned_max: Option<At<u64>>,
}

pub(super) fn memory(table: &Table<'_, '_>) -> CacheAt {
    let size = |key, range| {
        let value = table.get(key)?;
        Some(At { value: value.size(range)?, place: value.place })
    };
    let at = CacheAt {
        memory: size("memory", CACHE_BYTES_MIN..=u64::MAX),
        object_max: size("object_max", 1024..=u64::MAX),
        pinned_max: size("pinned_max", (1 << 20)..=u64::MAX),
    };
    table.finish();
    at
}

impl Reader<'_, '_> {
    /// The cache's memory, now that it is known who caches; ends the rules of sites and routes.
    pub(super) fn cache(&mut self, at: &CacheAt, node: &Node) -> Cache {
        let context = self.context;
        let caching = self.sites.iter().flat_map(|s| &s.site.routes).any(|r| r.cache.is_some());
        let half = (node.memory_bytes / 2).max(CACHE_BYTES_MIN);
        let memory_bytes = at.memory.as_ref().map_or(if caching { half } else { 0 }, |m| m.value);
        if memory_bytes == 0 && at.object_max.is_none() && at.pinned_max.is_none() {
            return Cache::OFF;
        }
        let room = node.memory_bytes.saturating_sub(POOLS_BYTES_MIN);
        if let Some(memory) = at.memory.as_ref().filter(|m| m.value > room) {
            let cause = format!(
                "the cache's {} leave too little of the node's {}",
                show_size(memory.value),
                show_size(node.memory_bytes)
            );
            let mend = format!("write {} at most, or more \"memory\" in [node]", show_size(room));
            context.report(&memory.place, cause, mend);
        }
        let memory_known = if memory_bytes == 0 { half } else { memory_bytes };
        for (value, key) in [(&at.object_max, "object_max"), (&at.pinned_max, "pinned_max")] {
            if let Some(value) = value.as_ref().filter(|v| v.value > memory_known) {
                let cause = format!("\"{key}\" is more than the cache has");
                context.report(&value.place, cause, format!("write {} at most", show_size(memory_known)));
            }
        }
        let eighth = memory_bytes / 8;
        let cache = Cache {
            memory_bytes,
            object_bytes_max: at.object_max.as_ref().map_or(eighth.min(64 << 20), |o| o.value),
            pinned_bytes_max: at.pinned_max.as_ref().map_or(eighth, |p| p.value),
        };
        for (value, key) in &self.object_maxima {
            if value.value > cache.object_bytes_max {
                let cause = format!("this \"{key}\" is more than the cache's \"object_max\"");
                let largest = show_size(cache.object_bytes_max);
                let mend = format!("write {largest} at most, or more in [cache]");
                context.report(&value.place, cause, mend);
            }
        }
        for route in self.sites.iter_mut().flat_map(|s| &mut s.site.routes) {
            if let Some(rules) = &mut route.cache {
                rules.object_bytes_max = rules.object_bytes_max.min(cache.object_bytes_max);
            }
        }
        cache
    }

    /// The rules of a site or route over those that it inherits. `object_bytes_max` is not bounded yet.
    pub(super) fn cache_rules(
        &mut self,
        table: &Table<'_, '_>,
        base: Option<&CacheRules>,
    ) -> Option<CacheRules> {
        let (switch, table) = table.switch("cache");
        let unbounded = Cache { object_bytes_max: u64::MAX, ..Cache::OFF };
        let mut rules = base.cloned().unwrap_or_else(|| CacheRules::new(&unbounded));
        let ttl = |key| table.get(key).and_then(|v| v.duration(TTL));
        let default_value = table.get("default_ttl");
        rules.default_ttl = default_value.as_ref().and_then(|v| v.duration(TTL)).or(rules.default_ttl);
        let min_value = table.get("min_ttl");
        rules.min_ttl = min_value.as_ref().and_then(|v| v.duration(TTL)).unwrap_or(rules.min_ttl);
        let max_value = table.get("max_ttl");
        rules.max_ttl = max_value.as_ref().and_then(|v| v.duration(TTL)).or(rules.max_ttl);
        if rules.max_ttl.is_some_and(|max| max < rules.min_ttl)
            && let Some(value) = max_value.or(min_value)
        {
            value.error("\"max_ttl\" is less than \"min_ttl\"", "write a longer one, or leave one out");
        }
        let flag = |key, default| table.get(key).and_then(|v| v.boolean()).unwrap_or(default);
        rules.heuristic = flag("heuristic", rules.heuristic);
        rules.heuristic_max = ttl("heuristic_max").unwrap_or(rules.heuristic_max);
        let negative = table.table("negative_ttl");
        if !negative.is_empty() {
            rules.negative_ttl = negative_ttl(&negative);
        }
        negative.finish();
        rules.stale_while_revalidate = ttl("stale_while_revalidate").unwrap_or(rules.stale_while_revalidate);
        rules.stale_if_error = ttl("stale_if_error").unwrap_or(rules.stale_if_error);
        if let Some(value) = table.get("object_max")
            && let Some(bytes) = value.size(1024..=u64::MAX)
        {
            rules.object_bytes_max = bytes;
            self.object_maxima.push((At { value: bytes, place: value.place }, "object_max"));
        }
        if let Some(value) = table.get("slice") {
            rules.slice_bytes = self.slice(&value).unwrap_or(rules.slice_bytes);
        }
        if u64::from(rules.slice_bytes) > rules.object_bytes_max
            && let Some(value) = table.get("object_max").or_else(|| table.get("slice"))
        {
            let slice = show_size(u64::from(rules.slice_bytes));
            let cause = format!("\"object_max\" is less than the \"slice\" of {slice}");
            value.error(cause, format!("write {slice} at least: each slice is kept as an object"));
        }
        if let Some(value) = table.get("admit_after")
            && let Some(n) = value.integer(1..=ADMIT_AFTER_MAX)
        {
            rules.admit_after = n as u8;
        }
        rules.key = key(&table.table("key"), &rules.key);
        if let Some(value) = table.get("tags") {
            rules.tags = field_names(&value);
        }
        if let Some(value) = table.get("targeted") {
            rules.targeted = field_names(&value);
        }
        rules.obey_request = flag("obey_request", rules.obey_request);
        rules.status = flag("status", rules.status);
        table.finish();
        switch_on(switch, base, rules)
    }
}

impl Reader<'_, '_> {
    /// A size of slices, or `false` for none.
    fn slice(&mut self, value: &Value<'_, '_>) -> Option<u32> {
        match value.if_boolean() {
            Some(false) => return Some(0),
            Some(true) => {
                value.error("\"slice\" needs a size", "write one, as in \"1MiB\", or false");
                return None;
            }
            None => {}
        }
        let bytes = value.size(SLICE)?;
        if !bytes.is_multiple_of(SLICE_STEP) {
            let below = show_size(bytes - bytes % SLICE_STEP);
            value.error(
                format!("{} is not a multiple of {}", quote(value.string()?), show_size(SLICE_STEP)),
                format!("write \"{below}\""),
            );
            return None;
        }
        self.object_maxima.push((At { value: bytes, place: value.place.clone() }, "slice"));
        u32::try_from(bytes).ok()
    }
}

fn key(table: &Table<'_, '_>, base: &CacheKey) -> CacheKey {
    let mut key = base.clone();
    if let Some(value) = table.get("query") {
        key.query = query(&value).unwrap_or_default();
    }
    if let Some(value) = table.get("query_ignore") {
        key.query_ignore = list(&value, names::parameter_pattern);
        if key.query == QueryKey::None {
            value.error("\"query_ignore\" means nothing with query = \"none\"", "remove one of them");
        }
    }
    if let Some(value) = table.get("headers") {
        key.headers = list(&value, |t| names::field_name(t).map(|n| n.to_ascii_lowercase()));
    }
    if let Some(value) = table.get("cookies") {
        key.cookies = list(&value, names::cookie);
    }
    table.finish();
    key
}

/// `"all"`, `"none"`, or a list of parameters.
fn query(value: &Value<'_, '_>) -> Option<QueryKey> {
    if value.is_list() {
        return Some(QueryKey::Only(list(value, |t| {
            names::parameter_pattern(t).and_then(|p| match p {
                NamePattern::Exact(name) => Ok(name),
                NamePattern::Prefix(prefix) => Err(names::Wrong {
                    cause: format!("\"{prefix}*\" is not one parameter"),
                    mend: "name each one, or use \"query_ignore\" for those that do not count".to_string(),
                }),
            })
        })));
    }
    match value.string()? {
        "all" => Some(QueryKey::All),
        "none" => Some(QueryKey::None),
        _ => {
            value.error(
                format!("{} is not a value of \"query\"", quote(value.string()?)),
                "write \"all\", \"none\", or a list of parameters, as in [\"page\"]",
            );
            None
        }
    }
}

fn negative_ttl(table: &Table<'_, '_>) -> Vec<(u16, Duration)> {
    let mut ttls = Vec::new();
    for entry in table.entries() {
        let status = entry.key.parse::<u16>().ok().filter(|s| (300..=599).contains(s) && *s != 304);
        let ttl = entry.value.duration(TTL);
        match status.filter(|_| entry.key.len() == 3) {
            Some(status) => ttls.extend(ttl.map(|ttl| (status, ttl))),
            None => table.wrong(
                &entry.place,
                format!("{} is not a status that can be cached so", quote(entry.key)),
                "write 300 to 599, other than 304, as in { 404 = \"10s\" }",
            ),
        }
    }
    ttls.sort_by_key(|(status, _)| *status);
    ttls
}

fn field_names(value: &Value<'_, '_>) -> Vec<String> {
    list(value, names::field_name)
}

/// A list without duplicates; an empty one is fine.
fn list<T: PartialEq>(value: &Value<'_, '_>, read: impl Fn(&str) -> Result<T, names::Wrong>) -> Vec<T> {
    let items = value.list_or_string();
    if items.len() > NAMES_MAX {
        value.error("the list is too long", format!("keep {NAMES_MAX} of them"));
    }
    let mut known: Vec<T> = Vec::new();
    for at in texts(&items, read) {
        if known.contains(&at.value) {
            value.error_at(&at.place, "this is listed twice", "keep one of them");
        } else {
            known.push(at.value);
        }
    }
    known
}
