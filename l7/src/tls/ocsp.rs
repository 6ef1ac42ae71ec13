//! What an issuer's OCSP server says of a certificate (RFC 6960, 4.2.1): whether it is of this certificate and good, and for
//! how long. Only such a response is of use to a client that it is stapled for; any other keeps clients away.
//!
//! ```text
//!  OCSPResponse ── state ── BasicOCSPResponse ── responses ──┬─ CertID: is it ours?
//!                                                           ├─ good, revoked, unknown
//!                                                           └─ thisUpdate … nextUpdate
//! ```
//!
//! Whose signature the response has is not looked at: who reads it here has it from the operator, and clients verify it.

use std::fmt;

use aws_lc_rs::digest;

use super::certs::{
    BIT_STRING, Der, ENUMERATED, INTEGER, OCTET_STRING, OID, SEQUENCE, VERSION, of_name_and_serial, time_s,
};

/// Certificates that one response may be about. Servers answer what they are asked, which is one.
const ANSWERS_MAX: usize = 64;

/// A response that says that the certificate is good, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Good {
    /// From then on (`thisUpdate`), in seconds since 1970.
    pub from_s: u64,
    /// The last second (`nextUpdate`); `None`: it does not say.
    pub until_s: Option<u64>,
}

/// Why a response is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not one, or damaged.
    NotDer,
    /// The server could not answer: its `responseStatus`.
    NoState(u8),
    /// It is of a type that only its server's friends know.
    NotBasic,
    /// It is about other certificates.
    Other,
    /// It is about a certificate with this number, of another issuer.
    OtherIssuer,
    /// The certificate was revoked then, in seconds since 1970.
    Revoked(u64),
    /// The server does not know the certificate.
    Unknown,
}

impl Good {
    /// Whether a client would take it at `now_s`.
    pub fn is_good_at(&self, now_s: u64) -> bool {
        (self.from_s..=self.until_s.unwrap_or(u64::MAX)).contains(&now_s)
    }
}

/// Reads `response` for `leaf`; `issuer` is the certificate of who has issued that, if it is known. All in DER.
///
/// # Errors
/// When it does not say that the leaf is good.
pub fn read(response: &[u8], leaf: &[u8], issuer: Option<&[u8]>) -> Result<Good, Fault> {
    let answers = answers(response)?;
    let ours = Ours::of(leaf, issuer).ok_or(Fault::Other)?;
    let mut is_same_number = false;
    let mut rest = Der(answers);
    for _ in 0..ANSWERS_MAX {
        if rest.is_empty() {
            break;
        }
        let answer = rest.expect(SEQUENCE).and_then(Answer::of).ok_or(Fault::NotDer)?;
        if answer.serial != ours.serial {
            continue;
        }
        is_same_number = true;
        if !ours.is_issuer(&answer) {
            continue;
        }
        return answer.state.map(|()| Good { from_s: answer.from_s, until_s: answer.until_s });
    }
    Err(if is_same_number { Fault::OtherIssuer } else { Fault::Other })
}

/// The list of `SingleResponse`.
fn answers(response: &[u8]) -> Result<&[u8], Fault> {
    let whole = |bytes| {
        let mut der = Der(bytes);
        let inner = der.expect(SEQUENCE)?;
        der.is_empty().then_some(Der(inner))
    };
    let mut parts = whole(response).ok_or(Fault::NotDer)?;
    match parts.expect(ENUMERATED) {
        Some([0]) => {}
        Some([status]) => return Err(Fault::NoState(*status)),
        _ => return Err(Fault::NotDer),
    }
    let bytes = parts.expect(RESPONSE_BYTES).ok_or(Fault::NotDer)?;
    let mut typed = whole(bytes).ok_or(Fault::NotDer)?;
    if typed.expect(OID).ok_or(Fault::NotDer)? != BASIC {
        return Err(Fault::NotBasic);
    }
    let of_basic = |basic| {
        let mut basic = whole(basic)?;
        let mut data = Der(basic.expect(SEQUENCE)?);
        basic.expect(SEQUENCE)?; // The signature's algorithm.
        basic.expect(BIT_STRING)?;
        let (mut tag, _) = data.next()?;
        if tag == VERSION {
            (tag, _) = data.next()?;
        }
        if !matches!(tag, BY_NAME | BY_KEY) {
            return None;
        }
        data.next()?; // When it was made.
        data.expect(SEQUENCE)
    };
    typed.expect(OCTET_STRING).and_then(of_basic).ok_or(Fault::NotDer)
}

// Tags.
const RESPONSE_BYTES: u8 = 0xa0;
const BY_NAME: u8 = 0xa1;
const BY_KEY: u8 = 0xa2;
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
const UNKNOWN: u8 = 0x82;
const NEXT_UPDATE: u8 = 0xa0;

/// `id-pkix-ocsp-basic`.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// By which an issuer's name and key are told.
fn hash_of(oid: &[u8]) -> Option<&'static digest::Algorithm> {
    match oid {
        [0x2b, 0x0e, 3, 2, 0x1a] => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, kind] => match kind {
            1 => Some(&digest::SHA256),
            2 => Some(&digest::SHA384),
            3 => Some(&digest::SHA512),
            _ => None,
        },
        _ => None,
    }
}

/// A `SingleResponse`.
struct Answer<'a> {
    hash: Option<&'static digest::Algorithm>,
    issuer_name: &'a [u8],
    issuer_key: &'a [u8],
    serial: &'a [u8],
    state: Result<(), Fault>,
    from_s: u64,
    until_s: Option<u64>,
}

impl<'a> Answer<'a> {
    fn of(answer: &'a [u8]) -> Option<Answer<'a>> {
        let mut answer = Der(answer);
        let mut id = Der(answer.expect(SEQUENCE)?);
        let hash = hash_of(Der(id.expect(SEQUENCE)?).expect(OID)?);
        let issuer_name = id.expect(OCTET_STRING)?;
        let issuer_key = id.expect(OCTET_STRING)?;
        let serial = id.expect(INTEGER)?;
        let state = match answer.next()? {
            (GOOD, []) => Ok(()),
            (REVOKED, revoked) => {
                let (tag, time) = Der(revoked).next()?;
                Err(Fault::Revoked(time_s(tag, time)?))
            }
            (UNKNOWN, _) => Err(Fault::Unknown),
            _ => return None,
        };
        let time = |der: &mut Der<'a>| der.next().and_then(|(tag, value)| time_s(tag, value));
        let from_s = time(&mut answer)?;
        let mut until_s = None;
        if !answer.is_empty() {
            let (tag, value) = answer.next()?;
            if tag == NEXT_UPDATE {
                until_s = Some(time(&mut Der(value))?);
            }
        }
        Some(Answer { hash, issuer_name, issuer_key, serial, state, from_s, until_s })
    }
}

/// The certificate that is asked about.
struct Ours<'a> {
    serial: &'a [u8],
    /// Its issuer's name, in DER.
    issuer: &'a [u8],
    /// Its issuer's key, if that is known.
    key: Option<&'a [u8]>,
}

impl<'a> Ours<'a> {
    fn of(leaf: &'a [u8], issuer: Option<&'a [u8]>) -> Option<Ours<'a>> {
        let (serial, issuer_name, _) = of_name_and_serial(leaf)?;
        let key = issuer.and_then(of_name_and_serial).map(|(.., key)| key);
        Some(Ours { serial, issuer: issuer_name, key })
    }

    /// Whether the answer is about a certificate of the same issuer, as far as we can tell.
    fn is_issuer(&self, answer: &Answer<'_>) -> bool {
        let Some(hash) = answer.hash else { return true };
        let is = |bytes: &[u8], told: &[u8]| digest::digest(hash, bytes).as_ref() == told;
        is(self.issuer, answer.issuer_name) && self.key.is_none_or(|key| is(key, answer.issuer_key))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotDer => f.write_str("not an OCSP response in DER"),
            Fault::NoState(status) => write!(f, "an answer without a state (status {status})"),
            Fault::NotBasic => f.write_str("an OCSP response of an unknown type"),
            Fault::Other => f.write_str("for another certificate"),
            Fault::OtherIssuer => f.write_str("for a certificate of another issuer"),
            Fault::Revoked(_) => f.write_str("an answer that the certificate is revoked"),
            Fault::Unknown => f.write_str("an answer that the certificate is unknown"),
        }
    }
}

impl std::error::Error for Fault {}
