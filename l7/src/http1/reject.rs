//! Why a message was refused: one reason per cause, so that each can have a counter.

use core::fmt;

/// A refusal: what to answer, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The status to answer the client with. For a response from an origin it is always 502.
    pub status: u16,
    /// The cause.
    pub reason: RejectReason,
}

impl Reject {
    /// The client's message was bad.
    pub(crate) fn request(reason: RejectReason) -> Self {
        Self { status: reason.status(), reason }
    }

    /// The origin's message was bad (RFC 9110 section 15.6.3).
    pub(crate) fn response(reason: RejectReason) -> Self {
        Self { status: 502, reason }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.reason.as_str())
    }
}

impl core::error::Error for Reject {}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $text:literal;)*) => {
        /// One per cause. `as_str` is the counter's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum RejectReason {
            $($(#[$doc])* $name,)*
        }

        impl RejectReason {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [RejectReason] = &[$(RejectReason::$name,)*];

            /// The name under which it is counted.
            pub const fn as_str(self) -> &'static str {
                match self { $(RejectReason::$name => $text,)* }
            }

            /// What a request with this fault is answered with.
            pub const fn status(self) -> u16 {
                match self { $(RejectReason::$name => $status,)* }
            }
        }
    };
}

reasons! {
    /// LF without CR before it. RFC 9112 2.2 lets us accept it; we do not, since others disagree about it.
    BareLf = 400, "bare_lf";
    /// CR without LF after it (RFC 9112 2.2).
    BareCr = 400, "bare_cr";
    /// NUL or another control byte in a head (RFC 9110 5.5).
    ControlByte = 400, "control_byte";
    /// More than one empty line before the start line (RFC 9112 2.2).
    LeadingEmptyLines = 400, "leading_empty_lines";
    /// The head is longer than the limit.
    HeadTooLarge = 431, "head_too_large";
    /// More header lines than the limit.
    TooManyHeaders = 431, "too_many_headers";
    /// A method that is not a token, or none (RFC 9112 3.1).
    MethodInvalid = 400, "method_invalid";
    /// A method longer than the limit (RFC 9112 3).
    MethodTooLong = 501, "method_too_long";
    /// CONNECT: this is no forward proxy.
    ConnectRefused = 501, "connect_refused";
    /// A request line with other than two single spaces, or without a version (RFC 9112 3).
    RequestLineMalformed = 400, "request_line_malformed";
    /// A target longer than the limit (RFC 9112 3).
    TargetTooLong = 414, "target_too_long";
    /// A byte that no request-target may have (RFC 9112 3.2, RFC 3986).
    TargetInvalid = 400, "target_invalid";
    /// `%` without two hex digits in the path (RFC 3986 2.1).
    TargetPercentInvalid = 400, "target_percent_invalid";
    /// A form that does not belong to the method (RFC 9112 3.2), or a scheme other than http(s).
    TargetFormInvalid = 400, "target_form_invalid";
    /// Not `HTTP/` digit `.` digit (RFC 9112 2.3).
    VersionMalformed = 400, "version_malformed";
    /// Neither HTTP/1.0 nor HTTP/1.1 (RFC 9110 15.6.6).
    VersionUnsupported = 505, "version_unsupported";
    /// Not a status line (RFC 9112 4).
    StatusLineMalformed = 400, "status_line_malformed";
    /// A status outside of 100 to 599 (RFC 9110 15).
    StatusInvalid = 400, "status_invalid";
    /// A line folded onto the next, or blanks before the first header (RFC 9112 5.2, 2.2).
    ObsFold = 400, "obs_fold";
    /// A header line without a name.
    FieldNameEmpty = 400, "field_name_empty";
    /// A header name that is not a token (RFC 9110 5.1).
    FieldNameInvalid = 400, "field_name_invalid";
    /// Blanks between a header's name and its colon (RFC 9112 5.1).
    SpaceBeforeColon = 400, "space_before_colon";
    /// A header line without a colon.
    ColonMissing = 400, "colon_missing";
    /// HTTP/1.1 without Host (RFC 9112 3.2).
    HostMissing = 400, "host_missing";
    /// More than one Host (RFC 9112 3.2).
    HostRepeated = 400, "host_repeated";
    /// Not `uri-host [":" port]`, or empty (RFC 9110 7.2, 4.2.1).
    HostInvalid = 400, "host_invalid";
    /// Not a decimal number, or one beyond 64 bits (RFC 9112 6.3).
    ContentLengthInvalid = 400, "content_length_invalid";
    /// More than one, equal or not (RFC 9112 6.3).
    ContentLengthRepeated = 400, "content_length_repeated";
    /// Both framings in one message (RFC 9112 6.1, 6.3).
    LengthAndTransferEncoding = 400, "length_and_transfer_encoding";
    /// Transfer-Encoding in an HTTP/1.0 message (RFC 9112 6.1).
    TransferEncodingIn10 = 400, "transfer_encoding_in_1_0";
    /// An empty list or an empty element.
    TransferEncodingMalformed = 400, "transfer_encoding_malformed";
    /// A coding other than chunked (RFC 9112 6.1).
    TransferEncodingUnknown = 501, "transfer_encoding_unknown";
    /// chunked, and then something else (RFC 9112 6.3).
    ChunkedNotLast = 400, "chunked_not_last";
    /// chunked applied twice (RFC 9112 6.1).
    ChunkedTwice = 400, "chunked_twice";
    /// More Connection options than the limit.
    TooManyConnectionOptions = 400, "too_many_connection_options";
    /// An expectation other than 100-continue (RFC 9110 10.1.1).
    ExpectationUnknown = 417, "expectation_unknown";
    /// A chunk size without digits, or with something that is none (RFC 9112 7.1).
    ChunkSizeInvalid = 400, "chunk_size_invalid";
    /// A chunk size beyond 64 bits (RFC 9112 7.1).
    ChunkSizeOverflow = 400, "chunk_size_overflow";
    /// A chunk extension that does not match the grammar (RFC 9112 7.1.1).
    ChunkExtensionInvalid = 400, "chunk_extension_invalid";
    /// A chunk line longer than the limit.
    ChunkLineTooLong = 400, "chunk_line_too_long";
    /// Much framing for little data.
    ChunkOverhead = 400, "chunk_overhead";
    /// Chunk data that is not followed by CRLF (RFC 9112 7.1).
    ChunkDataUnterminated = 400, "chunk_data_unterminated";
    /// A trailer section longer than the limit.
    TrailersTooLarge = 431, "trailers_too_large";
    /// 101 that nobody asked for (RFC 9110 7.8).
    UpgradeUnasked = 502, "upgrade_unasked";
    /// More interim responses than the limit.
    TooManyInterim = 502, "too_many_interim";
}
