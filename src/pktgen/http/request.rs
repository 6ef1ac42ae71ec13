//! The requests of a run: their bytes, made once, and what is expected of the answers.

use l7::http1::Method;

use super::url;

/// Bytes of a request's body at most.
pub const BODY_MAX: usize = 1 << 20;

/// A request as it goes out, each time the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method: it decides how the answer is framed.
    pub method: Method,
    /// Path and query, for reports.
    pub path: String,
    /// Head and body.
    pub bytes: Vec<u8>,
    /// Its share of all requests.
    pub weight: u32,
    /// The status that is wanted, if any.
    pub status: Option<u16>,
    /// The hash of the body that is wanted, if any.
    pub sha256: Option<[u8; 32]>,
}

/// What a request is made of.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Lines of the head: `Name: value`.
    pub headers: &'a [String],
    /// The body.
    pub body: &'a [u8],
    /// What Host says, where no header does.
    pub host: &'a str,
    /// Whether the connection is for this request only.
    pub close: bool,
}

impl Parts<'_> {
    /// Puts it together.
    ///
    /// # Errors
    /// What is wrong, with the mend.
    pub fn build(&self) -> Result<Request, String> {
        method(self.method)?;
        url::target(self.path)?;
        let (mut has_host, mut has_connection) = (false, false);
        let mut lines = String::new();
        for header in self.headers {
            let (name, value) = split_header(header)?;
            has_host |= name.eq_ignore_ascii_case("host");
            has_connection |= name.eq_ignore_ascii_case("connection");
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !has_host {
            head.push_str(&format!("Host: {}\r\n", self.host));
        }
        head.push_str(&lines);
        if self.close && !has_connection {
            head.push_str("Connection: close\r\n");
        }
        // RFC 9110 8.6: where a body is usual, its absence is said too.
        if !self.body.is_empty() || matches!(self.method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        if self.body.len() > BODY_MAX {
            return Err(format!("a body of {} bytes is too long; {BODY_MAX} fit", self.body.len()));
        }
        Ok(Request {
            method: Method::of(self.method.as_bytes()),
            path: self.path.to_owned(),
            bytes: [head.as_bytes(), self.body].concat(),
            weight: 1,
            status: None,
            sha256: None,
        })
    }
}

/// Whether a method can be sent.
///
/// # Errors
/// What is wrong, with the mend.
pub fn method(text: &str) -> Result<(), String> {
    if text == "CONNECT" {
        return Err("CONNECT makes a tunnel, not a request; choose another method".to_owned());
    }
    if !text.is_empty() && text.len() <= 32 && text.bytes().all(is_token) {
        return Ok(());
    }
    Err(format!("\"{text}\" is no method; write GET, HEAD, POST or another"))
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// A header line in its two parts.
fn split_header(text: &str) -> Result<(&str, &str), String> {
    let wrong = || format!("\"{text}\" is no header; write it as in \"Accept: text/html\"");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = value.trim();
    if name.is_empty() || !name.bytes().all(is_token) || value.chars().any(char::is_control) {
        return Err(wrong());
    }
    if ["content-length", "transfer-encoding"].iter().any(|n| name.eq_ignore_ascii_case(n)) {
        return Err(format!("\"{name}\" is written by itself, from the body; leave it out"));
    }
    Ok((name, value))
}

/// A SHA-256 as 64 hexadecimal digits.
///
/// # Errors
/// What is wrong, with the mend.
pub fn sha256(text: &str) -> Result<[u8; 32], String> {
    let wrong =
        || format!("\"{text}\" is no SHA-256; write its 64 hexadecimal digits, as sha256sum prints them");
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(method: &'a str, path: &'a str, headers: &'a [String], body: &'a [u8]) -> Parts<'a> {
        Parts { method, path, headers, body, host: "10.0.0.1", close: false }
    }

    fn text(r: Result<Request, String>) -> String {
        String::from_utf8(r.expect("good").bytes).expect("text")
    }

    #[test]
    fn requests_are_put_together() {
        assert_eq!(text(parts("GET", "/a", &[], b"").build()), "GET /a HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n");
        let headers = ["host:  other ".to_owned(), "Accept: a:b".to_owned()];
        let post = parts("POST", "/", &headers, b"x=1");
        assert_eq!(
            text(Parts { close: true, ..post }.build()),
            "POST / HTTP/1.1\r\nhost: other\r\nAccept: a:b\r\nConnection: close\r\nContent-Length: 3\r\n\r\nx=1"
        );
        assert!(text(parts("PUT", "/", &[], b"").build()).contains("\r\nContent-Length: 0\r\n"));
        assert_eq!(parts("HEAD", "/", &[], b"").build().expect("good").method, Method::Head);
    }

    #[test]
    fn what_is_wrong_says_the_mend() {
        let one = |h: &str| [h.to_owned()];
        for (header, says) in [
            ("Accept", "write it as in"),
            ("A b: c", "write it as in"),
            (": c", "write it as in"),
            ("A: b\r\nC: d", "write it as in"),
            ("Content-length: 3", "leave it out"),
            ("Transfer-Encoding: chunked", "leave it out"),
        ] {
            let e = parts("GET", "/", &one(header), b"").build().expect_err(header);
            assert!(e.contains(says), "{header}: {e}");
        }
        for (method, path, says) in [
            ("G T", "/", "no method"),
            ("", "/", "no method"),
            ("CONNECT", "/", "tunnel"),
            ("GET", "a", "in front"),
        ] {
            let e = parts(method, path, &[], b"").build().expect_err(path);
            assert!(e.contains(says), "{method} {path}: {e}");
        }
        assert!(sha256(&"0g".repeat(32)).is_err() && sha256("00").is_err());
        assert_eq!(sha256(&"0A".repeat(32)), Ok([10; 32]));
    }
}
