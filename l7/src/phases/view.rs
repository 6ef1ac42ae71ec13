//! What modules see of a request and of a response.

use core::net::IpAddr;

use super::edit::Vars;
use crate::http1::{Headers, Method, RequestHead, Scheme};
use crate::tls::certs::Identity;

/// What modules see of a request. All but the header lines has to be kept until the request is logged.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The client's address: that of the connection, or what a PROXY header says.
    pub client_ip: IpAddr,
    /// What the client's connection is, whatever its target says.
    pub scheme: Scheme,
    /// Who the client is by the certificate that it has shown, if it has.
    pub identity: Option<&'a Identity>,
    /// The method.
    pub method: Method,
    /// The host, without port.
    pub host: &'a [u8],
    /// The path as it was written.
    pub path: &'a [u8],
    /// The path as routes are found by it ([`super::CleanPath`]): what decisions are made on.
    pub clean_path: &'a [u8],
    /// The query, if there is one.
    pub query: Option<&'a [u8]>,
    /// The header lines, up to the phase [`super::Phase::OriginRequest`].
    pub headers: Option<Headers<'a>>,
}

impl<'a> RequestView<'a> {
    /// Of a parsed head.
    pub fn of(head: &RequestHead<'a>, scheme: Scheme, client_ip: IpAddr, clean_path: &'a [u8]) -> Self {
        Self {
            client_ip,
            scheme,
            identity: None,
            method: head.method(),
            host: head.host(),
            path: head.path(),
            clean_path,
            query: head.query(),
            headers: Some(head.headers()),
        }
    }

    /// The same, of a client that was identified.
    #[must_use]
    pub fn by(self, identity: Option<&'a Identity>) -> Self {
        Self { identity, ..self }
    }

    /// The variables that header edits may use.
    pub fn vars(&self) -> Vars<'a> {
        Vars {
            client_ip: self.client_ip,
            scheme: self.scheme,
            host: self.host,
            path: self.path,
            identity: self.identity,
        }
    }
}

/// What modules see of a response.
#[derive(Clone, Copy)]
pub struct ResponseView<'a> {
    /// The status.
    pub status: u16,
    /// The header lines; none where we answer ourselves.
    pub headers: Option<Headers<'a>>,
}
