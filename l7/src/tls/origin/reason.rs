//! Why a handshake with an origin failed: a word for counters and for the eye, and a sentence for the log.

use std::fmt;

use arrayvec::ArrayString;
use dataplane::Ctr;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::verifier::SelfSigned;
use crate::http1::http_date;

/// Longer explanations are cut.
const TEXT_BYTES_MAX: usize = 240;

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The certificate's time is over.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// No root that we trust has signed it, by any way that the origin showed.
    UnknownIssuer,
    /// It has signed itself, and is not among the roots.
    SelfSigned,
    /// It is for other names.
    NameMismatch,
    /// Its issuer has taken it back.
    Revoked,
    /// It cannot be read, or its signature is wrong or of a kind that is not believed, or it is for another purpose.
    BadCertificate,
    /// There is no version, suite, group or protocol that both have.
    NothingInCommon,
    /// The origin ended the handshake with this alert.
    Alert(AlertDescription),
    /// What came is no TLS.
    NotTls,
    /// The origin did not keep to the protocol.
    Protocol,
    /// It closed or reset the connection.
    Closed,
    /// It took too long.
    Timeout,
    /// It is ours: no memory, no room for another handshake, a key that does not sign.
    Ours,
}

impl Reason {
    /// The words that a log line has for it.
    pub const fn words(self) -> &'static str {
        match self {
            Reason::Expired => "certificate expired",
            Reason::NotYetValid => "certificate not yet valid",
            Reason::UnknownIssuer => "unknown issuer",
            Reason::SelfSigned => "self-signed certificate",
            Reason::NameMismatch => "name mismatch",
            Reason::Revoked => "certificate revoked",
            Reason::BadCertificate => "bad certificate",
            Reason::NothingInCommon => "nothing in common",
            Reason::Alert(_) => "alert",
            Reason::NotTls => "not TLS",
            Reason::Protocol => "protocol error",
            Reason::Closed => "connection closed",
            Reason::Timeout => "handshake timeout",
            Reason::Ours => "not possible here",
        }
    }

    /// What counts it.
    pub const fn counter(self) -> Ctr {
        match self {
            Reason::Expired => Ctr::OriginTlsExpired,
            Reason::NotYetValid => Ctr::OriginTlsNotYetValid,
            Reason::UnknownIssuer => Ctr::OriginTlsUnknownIssuer,
            Reason::SelfSigned => Ctr::OriginTlsSelfSigned,
            Reason::NameMismatch => Ctr::OriginTlsNameMismatch,
            Reason::Revoked => Ctr::OriginTlsRevoked,
            Reason::BadCertificate => Ctr::OriginTlsBadCertificate,
            Reason::NothingInCommon => Ctr::OriginTlsNothingInCommon,
            Reason::Alert(_) => Ctr::OriginTlsAlert,
            Reason::NotTls | Reason::Protocol => Ctr::OriginTlsProtocol,
            Reason::Closed => Ctr::OriginTlsClosed,
            Reason::Timeout => Ctr::OriginTlsTimeout,
            Reason::Ours => Ctr::OriginTlsNoRoom,
        }
    }

    /// Whether the origin, or what is configured of it, is to blame.
    pub const fn is_the_origins(self) -> bool {
        !matches!(self, Reason::Ours)
    }
}

/// A handshake that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    text: ArrayString<TEXT_BYTES_MAX>,
}

impl Refusal {
    /// One without more to be said of it.
    pub const fn plain(reason: Reason) -> Refusal {
        Refusal { reason, text: ArrayString::new_const() }
    }

    /// What rustls says of it.
    pub fn of(error: &Error) -> Refusal {
        let reason = reason(error);
        let mut text = Cut(ArrayString::new());
        // Never fails: what does not fit is left out.
        let _ = explain(error, &mut text);
        Refusal { reason, text: text.0 }
    }

    /// The same, where it is not the origin's doing.
    pub fn ours(error: &Error) -> Refusal {
        Refusal { reason: Reason::Ours, ..Refusal::of(error) }
    }

    /// The origin's alert.
    pub fn alert(alert: u8) -> Refusal {
        Refusal::of(&Error::AlertReceived(AlertDescription::from(alert)))
    }
}

impl fmt::Display for Refusal {
    /// `certificate expired (its time was over on Sun, 06 Nov 1994 08:49:37 GMT)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.words())?;
        if let Reason::Alert(alert) = self.reason {
            f.write_str(" ")?;
            alert_name(alert, f)?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " ({})", self.text) }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn reason(error: &Error) -> Reason {
    match error {
        Error::InvalidCertificate(e) => of_certificate(e),
        Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_) => Reason::BadCertificate,
        // A server says by these that it has no version, suite or protocol with us.
        Error::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol,
        )
        | Error::PeerIncompatible(_)
        | Error::NoApplicationProtocol => Reason::NothingInCommon,
        Error::AlertReceived(alert) => Reason::Alert(*alert),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => Reason::NotTls,
        _ => Reason::Protocol,
    }
}

fn of_certificate(e: &CertificateError) -> Reason {
    use CertificateError as E;
    match e {
        E::Expired | E::ExpiredContext { .. } => Reason::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => Reason::NotYetValid,
        E::UnknownIssuer => Reason::UnknownIssuer,
        E::NotValidForName | E::NotValidForNameContext { .. } => Reason::NameMismatch,
        E::Revoked => Reason::Revoked,
        E::Other(other) if other.0.is::<SelfSigned>() => Reason::SelfSigned,
        _ => Reason::BadCertificate,
    }
}

/// What the reason's words leave open.
fn explain(error: &Error, out: &mut impl fmt::Write) -> fmt::Result {
    use CertificateError as E;
    match error {
        Error::InvalidCertificate(e) => match e {
            E::ExpiredContext { not_after, .. } => {
                out.write_str("its time was over on ")?;
                date(*not_after, out)
            }
            E::NotValidYetContext { not_before, .. } => {
                out.write_str("its time begins on ")?;
                date(*not_before, out)
            }
            E::NotValidForNameContext { expected, presented } => {
                write!(out, "it is not for {}, but for ", expected.to_str())?;
                if presented.is_empty() {
                    return out.write_str("no name");
                }
                for (i, name) in presented.iter().enumerate() {
                    write!(out, "{}{}", if i > 0 { ", " } else { "" }, shown(name))?;
                }
                Ok(())
            }
            E::UnknownIssuer => out.write_str("no trusted root has signed it"),
            E::Other(other) if other.0.is::<SelfSigned>() => out.write_str("and none of the trusted roots"),
            E::Expired | E::NotValidYet | E::NotValidForName | E::Revoked => Ok(()),
            other => write!(out, "{other}"),
        },
        Error::General(text) => out.write_str(text),
        Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => {
            out.write_str("it has only a version that is not allowed here")
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => out.write_str("it has neither TLS 1.2 nor 1.3"),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            out.write_str("it has none of our versions of TLS: alert protocol_version")
        }
        Error::AlertReceived(AlertDescription::InsufficientSecurity) => {
            out.write_str("it has none of our suites: alert insufficient_security")
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            out.write_str("it has no http/1.1: alert no_application_protocol")
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            out.write_str("often for want of a common suite, or of a client's certificate")
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            out.write_str("it wants a client's certificate")
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            out.write_str("it does not know the name that it was asked for by")
        }
        Error::AlertReceived(_) => Ok(()),
        other => write!(out, "{other}"),
    }
}

/// A name of a stranger's certificate: nothing in it may end a line or colour a terminal.
fn shown(name: &str) -> impl fmt::Display + '_ {
    name.escape_default()
}

fn date(at: UnixTime, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_str(std::str::from_utf8(&http_date::format(at.as_secs())).unwrap_or_default())
}

/// As the RFCs write it: `handshake_failure`.
fn alert_name(alert: AlertDescription, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(name) = alert.as_str() else { return write!(f, "{}", u8::from(alert)) };
    let mut before = 'A';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            f.write_str("_")?;
        }
        write!(f, "{}", c.to_ascii_lowercase())?;
        before = c;
    }
    Ok(())
}

/// Takes as much as fits.
struct Cut(ArrayString<TEXT_BYTES_MAX>);

impl fmt::Write for Cut {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.floor_char_boundary(s.len().min(self.0.remaining_capacity()));
        self.0.push_str(&s[..n]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::time::Duration;

    #[test]
    fn what_a_person_reads() {
        let day = UnixTime::since_unix_epoch(Duration::from_secs(784_111_777));
        let name = ServerName::try_from("origin.example").expect("a name");
        let certificate = |e: CertificateError| Error::InvalidCertificate(e);
        for (error, reason, says) in [
            (
                certificate(CertificateError::ExpiredContext { time: day, not_after: day }),
                Reason::Expired,
                "certificate expired (its time was over on Sun, 06 Nov 1994 08:49:37 GMT)",
            ),
            (
                certificate(CertificateError::NotValidYetContext { time: day, not_before: day }),
                Reason::NotYetValid,
                "certificate not yet valid (its time begins on Sun, 06 Nov 1994 08:49:37 GMT)",
            ),
            (
                certificate(CertificateError::NotValidForNameContext {
                    expected: name,
                    presented: vec!["a.example".to_owned(), "b\n\x1b[31m".to_owned()],
                }),
                Reason::NameMismatch,
                "name mismatch (it is not for origin.example, but for a.example, b\\n\\u{1b}[31m)",
            ),
            (
                certificate(CertificateError::UnknownIssuer),
                Reason::UnknownIssuer,
                "unknown issuer (no trusted root has signed it)",
            ),
            (
                Error::AlertReceived(AlertDescription::ProtocolVersion),
                Reason::NothingInCommon,
                "nothing in common (it has none of our versions of TLS: alert protocol_version)",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                Reason::Alert(AlertDescription::UnknownCA),
                "alert unknown_ca",
            ),
            (
                Error::AlertReceived(AlertDescription::from(99)),
                Reason::Alert(AlertDescription::from(99)),
                "alert 99",
            ),
        ] {
            let refusal = Refusal::of(&error);
            assert_eq!((refusal.reason, &*refusal.to_string()), (reason, says));
        }
        assert_eq!(Refusal::alert(40).to_string().find("alert handshake_failure"), Some(0));
        assert_eq!(Refusal::plain(Reason::Timeout).to_string(), "handshake timeout");
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let presented = vec!["é".repeat(300); 3];
        let expected = ServerName::try_from("origin.example").expect("a name");
        let e = Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented });
        assert!(Refusal::of(&e).to_string().len() <= TEXT_BYTES_MAX + 20);
    }
}
