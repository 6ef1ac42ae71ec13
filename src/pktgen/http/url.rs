//! What is asked for: `http://ADDRESS[:PORT][/PATH]`, or `https://`.

use std::net::{IpAddr, SocketAddr};

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The server.
    pub server: SocketAddr,
    /// Host and port as they were written: what Host says.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Whether it is asked by TLS.
    pub is_https: bool,
}

impl std::str::FromStr for Url {
    type Err = String;
    fn from_str(text: &str) -> Result<Url, String> {
        let secured = text.strip_prefix("https://");
        let rest = secured.or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        if rest.contains("://") {
            return Err(format!(
                "\"{text}\" is no http URL; write http://10.0.0.1/path or https://10.0.0.1/path"
            ));
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let server = server(authority, if secured.is_some() { 443 } else { 80 }).ok_or_else(|| {
            format!(
                "\"{text}\": \"{authority}\" is no address; write the server's, as in http://10.0.0.1:8080/, and its \
                 name with --host NAME"
            )
        })?;
        target(&path).map_err(|e| format!("\"{text}\": {e}"))?;
        Ok(Url { server, authority: authority.to_owned(), path, is_https: secured.is_some() })
    }
}

/// Whether a path with its query can stand in a request line.
///
/// # Errors
/// What is wrong, with the mend.
pub fn target(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("the path \"{path}\" does not begin with /; put one in front"));
    }
    if path.contains('#') {
        return Err("what follows # is never sent; leave it out".to_owned());
    }
    match path.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Err(format!("{c:?} cannot stand in a path; write it as %XX")),
        None => Ok(()),
    }
}

fn server(authority: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(both) = authority.parse() {
        return Some(both);
    }
    let alone = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(authority);
    // IPv6 without brackets would swallow a port.
    let ip: IpAddr = alone.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() || authority.starts_with('['))?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_what_is_wrong_with_others() {
        for (text, server, authority, path) in [
            ("http://10.0.0.1/", "10.0.0.1:80", "10.0.0.1", "/"),
            ("http://10.0.0.1", "10.0.0.1:80", "10.0.0.1", "/"),
            ("10.0.0.1:8080/a?b=c", "10.0.0.1:8080", "10.0.0.1:8080", "/a?b=c"),
            ("http://10.0.0.1?b", "10.0.0.1:80", "10.0.0.1", "/?b"),
            ("http://[fd00::1]/x", "[fd00::1]:80", "[fd00::1]", "/x"),
            ("http://[fd00::1]:81/x", "[fd00::1]:81", "[fd00::1]:81", "/x"),
            ("https://10.0.0.1/a", "10.0.0.1:443", "10.0.0.1", "/a"),
            ("https://[fd00::1]:8443", "[fd00::1]:8443", "[fd00::1]:8443", "/"),
        ] {
            let u: Url = text.parse().expect(text);
            assert_eq!(u.is_https, text.starts_with("https://"));
            assert_eq!((u.server, &*u.authority, &*u.path), (server.parse().expect(server), authority, path));
        }
        for (bad, says) in [
            ("ftp://10.0.0.1/", "no http URL"),
            ("http://example.com/", "--host NAME"),
            ("http://fd00::1/", "is no address"),
            ("http://10.0.0.1:99999/", "is no address"),
            ("http://10.0.0.1/a b", "%XX"),
            ("http://10.0.0.1/a#b", "never sent"),
            ("", "is no address"),
        ] {
            let e = bad.parse::<Url>().expect_err(bad);
            assert!(e.contains(says), "{bad}: {e}");
        }
    }
}
