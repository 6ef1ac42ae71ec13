//! From a request to its site and route: host first, then path.
//!
//! The host is found with one probe for its whole name, then one for each parent that may have a wildcard, the
//! longest first: a name has at most 127 labels. The path walks once through a radix tree of the site's prefixes.

use super::table::Table;
use super::trie::Trie;

/// Longest host name (RFC 1035 2.3.4), and a bound on what is looked up.
const HOST_BYTES_MAX: usize = 255;

/// From host names to numbers of sites: `example.com`, `*.example.com` (names under it, not itself), `*`.
#[derive(Debug)]
pub struct Hosts {
    exact: Table,
    wildcard: Table,
    default: Option<u16>,
}

impl Hosts {
    /// The hosts of all sites. Where a name comes twice, the later one counts.
    pub fn new<'h>(hosts: impl IntoIterator<Item = (&'h str, u16)>) -> Self {
        let (mut exact, mut wildcard, mut default) = (Vec::new(), Vec::new(), None);
        for (host, site) in hosts {
            match host.strip_prefix("*.") {
                _ if host == "*" => default = Some(site),
                Some(parent) => wildcard.push((parent.as_bytes(), u32::from(site))),
                None => exact.push((host.as_bytes(), u32::from(site))),
            }
        }
        Self { exact: Table::new(exact), wildcard: Table::new(wildcard), default }
    }

    /// The site of `host` (any case, no port): exact, else the longest wildcard, else the default.
    #[inline]
    pub fn find(&self, host: &[u8]) -> Option<u16> {
        self.find_named(host).map(|site| site as u16).or(self.default)
    }

    #[inline]
    fn find_named(&self, host: &[u8]) -> Option<u32> {
        if host.len() > HOST_BYTES_MAX {
            return None;
        }
        // `example.com.` is the same name (RFC 1034 3.1).
        let mut name = host.strip_suffix(b".").unwrap_or(host);
        if let Some(site) = self.exact.get(name) {
            return Some(site);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        while let Some(dot) = memchr::memchr(b'.', name) {
            name = &name[dot + 1..];
            if let Some(site) = self.wildcard.get(name) {
                return Some(site);
            }
        }
        None
    }
}

/// From the paths of one site to numbers of its routes. The longest prefix wins, and a prefix is meant byte for
/// byte, as in nginx: `/api` is also the route of `/apix`; write `/api/` for the part of a tree only.
#[derive(Debug)]
pub struct Routes {
    prefixes: Trie<false>,
}

impl Routes {
    /// The routes of a site. Where a prefix comes twice, the later one counts.
    pub fn new<'p>(prefixes: impl IntoIterator<Item = (&'p str, u16)>) -> Self {
        let prefixes = prefixes.into_iter().map(|(prefix, route)| (prefix.as_bytes(), u32::from(route)));
        Self { prefixes: Trie::new(prefixes) }
    }

    /// The route of a [`CleanPath`].
    #[inline]
    pub fn find(&self, clean_path: &[u8]) -> Option<u16> {
        self.prefixes.longest(clean_path).map(|route| route as u16)
    }
}

/// Both in one.
#[derive(Debug)]
pub struct Router {
    hosts: Hosts,
    sites: Box<[Routes]>,
}

impl Router {
    /// Sites in the order of their numbers: their hosts, and their routes in the order of theirs. A site without
    /// routes has none to be found.
    pub fn new<'c>(sites: impl IntoIterator<Item = (Vec<&'c str>, Vec<&'c str>)>) -> Self {
        let (mut hosts, mut routes) = (Vec::new(), Vec::new());
        for (site, (names, prefixes)) in (0..).zip(sites) {
            hosts.extend(names.into_iter().map(|name| (name, site)));
            routes.push(Routes::new(prefixes.into_iter().zip(0..)));
        }
        Self { hosts: Hosts::new(hosts), sites: routes.into() }
    }

    /// The site of a host.
    #[inline]
    pub fn site(&self, host: &[u8]) -> Option<u16> {
        self.hosts.find(host)
    }

    /// The route of a path within a site.
    #[inline]
    pub fn route(&self, site: u16, clean_path: &[u8]) -> Option<u16> {
        self.sites.get(usize::from(site))?.find(clean_path)
    }
}

/// A path as decisions are made on it, so that `/%61dmin`, `//admin` and `/x/../admin` do not slip past the route
/// of `/admin`: percent-encoding decoded once, `.` and `..` resolved, slashes merged; as nginx does it. The origin
/// still gets what the client wrote.
pub struct CleanPath;

impl CleanPath {
    /// Room for a path that has to be cleaned.
    pub const ROOM: usize = 4096;

    /// `path` itself where it is clean, which nearly all are; else cleaned in `room`. `None`: it is longer than
    /// the room, or `..` leads above the root: answer 400.
    #[inline]
    pub fn of<'b>(path: &'b [u8], room: &'b mut [u8; CleanPath::ROOM]) -> Option<&'b [u8]> {
        if is_clean(path) { Some(path) } else { clean(path, room) }
    }
}

/// Whether there is nothing that cleaning could change: no `%`, `//` or `/.`. Eight bytes at a time.
#[inline]
fn is_clean(path: &[u8]) -> bool {
    let (words, tail) = path.as_chunks::<8>();
    // The flag of a slash, where the flag of the byte after it is.
    let mut after_slash = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let slashes = flags(word, b'/');
        // `.` and `/` differ in the lowest bit only.
        let tricky = flags(word | ONES, b'/') & (slashes << 8 | after_slash);
        if tricky | flags(word, b'%') != 0 {
            return false;
        }
        after_slash = slashes >> 56;
    }
    let mut before = if after_slash == 0 { 0 } else { b'/' };
    tail.iter().all(|&b| {
        let is_tricky = before == b'/' && matches!(b, b'/' | b'.');
        before = b;
        !is_tricky && b != b'%'
    })
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The high bit of each byte of `word` that is `byte`, and no other bit.
#[inline]
fn flags(word: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differs = word ^ (ONES * u64::from(byte));
    !(((differs & LOW) + LOW) | differs | LOW)
}

#[cold]
fn clean<'b>(path: &[u8], room: &'b mut [u8; CleanPath::ROOM]) -> Option<&'b [u8]> {
    let mut len = 0;
    let mut rest = path;
    // A slash at the end closes the last segment too, and is not put out.
    loop {
        let (byte, after) = match rest {
            [] => break,
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            [byte, after @ ..] => (*byte, after),
        };
        rest = after;
        if byte == b'/' {
            len = end_segment(&room[..len])?;
            if len > 0 && room[len - 1] == b'/' {
                continue;
            }
        }
        *room.get_mut(len)? = byte;
        len += 1;
    }
    len = end_segment(&room[..len])?;
    Some(&room[..len])
}

/// Resolves the last segment of `path` where it is `.` or `..`: how much is left, up to a slash. `None`: above
/// the root.
fn end_segment(path: &[u8]) -> Option<usize> {
    if let Some(parent) = path.strip_suffix(b"/..") {
        let slash = parent.iter().rposition(|&b| b == b'/')?;
        return Some(slash + 1);
    }
    Some(path.strip_suffix(b"/.").map_or(path.len(), |parent| parent.len() + 1))
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// What must hold for any path: for the fuzz target and the property test.
#[cfg(any(test, feature = "harness"))]
#[doc(hidden)]
pub fn check(path: &[u8]) {
    let (mut room, mut again) = ([0; CleanPath::ROOM], [0; CleanPath::ROOM]);
    let Some(cleaned) = CleanPath::of(path, &mut room) else { return };
    assert!(cleaned.len() <= path.len());
    assert!(cleaned.starts_with(b"/") || !path.starts_with(b"/"));
    // Split at slashes: nothing is empty but the ends, and no dots are left.
    let mut segments = cleaned.split(|&b| b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        assert!(segment != b"." && segment != b"..", "{}", cleaned.escape_ascii());
        assert!(!segment.is_empty() || segments.peek().is_none(), "{}", cleaned.escape_ascii());
    }
    // What has no escapes is clean after that.
    if memchr::memchr(b'%', cleaned).is_none() {
        let second = CleanPath::of(cleaned, &mut again).map(<[u8]>::to_vec);
        assert_eq!(second.as_deref(), Some(cleaned));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exact_then_longest_wildcard_then_default() {
        let hosts = Hosts::new([
            ("a.example.com", 0),
            ("*.example.com", 1),
            ("*.b.example.com", 2),
            ("*", 3),
            ("Caps", 4),
        ]);
        for (host, want) in [
            ("a.example.com", 0),
            ("A.Example.COM", 0),
            ("a.example.com.", 0),
            ("x.example.com", 1),
            ("x.b.example.com", 2),
            ("x.y.b.example.com", 2),
            ("b.example.com", 1),
            ("example.com", 3),
            ("other", 3),
            ("", 3),
            ("caps", 4),
            (".", 3),
            ("[::1]", 3),
        ] {
            assert_eq!(hosts.find(host.as_bytes()), Some(want), "{host}");
        }
        assert_eq!(Hosts::new([("x", 0)]).find(b"y"), None);
        assert_eq!(hosts.find(&[b'a'; 300]), Some(3));
    }

    #[test]
    fn the_longest_prefix_byte_for_byte() {
        let router = Router::new([
            (vec!["a.example"], vec!["/", "/api", "/api/v2/", "/static/"]),
            (vec!["*"], vec!["/only"]),
        ]);
        for (path, want) in [
            ("/", Some(0)),
            ("/api", Some(1)),
            ("/api/", Some(1)),
            ("/apix", Some(1)),
            ("/API", Some(0)),
            ("/api/v2", Some(1)),
            ("/api/v2/x", Some(2)),
            ("/static", Some(0)),
            ("*", None),
        ] {
            let site = router.site(b"A.example").expect("a site");
            assert_eq!(router.route(site, path.as_bytes()), want, "{path}");
        }
        let default = router.site(b"b.example").expect("the default");
        assert_eq!(router.route(default, b"/"), None);
        assert_eq!(router.route(default, b"/only/x"), Some(0));
        assert_eq!(router.route(7, b"/"), None);
    }

    #[test]
    fn paths_are_cleaned_as_nginx_does() {
        for (path, want) in [
            ("/", Some("/")),
            ("*", Some("*")),
            ("/a/b", Some("/a/b")),
            ("/a//b", Some("/a/b")),
            ("//", Some("/")),
            ("///a", Some("/a")),
            ("/%61dmin", Some("/admin")),
            ("/%2e%2E/a", None),
            ("/x/%2e%2e/admin", Some("/admin")),
            ("/x/..%2fadmin", Some("/admin")),
            ("/x/../admin", Some("/admin")),
            ("/x/y/../../admin", Some("/admin")),
            ("/./a/./b/.", Some("/a/b/")),
            ("/a/..", Some("/")),
            ("/a/../", Some("/")),
            ("/a/b/..", Some("/a/")),
            ("/..", None),
            ("/../a", None),
            ("/a/../..", None),
            ("/...", Some("/...")),
            ("/.a", Some("/.a")),
            ("/a..", Some("/a..")),
            ("/a/..b", Some("/a/..b")),
            ("/%2561", Some("/%61")),
            ("/%zz%", Some("/%zz%")),
            ("/%41%00", Some("/A\0")),
        ] {
            let mut room = [0; CleanPath::ROOM];
            let got = CleanPath::of(path.as_bytes(), &mut room);
            assert_eq!(got, want.map(str::as_bytes), "{path}");
        }
        let mut room = [0; CleanPath::ROOM];
        let long = [b"/%61".as_slice(), &[b'a'; CleanPath::ROOM]].concat();
        assert_eq!(CleanPath::of(&long, &mut room), None);
        let long = vec![b'a'; 10_000];
        assert_eq!(CleanPath::of(&long, &mut room), Some(&long[..]), "nothing to clean needs no room");
    }

    proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn clean_is_what_cleaning_does_not_change(path in "[/.%a0-9\u{e9}]{0,40}") {
            let bytes = path.as_bytes();
            let tricky = path.contains("//") || path.contains("/.") || path.contains('%');
            prop_assert_eq!(is_clean(bytes), !tricky);
            check(bytes);
        }
    }
}
