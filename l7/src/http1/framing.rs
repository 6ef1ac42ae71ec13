//! Where a message ends, and what becomes of the connection (RFC 9112 6.3, 9.3; RFC 9110 7.6.1, 7.8, 10.1.1).
//!
//! The facts are gathered as header lines go by; the verdict falls once, at the end of the head.

use super::bytes;
use super::field::{FieldName, HeaderSlots};
use super::limits::HttpLimits;
use super::method::{Method, Version};
use super::reject::RejectReason;

/// How long a message's body is (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, whatever the headers say.
    None,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Up to the end of the connection; responses only.
    UntilClose,
}

/// What a message says about leaving HTTP (RFC 9110 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing, or only `h2c`: an origin that switched to it behind us would be out of our sight.
    None,
    /// WebSocket is among the protocols.
    WebSocket,
    /// Something else.
    Other,
}

/// What the header lines said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    content_length: Option<u64>,
    host: Option<(usize, usize)>,
    transfer_encoding: bool,
    chunked: bool,
    unknown_coding: bool,
    connection: bool,
    close: bool,
    keep_alive: bool,
    option_upgrade: bool,
    option_te: bool,
    upgrade_websocket: bool,
    upgrade_other: bool,
    te_trailers: bool,
    expect: bool,
    expect_unknown: bool,
}

/// The verdict over a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    pub body: BodyLength,
    /// What Content-Length said, where the body is not governed by it (HEAD, 304).
    pub content_length: Option<u64>,
    pub keep_alive: bool,
    pub expect_continue: bool,
    pub upgrade: Upgrade,
    pub te_trailers: bool,
}

impl Facts {
    /// Takes in a header line whose name is known.
    pub fn note(&mut self, name: FieldName, value: &[u8], at: (usize, usize)) -> Result<(), RejectReason> {
        match name {
            FieldName::Host if self.host.replace(at).is_some() => return Err(RejectReason::HostRepeated),
            FieldName::ContentLength => {
                let length = bytes::decimal(value).ok_or(RejectReason::ContentLengthInvalid)?;
                if self.content_length.replace(length).is_some() {
                    return Err(RejectReason::ContentLengthRepeated);
                }
            }
            FieldName::TransferEncoding => self.note_transfer_encoding(value)?,
            FieldName::Connection => self.connection = true,
            FieldName::Upgrade => self.note_upgrade(value),
            FieldName::Te => {
                self.te_trailers |= bytes::list(value).any(|t| t.eq_ignore_ascii_case(b"trailers"))
            }
            FieldName::Expect => {
                self.expect = true;
                self.expect_unknown |= !value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(())
    }

    /// Where the value of Host is.
    pub fn host(&self) -> Option<(usize, usize)> {
        self.host
    }

    /// Reads Connection once all slots are known, and marks what it nominates.
    pub fn note_connection(
        &mut self,
        buf: &[u8],
        slots: &mut HeaderSlots,
        limits: &HttpLimits,
    ) -> Result<(), RejectReason> {
        if !self.connection {
            return Ok(());
        }
        let mut options = 0;
        for at in 0..slots.len() {
            let slot = slots.as_slice()[at];
            if slot.known != FieldName::Connection {
                continue;
            }
            for option in bytes::list(slot.value.of(buf)) {
                options += 1;
                if options > limits.connection_options_max {
                    return Err(RejectReason::TooManyConnectionOptions);
                }
                self.note_option(buf, slots, option);
            }
        }
        Ok(())
    }

    /// RFC 9112 6.3 for a request.
    pub fn request(&self, method: Method, version: Version) -> Result<Framing, RejectReason> {
        self.check_transfer_encoding(version)?;
        if self.expect_unknown {
            return Err(RejectReason::ExpectationUnknown);
        }
        debug_assert!(method != Method::Connect, "refused with the request line");
        let body = match (self.transfer_encoding, self.content_length) {
            (true, _) => BodyLength::Chunked,
            (false, Some(length)) => BodyLength::Length(length),
            (false, None) => BodyLength::None,
        };
        Ok(self.framing(body, version))
    }

    /// RFC 9112 6.3 for a response to `method`.
    pub fn response(&self, status: u16, method: Method, version: Version) -> Result<Framing, RejectReason> {
        // A 2xx to CONNECT begins a tunnel; we send no CONNECT, but the rule costs nothing.
        let tunnel = method == Method::Connect && (200..300).contains(&status);
        let bodiless_status = status < 200 || status == 204 || tunnel;
        if bodiless_status || status == 304 || method == Method::Head {
            let mut framing = self.framing(BodyLength::None, version);
            // These statuses have no body by definition; an origin that announces one may well send it too, and
            // would poison whatever comes next on the connection.
            let announces = self.transfer_encoding || self.content_length.unwrap_or(0) > 0;
            framing.keep_alive &= !(bodiless_status && announces);
            return Ok(framing);
        }
        self.check_transfer_encoding(version)?;
        let body = match (self.transfer_encoding, self.content_length) {
            (true, _) => BodyLength::Chunked,
            (false, Some(length)) => BodyLength::Length(length),
            (false, None) => BodyLength::UntilClose,
        };
        Ok(self.framing(body, version))
    }

    fn check_transfer_encoding(&self, version: Version) -> Result<(), RejectReason> {
        if !self.transfer_encoding {
            return Ok(());
        }
        if self.content_length.is_some() {
            return Err(RejectReason::LengthAndTransferEncoding);
        }
        if version == Version::Http10 {
            return Err(RejectReason::TransferEncodingIn10);
        }
        if self.unknown_coding || !self.chunked {
            return Err(RejectReason::TransferEncodingUnknown);
        }
        Ok(())
    }

    fn framing(&self, body: BodyLength, version: Version) -> Framing {
        let is_11 = version == Version::Http11;
        Framing {
            body,
            content_length: self.content_length,
            // RFC 9112 9.3.
            keep_alive: !self.close && (is_11 || self.keep_alive) && body != BodyLength::UntilClose,
            // RFC 9110 10.1.1, 7.8: both are ignored in HTTP/1.0.
            expect_continue: self.expect && is_11,
            upgrade: match (is_11 && self.option_upgrade, self.upgrade_websocket, self.upgrade_other) {
                (true, true, _) => Upgrade::WebSocket,
                (true, false, true) => Upgrade::Other,
                _ => Upgrade::None,
            },
            te_trailers: self.te_trailers && self.option_te && is_11,
        }
    }

    fn note_transfer_encoding(&mut self, value: &[u8]) -> Result<(), RejectReason> {
        self.transfer_encoding = true;
        for coding in bytes::list(value) {
            if coding.is_empty() {
                return Err(RejectReason::TransferEncodingMalformed);
            }
            match (coding.eq_ignore_ascii_case(b"chunked"), self.chunked) {
                (true, true) => return Err(RejectReason::ChunkedTwice),
                (false, true) => return Err(RejectReason::ChunkedNotLast),
                (true, false) => self.chunked = true,
                (false, false) => self.unknown_coding = true,
            }
        }
        Ok(())
    }

    fn note_upgrade(&mut self, value: &[u8]) {
        for protocol in bytes::list(value) {
            if protocol.eq_ignore_ascii_case(b"websocket") {
                self.upgrade_websocket = true;
            } else if !protocol.is_empty() && !is_h2c(protocol) {
                self.upgrade_other = true;
            }
        }
    }

    fn note_option(&mut self, buf: &[u8], slots: &mut HeaderSlots, option: &[u8]) {
        match option {
            [] => {}
            _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
            _ if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
            _ if option.eq_ignore_ascii_case(b"upgrade") => self.option_upgrade = true,
            _ if option.eq_ignore_ascii_case(b"te") => self.option_te = true,
            _ => slots.nominate(buf, option),
        }
    }
}

/// `h2c`, with or without a version after it.
pub(crate) fn is_h2c(protocol: &[u8]) -> bool {
    let name = protocol.split(|&b| b == b'/').next().unwrap_or_default();
    bytes::trim(name).eq_ignore_ascii_case(b"h2c")
}
