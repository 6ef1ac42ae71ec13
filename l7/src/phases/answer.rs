//! Answers that modules give, and how they become responses.

use super::edit::EditList;
use super::error_pages::ErrorPages;
use super::modules::Redirect;
use super::view::RequestView;
use crate::http1::{ErrorContext, Full, HeadSink, error_page};

/// What a module answers instead of letting a request go on.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'p> {
    /// Nothing: the connection is closed.
    Close,
    /// An error of this status, with the site's page for it where there is one.
    Error(u16),
    /// Where to go instead.
    Redirect(&'p Redirect),
}

impl Answer<'_> {
    /// The status that the client sees, if any.
    pub fn status(&self) -> Option<u16> {
        match self {
            Answer::Close => None,
            Answer::Error(status) => Some(*status),
            Answer::Redirect(redirect) => Some(redirect.status()),
        }
    }
}

/// Writes the whole response of an answer, with what `edits` add. [`Answer::Close`] writes nothing. A large error
/// page need not go through `sink`: write [`error_page::write_error_head`] for [`ErrorPages::find`] instead and
/// send the page's bytes from where they lie.
pub fn write_answer(
    answer: &Answer<'_>,
    request: &RequestView<'_>,
    ctx: &ErrorContext<'_>,
    pages: &ErrorPages,
    edits: &EditList<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    match answer {
        Answer::Close => Ok(()),
        Answer::Error(status) => match pages.find(*status) {
            None => error_page::write_own_error(*status, ctx, edits, sink),
            Some(page) => {
                let (kind, length) = (page.content_type(), page.body().len() as u64);
                error_page::write_error_head(*status, ctx, kind, length, edits, sink)?;
                if ctx.method == Some(crate::http1::Method::Head) {
                    return Ok(());
                }
                sink.put(page.body())
            }
        },
        Answer::Redirect(redirect) => {
            error_page::write_redirect(redirect.status(), ctx, edits, sink, |sink| {
                redirect.write_location(request, sink)
            })
        }
    }
}
