//! Alerts: what one side tells the other when it ends, or must (RFC 8446, 6; RFC 5246, 7.2).

use std::fmt;

/// What an alert says: an `AlertDescription`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

macro_rules! alerts {
    ($($id:ident $code:literal $name:literal;)*) => {
        impl Alert {
            $(#[doc = concat!("`", $name, "`")] pub const $id: Alert = Alert($code);)*

            /// The RFC's name, or "unknown".
            pub const fn name(self) -> &'static str {
                match self.0 { $($code => $name,)* _ => "unknown" }
            }
        }
    };
}

alerts! {
    CLOSE_NOTIFY 0 "close_notify";
    UNEXPECTED_MESSAGE 10 "unexpected_message";
    BAD_RECORD_MAC 20 "bad_record_mac";
    RECORD_OVERFLOW 22 "record_overflow";
    HANDSHAKE_FAILURE 40 "handshake_failure";
    BAD_CERTIFICATE 42 "bad_certificate";
    UNSUPPORTED_CERTIFICATE 43 "unsupported_certificate";
    CERTIFICATE_REVOKED 44 "certificate_revoked";
    CERTIFICATE_EXPIRED 45 "certificate_expired";
    CERTIFICATE_UNKNOWN 46 "certificate_unknown";
    ILLEGAL_PARAMETER 47 "illegal_parameter";
    UNKNOWN_CA 48 "unknown_ca";
    ACCESS_DENIED 49 "access_denied";
    DECODE_ERROR 50 "decode_error";
    DECRYPT_ERROR 51 "decrypt_error";
    PROTOCOL_VERSION 70 "protocol_version";
    INSUFFICIENT_SECURITY 71 "insufficient_security";
    INTERNAL_ERROR 80 "internal_error";
    INAPPROPRIATE_FALLBACK 86 "inappropriate_fallback";
    USER_CANCELED 90 "user_canceled";
    NO_RENEGOTIATION 100 "no_renegotiation";
    MISSING_EXTENSION 109 "missing_extension";
    UNSUPPORTED_EXTENSION 110 "unsupported_extension";
    UNRECOGNIZED_NAME 112 "unrecognized_name";
    BAD_CERTIFICATE_STATUS_RESPONSE 113 "bad_certificate_status_response";
    UNKNOWN_PSK_IDENTITY 115 "unknown_psk_identity";
    CERTIFICATE_REQUIRED 116 "certificate_required";
    NO_APPLICATION_PROTOCOL 120 "no_application_protocol";
}

impl Alert {
    /// The level that it is sent with: 1, a warning, for what ends nothing by itself or ends it in good order; else 2, fatal
    /// (RFC 8446, 6.1 and 6.2; RFC 5246, 7.2).
    pub const fn level(self) -> u8 {
        match self {
            Alert::CLOSE_NOTIFY | Alert::USER_CANCELED | Alert::NO_RENEGOTIATION => 1,
            _ => 2,
        }
    }
}

impl From<rustls::AlertDescription> for Alert {
    fn from(alert: rustls::AlertDescription) -> Alert {
        Alert(alert.into())
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alert({}, {})", self.0, self.name())
    }
}
