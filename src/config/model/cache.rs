//! The cache: its memory, and a site's or route's rules for it.

use std::time::Duration;

use super::NamePattern;

/// `[cache]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// For objects and their index, out of the node's memory; 0 means that there is no cache.
    pub memory_bytes: u64,
    /// Largest body that is kept; not more than `memory_bytes`.
    pub object_bytes_max: u64,
    /// Bytes that were evicted but are still being sent; beyond, the slowest reader is reset.
    pub pinned_bytes_max: u64,
}

/// `cache` of a site or a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRules {
    /// Freshness of a response that states none; `None` means that the heuristic decides.
    pub default_ttl: Option<Duration>,
    /// Freshness is never less; zero means no bound.
    pub min_ttl: Duration,
    /// Freshness is never more; `None` means no bound.
    pub max_ttl: Option<Duration>,
    /// Whether a response without stated freshness is fresh for a tenth of its age (RFC 9111, section 4.2.2).
    pub heuristic: bool,
    /// The heuristic's bound.
    pub heuristic_max: Duration,
    /// Freshness by status, for responses that state none; by status, each once.
    pub negative_ttl: Vec<(u16, Duration)>,
    /// Where the origin does not say; zero means never (RFC 5861).
    pub stale_while_revalidate: Duration,
    /// Where the origin does not say; zero means never (RFC 5861).
    pub stale_if_error: Duration,
    /// Largest body that is kept; not more than [`Cache::object_bytes_max`].
    pub object_bytes_max: u64,
    /// The size of the slices in which large objects are kept; 0: whole.
    pub slice_bytes: u32,
    /// The request from which on an object is kept.
    pub admit_after: u8,
    /// What tells two objects apart, beside host and path.
    pub key: CacheKey,
    /// Response fields that hold an object's tags; as in the config.
    pub tags: Vec<String>,
    /// Response fields that go before `Cache-Control`, the first one first (RFC 9213); as in the config.
    pub targeted: Vec<String>,
    /// Whether a request's `Cache-Control` is honoured.
    pub obey_request: bool,
    /// Whether `Cache-Status` is sent (RFC 9211).
    pub status: bool,
}

/// `key` of `cache`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheKey {
    /// Which parameters of the query count.
    pub query: QueryKey,
    /// Parameters that do not count although `query` would have them; in the case of the config.
    pub query_ignore: Vec<NamePattern>,
    /// Request fields that count; in lower case.
    pub headers: Vec<String>,
    /// Cookies that count; in the case of the config.
    pub cookies: Vec<String>,
}

/// `query` of `key`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QueryKey {
    /// All of the query, in its order.
    #[default]
    All,
    /// Nothing of it.
    None,
    /// These parameters; in the case of the config, each once.
    Only(Vec<String>),
}

impl Cache {
    /// No cache.
    pub const OFF: Cache = Cache { memory_bytes: 0, object_bytes_max: 0, pinned_bytes_max: 0 };
}

impl CacheRules {
    /// What `cache = true` means in a node with this cache.
    pub fn new(cache: &Cache) -> CacheRules {
        CacheRules {
            default_ttl: None,
            min_ttl: Duration::ZERO,
            max_ttl: None,
            heuristic: true,
            heuristic_max: Duration::from_secs(86_400),
            negative_ttl: Vec::new(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            object_bytes_max: cache.object_bytes_max,
            slice_bytes: 0,
            admit_after: 1,
            key: CacheKey::default(),
            tags: vec!["Cache-Tag".to_string(), "Surrogate-Key".to_string()],
            targeted: vec!["CDN-Cache-Control".to_string()],
            obey_request: true,
            status: true,
        }
    }
}
