//! The modules that come with the node.

use core::fmt;

use super::answer::Answer;
use super::ctx::{Ctx, Flow};
use super::edit::{EditError, EditSpec, HeadEdit, Message};
use super::fields::{Fields, Phase};
use super::filter::Filter;
use super::program::Module;
use super::template::{self, Piece, put_variable};
use super::view::RequestView;
use crate::http1::target::parse_authority;
use crate::http1::{Full, HeadSink, Scheme};

/// Sets, adds and removes header lines of the requests that go to origins.
#[derive(Debug)]
pub struct RequestHeaders {
    edit: HeadEdit,
    filter: Filter,
}

impl RequestHeaders {
    /// Compiles it.
    pub fn new(spec: &EditSpec, filter: Filter) -> Result<Self, EditError> {
        Ok(Self { edit: HeadEdit::new(Message::Request, spec)?, filter })
    }
}

impl Module for RequestHeaders {
    const NAME: &'static str = "request_headers";
    const PHASE: Phase = Phase::OriginRequest;
    const READS: Fields = Fields::NONE;
    const WRITES: Fields = Fields::ORIGIN_REQUEST;

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        ctx.edit_origin_request(&self.edit);
        Flow::Go
    }
}

/// Sets, adds and removes header lines of the responses that go to clients.
#[derive(Debug)]
pub struct ResponseHeaders {
    edit: HeadEdit,
    filter: Filter,
}

impl ResponseHeaders {
    /// Compiles it.
    pub fn new(spec: &EditSpec, filter: Filter) -> Result<Self, EditError> {
        Ok(Self { edit: HeadEdit::new(Message::Response, spec)?, filter })
    }
}

impl Module for ResponseHeaders {
    const NAME: &'static str = "response_headers";
    const PHASE: Phase = Phase::Response;
    const READS: Fields = Fields::NONE;
    const WRITES: Fields = Fields::RESPONSE;

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        ctx.edit_response(&self.edit);
        Flow::Go
    }
}

/// Removes what is for the inside only from what an origin answers, before it is stored: long lists of names
/// and of `X-Internal-*`. One list serves every route ([`super::ProgramBuilder::share`]).
#[derive(Debug)]
pub struct StripInternal {
    edit: HeadEdit,
}

impl StripInternal {
    /// Compiles the list.
    pub fn new(names: Vec<String>) -> Result<Self, EditError> {
        let spec = EditSpec { remove: names, ..EditSpec::default() };
        Ok(Self { edit: HeadEdit::new(Message::Response, &spec)? })
    }
}

impl Module for StripInternal {
    const NAME: &'static str = "strip_internal";
    const PHASE: Phase = Phase::OriginResponse;
    const READS: Fields = Fields::NONE;
    const WRITES: Fields = Fields::RESPONSE;

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        ctx.edit_response(&self.edit);
        Flow::Go
    }
}

/// Where a [`Redirect`] leads.
#[derive(Clone, Debug)]
pub enum RedirectTo {
    /// The same over HTTPS, for requests that came without; at this port.
    Https(u16),
    /// The same at this host (and port, if it has one), for requests that name another host.
    Host(String),
    /// Always there: an absolute URL or a path, with variables. The query of the request is not carried over.
    Url(String),
}

/// Sends clients elsewhere.
#[derive(Debug)]
pub struct Redirect {
    status: u16,
    to: Target,
    filter: Filter,
}

#[derive(Debug)]
enum Target {
    Https { port: u16 },
    Host { host: Box<[u8]>, authority: Box<[u8]> },
    Url { pieces: Box<[Piece]>, text: Box<[u8]> },
}

const HTTPS_PORT: u16 = 443;

impl Redirect {
    /// Compiles it. The status is 301, 302, 307 or 308.
    pub fn new(status: u16, to: &RedirectTo, filter: Filter) -> Result<Self, RedirectError> {
        if !matches!(status, 301 | 302 | 307 | 308) {
            return Err(RedirectError::StatusInvalid);
        }
        let to = match to {
            RedirectTo::Https(port) => Target::Https { port: *port },
            RedirectTo::Host(authority) => {
                let (host, _) = parse_authority(authority.as_bytes()).ok_or(RedirectError::HostInvalid)?;
                Target::Host { host: host.into(), authority: authority.as_bytes().into() }
            }
            RedirectTo::Url(url) => compile_url(url)?,
        };
        Ok(Self { status, to, filter })
    }

    /// The status of its responses.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Writes the value of Location. Everything in it was parsed strictly or is checked here: the line cannot
    /// become two.
    pub fn write_location(&self, request: &RequestView<'_>, sink: &mut impl HeadSink) -> Result<(), Full> {
        match &self.to {
            Target::Https { port } => {
                sink.put(b"https://")?;
                put_variable(request.host, sink)?;
                if *port != HTTPS_PORT {
                    let mut digits = [0; 20];
                    sink.put(b":")?;
                    sink.put(crate::http1::bytes::format_decimal(u64::from(*port), &mut digits))?;
                }
            }
            Target::Host { authority, .. } => {
                sink.put(template::scheme_name(request.scheme))?;
                sink.put(b"://")?;
                sink.put(authority)?;
            }
            Target::Url { pieces, text } => {
                return template::write(pieces, text, &request.vars(), sink);
            }
        }
        put_variable(request.path, sink)?;
        if let Some(query) = request.query {
            sink.put(b"?")?;
            put_variable(query, sink)?;
        }
        Ok(())
    }
}

impl Module for Redirect {
    const NAME: &'static str = "redirect";
    const PHASE: Phase = Phase::Request;
    const READS: Fields = Fields::SCHEME.and(Fields::HOST).and(Fields::PATH);
    const WRITES: Fields = Fields::ANSWER;

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn run<'p>(&'p self, ctx: &mut Ctx<'_, 'p, Self>) -> Flow {
        let applies = match &self.to {
            Target::Https { .. } => ctx.scheme() == Scheme::Http,
            Target::Host { host, .. } => !ctx.host().eq_ignore_ascii_case(host),
            Target::Url { .. } => true,
        };
        // `OPTIONS *` is about the server, not about a place in it.
        if !applies || !ctx.path().starts_with(b"/") {
            return Flow::Go;
        }
        if ctx.host().is_empty() && matches!(self.to, Target::Https { .. }) {
            return ctx.answer(Answer::Error(400)); // HTTP/1.0 without Host: there is nowhere to send it.
        }
        ctx.answer(Answer::Redirect(self))
    }
}

/// The beginning of the URL has to be ours, not the request's: `{path}` alone may be `//elsewhere.example`.
fn compile_url(url: &str) -> Result<Target, RedirectError> {
    let is_rooted = url.strip_prefix('/').is_some_and(|rest| !rest.starts_with(['/', '\\', '{']));
    let is_absolute = ["http://", "https://", "{scheme}://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .is_some_and(|rest| {
            !rest.is_empty() && !rest.starts_with(['/', '\\']) && !rest.starts_with("{path}")
        });
    let is_clean = url.bytes().all(|b| b.is_ascii_graphic());
    if !is_clean || !(is_rooted || is_absolute) {
        return Err(RedirectError::UrlInvalid);
    }
    let (mut text, mut pieces) = (Vec::new(), Vec::new());
    template::compile(url, &mut text, &mut pieces).map_err(|_| RedirectError::UrlInvalid)?;
    // What a certificate says is not made for URLs.
    if template::needs_identity(&pieces) {
        return Err(RedirectError::UrlInvalid);
    }
    Ok(Target::Url { pieces: pieces.into(), text: text.into() })
}

/// Why a redirect cannot be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectError {
    /// Not 301, 302, 307 or 308.
    StatusInvalid,
    /// Not a host, with or without a port.
    HostInvalid,
    /// Neither an absolute URL nor a path, or with something in it that a URL or a template cannot have.
    UrlInvalid,
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StatusInvalid => "a redirect has the status 301, 302, 307 or 308",
            Self::HostInvalid => "a redirect leads to a host name or address, with or without a port",
            Self::UrlInvalid => {
                "a redirect leads to `https://HOST/…` or to a path, without blanks, and its host may not come from \
                 {path}; variables are {client_ip}, {host}, {path} and {scheme}"
            }
        })
    }
}

impl core::error::Error for RedirectError {}
