//! What HTTP names: paths, fields and their values, cookies, statuses.

use std::ops::RangeInclusive;

use super::{Wrong, host_pattern, wrong};
use crate::config::model::{HashKey, HostPattern, NamePattern, ValuePart, Variable};
use crate::config::report::quote;

/// Longest name of a field, cookie or parameter.
const NAME_BYTES_MAX: usize = 128;
/// Longest value of a field that the config writes.
const VALUE_BYTES_MAX: usize = 4096;
/// Longest path.
const PATH_BYTES_MAX: usize = 1024;

/// Which way a header goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the origin.
    Request,
    /// To the client.
    Response,
}

/// Fields that frame a message or belong to one connection (RFC 9110, section 7.6.1): they are this node's to write.
const OWN_FIELDS: [&str; 10] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// A route's path, as in `/api/`.
pub fn route_path(text: &str) -> Result<String, Wrong> {
    check_path(text)?;
    if let Some(mark) = text.find(['?', '#', '*']) {
        let cause = format!("the path {} has a {:?}", quote(text), &text[mark..=mark]);
        return wrong(cause, "write the beginning of a path, as in \"/api/\"");
    }
    if text.split('/').any(|segment| segment == "." || segment == "..") {
        let cause = format!("no request has a path like {}", quote(text));
        return wrong(cause, "leave out the segments \".\" and \"..\"");
    }
    Ok(text.to_string())
}

/// What a health check asks for: a path, perhaps with a query.
pub fn check_path(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') {
        return wrong(format!("the path {} does not begin with /", quote(text)), "write it as in \"/api/\"");
    }
    if text.len() > PATH_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
        let mend = "write printable ASCII without spaces, other characters as in \"%20\"";
        return wrong(format!("{} is not a path", quote(text)), mend);
    }
    Ok(text.to_string())
}

/// The host that a redirect leads to.
pub fn redirect_host(text: &str) -> Result<String, Wrong> {
    match host_pattern(text)? {
        HostPattern::Exact(host) => Ok(host),
        _ => wrong(format!("{} is not one host", quote(text)), "write the host that requests are to go to"),
    }
}

/// A field's name, as written.
pub fn field_name(text: &str) -> Result<String, Wrong> {
    if !is_token(text) {
        return wrong(format!("{} is not a field's name", quote(text)), "write it as in \"X-Request-Id\"");
    }
    Ok(text.to_string())
}

/// A field that the config may write.
pub fn field_to_write(text: &str, direction: Direction) -> Result<String, Wrong> {
    let name = field_name(text)?;
    let lower = name.to_ascii_lowercase();
    if OWN_FIELDS.contains(&lower.as_str()) {
        let cause = format!("{} belongs to the connection, not to the message", quote(text));
        return wrong(cause, "remove it: the node writes it itself");
    }
    if lower == "host" && direction == Direction::Request {
        return wrong("\"Host\" can't be changed in this version", "remove it: origins get the client's");
    }
    Ok(name)
}

/// A field, or all with a beginning (`X-Internal-*`), that the config may remove; in lower case.
pub fn pattern_to_remove(text: &str, direction: Direction) -> Result<NamePattern, Wrong> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('*').unwrap_or(&lower);
    if !is_token(name) || name.contains('*') {
        let mend = "write a field's name, or the beginning of one, as in \"X-Internal-*\"";
        return wrong(format!("{} is neither a field's name nor the beginning of one", quote(text)), mend);
    }
    let pattern = match lower.ends_with('*') {
        true => NamePattern::Prefix(name.to_string()),
        false => NamePattern::Exact(name.to_string()),
    };
    let host = (direction == Direction::Request).then_some("host");
    if let Some(own) = OWN_FIELDS.into_iter().chain(host).find(|own| pattern.matches(own)) {
        let cause = match &pattern {
            NamePattern::Exact(_) => format!("{} can't be removed", quote(text)),
            NamePattern::Prefix(_) => format!("{} means \"{own}\" too, which can't be removed", quote(text)),
        };
        return wrong(cause, "leave it out: the node writes it itself");
    }
    Ok(pattern)
}

/// A parameter's name, or all with a beginning (`utm_*`), in the case that it has.
pub fn parameter_pattern(text: &str) -> Result<NamePattern, Wrong> {
    let name = text.strip_suffix('*').unwrap_or(text);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_parameter_byte) {
        let mend = "write a parameter's name, or the beginning of one, as in \"utm_*\"";
        return wrong(format!("{} is not the name of a parameter", quote(text)), mend);
    }
    Ok(match text.ends_with('*') {
        true => NamePattern::Prefix(name.to_string()),
        false => NamePattern::Exact(name.to_string()),
    })
}

/// A cookie's name.
pub fn cookie(text: &str) -> Result<String, Wrong> {
    if !is_token(text) {
        return wrong(format!("{} is not a cookie's name", quote(text)), "write it as in \"session\"");
    }
    Ok(text.to_string())
}

/// `uri`, `path`, `client_ip`, `header:NAME`, `cookie:NAME`
pub fn hash_key(text: &str) -> Result<HashKey, Wrong> {
    match text.split_once(':') {
        None if text == "uri" => Ok(HashKey::Uri),
        None if text == "path" => Ok(HashKey::Path),
        None if text == "client_ip" => Ok(HashKey::ClientIp),
        Some(("header", name)) => Ok(HashKey::Header(field_name(name)?.to_ascii_lowercase())),
        Some(("cookie", name)) => Ok(HashKey::Cookie(cookie(name)?)),
        _ => wrong(
            format!("{} is not a value of \"hash_key\"", quote(text)),
            "write one of \"uri\", \"path\", \"client_ip\", \"header:NAME\", \"cookie:NAME\"",
        ),
    }
}

/// `2xx`: a class of statuses; `404`: one.
pub fn statuses(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    if let Some(class) = text.strip_suffix("xx")
        && let Ok(n @ 1..=5) = class.parse::<u16>()
    {
        return Ok(n * 100..=n * 100 + 99);
    }
    match text.parse::<u16>() {
        Ok(n @ 100..=599) if text.len() == 3 => Ok(n..=n),
        _ => {
            wrong(format!("{} is neither a status nor a class of them", quote(text)), "write 404 or \"5xx\"")
        }
    }
}

/// A field's value with its variables. Only `{word}` is a variable: other braces stand for themselves.
pub fn value(text: &str) -> Result<Vec<ValuePart>, Wrong> {
    if text.len() > VALUE_BYTES_MAX {
        return wrong(format!("the value {} is too long", quote(text)), "write 4KiB at most");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t') {
        let cause = format!("the value {} has characters that a field can't have", quote(text));
        return wrong(cause, "write printable ASCII");
    }
    if text.trim_ascii() != text {
        return wrong(format!("the value {} has spaces at an end", quote(text)), "leave them out");
    }
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let word_end = |c: char| !(c.is_ascii_lowercase() || c == '_');
        let word = &rest[open + 1..];
        let word = &word[..word.find(word_end).unwrap_or(word.len())];
        let after = &rest[open + 1 + word.len()..];
        plain.push_str(&rest[..open]);
        if word.is_empty() || !after.starts_with('}') {
            plain.push('{');
            rest = &rest[open + 1..];
            continue;
        }
        let variable = match word {
            "client_ip" => Variable::ClientIp,
            "host" => Variable::Host,
            "path" => Variable::Path,
            "scheme" => Variable::Scheme,
            "client_subject" => Variable::ClientSubject,
            "client_issuer" => Variable::ClientIssuer,
            "client_serial" => Variable::ClientSerial,
            "client_fingerprint" => Variable::ClientFingerprint,
            _ => {
                let mend = "use {client_ip}, {host}, {path} or {scheme}; of a client's certificate {client_subject}, \
                            {client_issuer}, {client_serial} or {client_fingerprint}";
                return wrong(format!("there is no variable {{{word}}}"), mend);
            }
        };
        if !plain.is_empty() {
            parts.push(ValuePart::Text(std::mem::take(&mut plain)));
        }
        parts.push(ValuePart::Variable(variable));
        rest = &after[1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(ValuePart::Text(plain));
    }
    Ok(parts)
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// What a name in a query is made of.
fn is_parameter_byte(b: u8) -> bool {
    b.is_ascii_graphic() && !b"&=#*".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::super::tests::cause;
    use super::*;

    #[test]
    fn paths() {
        for text in ["/", "/api/", "/a%20b", "//", "/a.b/..c"] {
            assert_eq!(route_path(text).as_deref(), Ok(text));
        }
        assert!(check_path("/healthz?deep=1").is_ok());
        for (text, phrase) in [
            ("", "does not begin"),
            ("api", "does not begin"),
            ("/a b", "is not a path"),
            ("/ü", "is not a path"),
            ("/a?b", "has a \"?\""),
            ("/a/*", "has a \"*\""),
            ("/a/../b", "no request has"),
            ("/.", "no request has"),
        ] {
            let cause = cause(route_path(text));
            assert!(cause.contains(phrase), "{text}: {cause}");
        }
    }

    #[test]
    fn fields() {
        assert_eq!(field_to_write("X-Edge", Direction::Request).as_deref(), Ok("X-Edge"));
        assert!(field_to_write("Host", Direction::Request).is_err());
        assert!(field_to_write("Host", Direction::Response).is_ok());
        for name in ["", "a b", "a:", "ä", "Content-Length", "TRANSFER-ENCODING", "connection"] {
            assert!(field_to_write(name, Direction::Response).is_err(), "{name}");
        }
        let exact = |name: &str| Ok(NamePattern::Exact(name.into()));
        let prefix = |name: &str| Ok(NamePattern::Prefix(name.into()));
        assert_eq!(pattern_to_remove("Server", Direction::Response), exact("server"));
        assert_eq!(pattern_to_remove("X-Internal-*", Direction::Response), prefix("x-internal-"));
        for (name, phrase) in [
            ("*", "neither a field's name"),
            ("x-*-y", "neither a field's name"),
            ("T*", "means \"te\" too"),
            ("content-*", "means \"content-length\" too"),
            ("Upgrade", "can't be removed"),
        ] {
            let cause = cause(pattern_to_remove(name, Direction::Response));
            assert!(cause.contains(phrase), "{name}: {cause}");
        }
        assert!(cause(pattern_to_remove("ho*", Direction::Request)).contains("means \"host\" too"));
        assert_eq!(parameter_pattern("utm_*"), prefix("utm_"));
        assert_eq!(parameter_pattern("Q"), exact("Q"));
        assert!(parameter_pattern("*").is_err());
        assert!(parameter_pattern("a=b").is_err());
    }

    #[test]
    fn keys_and_statuses() {
        assert_eq!(hash_key("header:X-User"), Ok(HashKey::Header("x-user".into())));
        assert_eq!(hash_key("cookie:Sid"), Ok(HashKey::Cookie("Sid".into())));
        for text in ["", "url", "header", "header:", "cookie:a b", "host:x"] {
            assert!(hash_key(text).is_err(), "{text}");
        }
        assert_eq!(statuses("2xx"), Ok(200..=299));
        assert_eq!(statuses("204"), Ok(204..=204));
        for text in ["", "xx", "6xx", "0404", "99", "600", "2XX", "+04"] {
            assert!(statuses(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_and_their_variables() {
        use ValuePart::{Text, Variable as Var};
        let text = |t: &str| Text(t.to_string());
        for (source, parts) in [
            ("", vec![]),
            ("plain", vec![text("plain")]),
            (
                "{scheme}://{host}{path}",
                vec![Var(Variable::Scheme), text("://"), Var(Variable::Host), Var(Variable::Path)],
            ),
            ("for={client_ip}", vec![text("for="), Var(Variable::ClientIp)]),
            (
                "{client_subject};{client_issuer}",
                vec![Var(Variable::ClientSubject), text(";"), Var(Variable::ClientIssuer)],
            ),
            (
                "{client_serial} {client_fingerprint}",
                vec![Var(Variable::ClientSerial), text(" "), Var(Variable::ClientFingerprint)],
            ),
            (r#"{"max_age":1,"a":{}}"#, vec![text(r#"{"max_age":1,"a":{}}"#)]),
            ("{{host}", vec![text("{"), Var(Variable::Host)]),
            ("{host", vec![text("{host")]),
            ("{Host}", vec![text("{Host}")]),
        ] {
            assert_eq!(value(source), Ok(parts), "{source}");
        }
        for (source, phrase) in [
            ("{request_id}", "no variable {request_id}"),
            ("a\r\nb", "can't have"),
            ("ü", "can't have"),
            (" a", "spaces at an end"),
        ] {
            let cause = cause(value(source));
            assert!(cause.contains(phrase), "{source}: {cause}");
        }
        assert!(value(&"a".repeat(4097)).is_err());
    }
}
