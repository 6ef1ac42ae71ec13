//! A site's own error pages, for errors that the node generates. What an origin answers is its own affair and
//! passes as it is, whatever its status.

use core::fmt;

/// A page, read when the config was.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    content_type: &'static str,
    body: Box<[u8]>,
}

impl ErrorPage {
    /// The value of Content-Type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Its bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

const HTML: &str = "text/html; charset=utf-8";
const FIRST: u16 = 400;
const STATUSES: usize = 200;
/// In the index: no page.
const NONE: u8 = u8::MAX;

/// The pages of a site, found by status.
#[derive(Clone, Debug)]
pub struct ErrorPages {
    pages: Box<[ErrorPage]>,
    /// For each status from 400 on, which page.
    index: [u8; STATUSES],
}

impl ErrorPages {
    /// No pages.
    pub fn none() -> Self {
        Self { pages: Box::new([]), index: [NONE; STATUSES] }
    }

    /// Pages of HTML by what they are for: a status (`404`) or a class (`4xx`, `5xx`). A status comes before its
    /// class.
    pub fn new<'s>(pages: impl IntoIterator<Item = (&'s str, Vec<u8>)>) -> Result<Self, ErrorPageError> {
        Self::typed(pages.into_iter().map(|(which, body)| (which, HTML, body)))
    }

    /// The same for pages of any kind: what each is for, the value of Content-Type, the body.
    pub fn typed<'s>(
        pages: impl IntoIterator<Item = (&'s str, &'static str, Vec<u8>)>,
    ) -> Result<Self, ErrorPageError> {
        let mut result = Self::none();
        let mut list = Vec::new();
        let mut is_exact = [false; STATUSES];
        for (which, content_type, body) in pages {
            let error = || ErrorPageError(which.to_owned());
            let (range, exact) = match which {
                "4xx" => (0..100, false),
                "5xx" => (100..200, false),
                _ if which.len() == 3 => {
                    let at = index_of(which.parse().map_err(|_| error())?).ok_or_else(error)?;
                    (at..at + 1, true)
                }
                _ => return Err(error()),
            };
            let number = u8::try_from(list.len()).ok().filter(|&n| n != NONE).ok_or_else(error)?;
            list.push(ErrorPage { content_type, body: body.into() });
            for at in range {
                if exact || !is_exact[at] {
                    result.index[at] = number;
                    is_exact[at] = exact;
                }
            }
        }
        result.pages = list.into();
        Ok(result)
    }

    /// The page for `status`.
    #[inline]
    pub fn find(&self, status: u16) -> Option<&ErrorPage> {
        self.pages.get(usize::from(*self.index.get(index_of(status)?)?))
    }
}

impl Default for ErrorPages {
    fn default() -> Self {
        Self::none()
    }
}

fn index_of(status: u16) -> Option<usize> {
    let at = usize::from(status.checked_sub(FIRST)?);
    (at < STATUSES).then_some(at)
}

/// What an error page is for is not `400` to `599`, `4xx` or `5xx`; or there are more than 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPageError(pub String);

impl fmt::Display for ErrorPageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no error that a page can be for: 400 to 599, 4xx or 5xx, and 255 at most", self.0)
    }
}

impl core::error::Error for ErrorPageError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_comes_before_its_class() {
        for order in [["4xx", "404", "5xx"], ["404", "4xx", "5xx"]] {
            let pages = ErrorPages::new(order.map(|which| (which, which.as_bytes().to_vec()))).unwrap();
            let found = |status| pages.find(status).map(|page| page.body());
            assert_eq!(found(404), Some(&b"404"[..]));
            assert_eq!(found(400), Some(&b"4xx"[..]));
            assert_eq!(found(499), Some(&b"4xx"[..]));
            assert_eq!(found(500), Some(&b"5xx"[..]));
            assert_eq!(found(599), Some(&b"5xx"[..]));
            for none in [0, 200, 399, 600, u16::MAX] {
                assert_eq!(found(none), None, "{none}");
            }
        }
        assert!(ErrorPages::none().find(404).is_none());
    }

    #[test]
    fn what_a_page_cannot_be_for() {
        for bad in ["", "4", "399", "600", "3xx", "4XX", "40x", "+40", "4040"] {
            assert!(ErrorPages::new([(bad, Vec::new())]).is_err(), "{bad}");
        }
    }
}
