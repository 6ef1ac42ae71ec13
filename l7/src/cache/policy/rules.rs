//! What the operator decided about a site's cache. Built when the config is loaded, never changed after.

/// Which parts of a query are in the key. Parts are what is between `&`; their order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueryRule {
    /// All of it, as it was written.
    #[default]
    All,
    /// Nothing of it.
    None,
    /// Only the parameters with these names.
    Only(Box<[Box<[u8]>]>),
    /// All but the parameters with these names.
    Except(Box<[Box<[u8]>]>),
}

/// What makes two requests ask for the same object.
#[derive(Clone, Debug, Default)]
pub struct KeyRules {
    /// Whether `http` and `https` share objects. They do not by default: RFC 9111 2 makes the scheme part of the
    /// key, and an origin that redirects one to the other would redirect for ever.
    pub any_scheme: bool,
    /// The query.
    pub query: QueryRule,
    /// Request fields whose values are in the key, as if every response named them in Vary.
    pub headers: Box<[Box<[u8]>]>,
    /// Cookies whose values are in the key.
    pub cookies: Box<[Box<[u8]>]>,
    /// The content codings that the origin makes a difference for. Where any are named, Accept-Encoding counts in
    /// Vary only by which of them it accepts.
    pub encodings: Box<[Box<[u8]>]>,
}

/// What becomes of a response with Set-Cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookieRule {
    /// Stored where the origin says how long it is fresh or that it is public: RFC 9111 7.3 leaves it to the origin.
    /// Never on our own guess.
    #[default]
    Explicit,
    /// Never stored.
    Never,
}

/// Whether requests may make the cache work harder (RFC 9111 5.2.1). The RFC's answer is yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obey {
    /// `no-cache`, and `Pragma: no-cache`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `max-age`, `min-fresh`, `max-stale`, `stale-if-error`.
    pub ages: bool,
}

impl Default for Obey {
    fn default() -> Self {
        Self { no_cache: true, no_store: true, ages: true }
    }
}

/// What the operator decided about a site's cache.
#[derive(Clone, Debug)]
pub struct CacheRules {
    /// The lifetime of a response that says nothing about its own, if its status may be cached unasked.
    pub default_ttl_s: Option<u32>,
    /// The shortest lifetime: a response that is fresh at all is fresh for that long.
    pub min_ttl_s: u32,
    /// The longest lifetime.
    pub max_ttl_s: u32,
    /// The longest lifetime that is guessed from Last-Modified (RFC 9111 4.2.2); 0: no guesses.
    pub heuristic_max_s: u32,
    /// Lifetimes for responses of a status (404, 503 …) that say nothing about their own.
    pub status_ttl_s: Box<[(u16, u32)]>,
    /// stale-while-revalidate for responses that do not say, and do not forbid.
    pub swr_s: u32,
    /// stale-if-error for responses that do not say, and do not forbid.
    pub sie_s: u32,
    /// Bodies that are longer are not stored.
    pub object_bytes_max: u64,
    /// The key.
    pub key: KeyRules,
    /// The size of the slices that large objects are stored in; 0: whole objects only.
    pub slice_bytes: u32,
    /// From which request for it on, within a while, an object is stored.
    pub admit_after: u8,
    /// What is done about Set-Cookie.
    pub set_cookie: SetCookieRule,
    /// Which directives of requests count.
    pub obey: Obey,
    /// Targeted fields, the most important first (RFC 9213 2.2).
    pub targeted: Box<[Box<[u8]>]>,
    /// Fields with tags between commas. They are not shown to clients.
    pub comma_tags: Box<[Box<[u8]>]>,
    /// Fields with tags between spaces. They are not shown to clients.
    pub space_tags: Box<[Box<[u8]>]>,
    /// Whether Cache-Status shows the key to clients.
    pub show_key: bool,
}

impl CacheRules {
    /// Whether the field `name` carries tags.
    pub fn is_tag_field(&self, name: &[u8]) -> bool {
        has(&self.comma_tags, name) || has(&self.space_tags, name)
    }
}

/// Whether `name` is in `names`, whatever the case.
pub(super) fn has(names: &[Box<[u8]>], name: &[u8]) -> bool {
    names.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// A list of names from text.
pub fn names<const N: usize>(list: [&str; N]) -> Box<[Box<[u8]>]> {
    list.iter().map(|name| Box::from(name.as_bytes())).collect()
}

impl Default for CacheRules {
    /// RFC 9111 and nothing of our own.
    fn default() -> Self {
        Self {
            default_ttl_s: None,
            min_ttl_s: 0,
            max_ttl_s: u32::MAX,
            heuristic_max_s: 24 * 3600,
            status_ttl_s: Box::default(),
            swr_s: 0,
            sie_s: 0,
            object_bytes_max: u64::MAX,
            key: KeyRules::default(),
            slice_bytes: 0,
            admit_after: 1,
            set_cookie: SetCookieRule::default(),
            obey: Obey::default(),
            targeted: names(["CDN-Cache-Control"]),
            comma_tags: names(["Cache-Tag"]),
            space_tags: names(["Surrogate-Key"]),
            show_key: false,
        }
    }
}
