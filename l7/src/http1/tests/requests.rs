//! Strictness of request heads: what others have been smuggled past with is refused, each for its own reason.

use super::*;
use BodyLength::{Chunked, Length, None as NoBody};
use RejectReason::*;

/// What a case expects.
enum Want {
    Body(BodyLength),
    Partial,
    Bad(RejectReason),
}
use Want::{Bad, Body, Partial};

/// Whole heads.
const HEADS: &[(&str, &[u8], Want)] = &[
    // Start line.
    ("plain", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("no header at all in 1.0", b"GET / HTTP/1.0\r\n\r\n", Body(NoBody)),
    ("extension method", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("lower-case method is another method", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("method with every tchar", b"!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Bad(ConnectRefused)),
    ("CONNECT with a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(ConnectRefused)),
    ("method of 33 bytes", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n", Bad(MethodTooLong)),
    ("method of 33 bytes, open", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Bad(MethodTooLong)),
    ("no method", b" / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(MethodInvalid)),
    ("method with a colon", b"GE:T / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(MethodInvalid)),
    ("method with a bracket", b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(MethodInvalid)),
    ("method in UTF-8", b"G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(MethodInvalid)),
    ("method with NUL", b"GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(ControlByte)),
    ("tab after the method", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Bad(MethodInvalid)),
    ("two spaces after the method", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("tab before the version", b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("word after the version", b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("no version (0.9)", b"GET /\r\n", Bad(RequestLineMalformed)),
    ("no target", b"GET\r\nHost: a\r\n\r\n", Bad(RequestLineMalformed)),
    ("no target but a version", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetFormInvalid)),
    ("version 2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Bad(VersionUnsupported)),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Bad(TargetFormInvalid)),
    ("version 1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Bad(VersionUnsupported)),
    ("version 0.9 spelled out", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Bad(VersionUnsupported)),
    ("version 9.9, open", b"GET / HTTP/9.9", Bad(VersionUnsupported)),
    ("version 1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("version 01.1", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("version 1,1", b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("version 1.", b"GET / HTTP/1.\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("version in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    ("another protocol", b"GET / ICY/1.1\r\nHost: a\r\n\r\n", Bad(VersionMalformed)),
    // Targets.
    ("query", b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("brackets in a query", b"GET /?a[]=1&b={x|y} HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("stray percent in a query", b"GET /?100% HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("percent in a path", b"GET /%2e%2E HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("stray percent in a path", b"GET /100% HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetPercentInvalid)),
    ("bad hex in a path", b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetPercentInvalid)),
    ("fragment", b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("fragment after a query", b"GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("less-than", b"GET /<script> HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("less-than in a query", b"GET /?<script> HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("quote", b"GET /\" HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("pipe in a path", b"GET /a|b HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("brace in a path", b"GET /{a} HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("backslash in a path", b"GET /..\\a HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("raw UTF-8", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("0xff", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Bad(ControlByte)),
    ("DEL in the target", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Bad(ControlByte)),
    ("relative path", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetFormInvalid)),
    ("query alone", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetFormInvalid)),
    ("asterisk with OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("asterisk with GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetFormInvalid)),
    ("asterisk and more", b"OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetInvalid)),
    ("authority-form without CONNECT", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Bad(TargetFormInvalid)),
    ("absolute-form", b"GET http://b/x HTTP/1.1\r\nHost: b\r\n\r\n", Body(NoBody)),
    ("absolute-form in capitals", b"GET HTTPS://b HTTP/1.1\r\nHost: b\r\n\r\n", Body(NoBody)),
    ("absolute-form with another Host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("absolute-form without Host", b"GET http://b/ HTTP/1.1\r\n\r\n", Bad(HostMissing)),
    ("absolute-form with a bad Host", b"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", Bad(HostInvalid)),
    ("absolute-form without a host", b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", Bad(HostInvalid)),
    ("absolute-form with userinfo", b"GET http://u:p@b/ HTTP/1.1\r\nHost: b\r\n\r\n", Bad(HostInvalid)),
    ("absolute-form with a bad port", b"GET http://b:x/ HTTP/1.1\r\nHost: b\r\n\r\n", Bad(HostInvalid)),
    ("another scheme", b"GET ftp://b/ HTTP/1.1\r\nHost: b\r\n\r\n", Bad(TargetFormInvalid)),
    ("scheme without slashes", b"GET http:b HTTP/1.1\r\nHost: b\r\n\r\n", Bad(TargetFormInvalid)),
    // Line ends.
    ("one empty line first", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Body(NoBody)),
    ("two empty lines first", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(LeadingEmptyLines)),
    ("bare LF first", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(BareLf)),
    ("bare CR first", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(BareCr)),
    ("space first", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Bad(MethodInvalid)),
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", Bad(BareLf)),
    ("bare LF after a header", b"GET / HTTP/1.1\r\nHost: a\n\r\n", Bad(BareLf)),
    ("bare LF for the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", Bad(BareLf)),
    ("bare LF all over", b"GET / HTTP/1.1\nHost: a\n\n", Bad(BareLf)),
    ("bare CR after the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", Bad(BareCr)),
    ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Bad(BareCr)),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Bad(BareCr)),
    ("CR CR LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", Bad(BareCr)),
    ("bare LF in the target", b"GET /\n HTTP/1.1\r\nHost: a\r\n\r\n", Bad(BareLf)),
    ("blank before the first header", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Bad(ObsFold)),
    ("tab before the first header", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", Bad(ObsFold)),
    // Hosts.
    ("no Host in 1.1", b"GET / HTTP/1.1\r\n\r\n", Bad(HostMissing)),
    ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Bad(HostInvalid)),
    ("empty Host in 1.0", b"GET / HTTP/1.0\r\nHost:\r\n\r\n", Bad(HostInvalid)),
    ("Host twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Bad(HostRepeated)),
    ("Host twice, the same", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Bad(HostRepeated)),
    ("Host twice in 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Bad(HostRepeated)),
    ("Host with a port", b"GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n", Body(NoBody)),
    ("Host with an IPv6 address", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Body(NoBody)),
    ("Host with a list", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Bad(HostInvalid)),
    ("Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Bad(HostInvalid)),
    ("Host with userinfo", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Bad(HostInvalid)),
    ("Host with a scheme", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Bad(HostInvalid)),
    ("Host with a large port", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Bad(HostInvalid)),
    ("Host with a port that is none", b"GET / HTTP/1.1\r\nHost: a:80a\r\n\r\n", Bad(HostInvalid)),
    ("Host with an open bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Bad(HostInvalid)),
    ("Host in UTF-8", b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", Bad(HostInvalid)),
    ("Host with a fragment", b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", Bad(HostInvalid)),
    ("Host with a query", b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Bad(HostInvalid)),
    // Transfer-Encoding and the version.
    ("chunked in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Bad(TransferEncodingIn10)),
    ("unknown coding in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: x\r\n\r\n", Bad(TransferEncodingIn10)),
    ("length in 1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nabcde", Body(Length(5))),
    // Not HTTP.
    ("a TLS ClientHello", b"\x16\x03\x01\x02\x00\x01", Bad(ControlByte)),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", Bad(RequestLineMalformed)),
    ("a PROXY line", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Bad(TargetFormInvalid)),
    ("PROXY version 2", b"\r\n\r\n\0\r\nQUIT\n", Bad(LeadingEmptyLines)),
    ("SMB", b"\0\0\0\x85\xffSMB", Bad(ControlByte)),
    ("UTF-8 text", "h\u{e9}".as_bytes(), Bad(MethodInvalid)),
    // Not all there.
    ("nothing", b"", Partial),
    ("one byte", b"G", Partial),
    ("half an empty line", b"\r", Partial),
    ("an empty line", b"\r\n", Partial),
    ("an empty line and a half", b"\r\n\r", Partial),
    ("a method", b"GET ", Partial),
    ("part of a scheme", b"GET htt", Partial),
    ("a target", b"GET /abc", Partial),
    ("part of a version", b"GET / HTTP/1.", Partial),
    ("a request line", b"GET / HTTP/1.1\r\n", Partial),
    ("part of a header", b"GET / HTTP/1.1\r\nHost: a", Partial),
    ("all but the last byte", b"GET / HTTP/1.1\r\nHost: a\r\n\r", Partial),
    // Not all there, and bad already.
    ("open: bad method", b"G\x7f", Bad(ControlByte)),
    ("open: bad target", b"GET \x01", Bad(ControlByte)),
    ("open: NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0", Bad(ControlByte)),
    ("open: folded line", b"GET / HTTP/1.1\r\nHost: a\r\n ", Bad(ObsFold)),
    ("open: bare LF", b"GET / HTTP/1.1\r\nHost: a\n", Bad(BareLf)),
    ("open: empty name", b"GET / HTTP/1.1\r\n:", Bad(FieldNameEmpty)),
    ("open: bad first byte of a name", b"GET / HTTP/1.1\r\n(", Bad(FieldNameInvalid)),
    ("open: second Host", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX", Bad(HostRepeated)),
];

/// Header lines in a POST that is right otherwise.
const LINES: &[(&str, &[u8], Want)] = &[
    // Header syntax.
    ("a header", b"X: y", Body(NoBody)),
    ("no blank after the colon", b"X:y", Body(NoBody)),
    ("tabs around the value", b"X:\t y \t", Body(NoBody)),
    ("empty value", b"X:", Body(NoBody)),
    ("obs-text", b"X: \x80\xff", Body(NoBody)),
    ("tab in a value", b"X: a\tb", Body(NoBody)),
    ("space before the colon", b"X : y", Bad(SpaceBeforeColon)),
    ("tab before the colon", b"X\t: y", Bad(SpaceBeforeColon)),
    ("space before the colon of a length", b"Content-Length : 5", Bad(SpaceBeforeColon)),
    ("space before the colon of an encoding", b"Transfer-Encoding : chunked", Bad(SpaceBeforeColon)),
    ("space in a name", b"X Y: z", Bad(FieldNameInvalid)),
    ("no name", b": y", Bad(FieldNameEmpty)),
    ("no colon", b"X", Bad(ColonMissing)),
    ("folded line", b"X: a\r\n b", Bad(ObsFold)),
    ("line folded with a tab", b"X: a\r\n\tb", Bad(ObsFold)),
    ("folded encoding", b"Transfer-Encoding:\r\n chunked", Bad(TransferEncodingMalformed)),
    ("line of blanks", b"X: a\r\n \r\nY: b", Bad(ObsFold)),
    ("NUL in a value", b"X: a\0b", Bad(ControlByte)),
    ("NUL in a name", b"X\0: a", Bad(ControlByte)),
    ("backspace in a value", b"X: a\x08", Bad(ControlByte)),
    ("vertical tab in a value", b"X: \x0b", Bad(ControlByte)),
    ("DEL in a value", b"X: \x7f", Bad(ControlByte)),
    ("escape in a long value", b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaa\x1b[31m", Bad(ControlByte)),
    ("UTF-8 in a name", b"\xc3\xa9: a", Bad(FieldNameInvalid)),
    ("slash in a name", b"a/b: c", Bad(FieldNameInvalid)),
    ("quote in a name", b"a\"b: c", Bad(FieldNameInvalid)),
    ("bracket in a name", b"a[b]: c", Bad(FieldNameInvalid)),
    ("second request line", b"GET / HTTP/1.1", Bad(FieldNameInvalid)),
    // Content-Length.
    ("length", b"Content-Length: 5", Body(Length(5))),
    ("length 0", b"Content-Length: 0", Body(Length(0))),
    ("length with zeros", b"Content-Length: 0005", Body(Length(5))),
    ("largest length", b"Content-Length: 18446744073709551615", Body(Length(u64::MAX))),
    ("overflowing length", b"Content-Length: 18446744073709551616", Bad(ContentLengthInvalid)),
    ("long length", b"Content-Length: 99999999999999999999999999999", Bad(ContentLengthInvalid)),
    ("length with plus", b"Content-Length: +5", Bad(ContentLengthInvalid)),
    ("length with minus", b"Content-Length: -5", Bad(ContentLengthInvalid)),
    ("length in hex", b"Content-Length: 0x5", Bad(ContentLengthInvalid)),
    ("length with a point", b"Content-Length: 5.0", Bad(ContentLengthInvalid)),
    ("length with an exponent", b"Content-Length: 1e1", Bad(ContentLengthInvalid)),
    ("length with an underscore", b"Content-Length: 1_0", Bad(ContentLengthInvalid)),
    ("length with a blank inside", b"Content-Length: 5 5", Bad(ContentLengthInvalid)),
    ("length with a letter", b"Content-Length: 5a", Bad(ContentLengthInvalid)),
    ("empty length", b"Content-Length:", Bad(ContentLengthInvalid)),
    ("length in other digits", b"Content-Length: \xd9\xa5", Bad(ContentLengthInvalid)),
    ("list of equal lengths", b"Content-Length: 5, 5", Bad(ContentLengthInvalid)),
    ("list of lengths", b"Content-Length: 5,6", Bad(ContentLengthInvalid)),
    ("length and comma", b"Content-Length: 5,", Bad(ContentLengthInvalid)),
    ("length in quotes", b"Content-Length: \"5\"", Bad(ContentLengthInvalid)),
    ("length twice", b"Content-Length: 5\r\nContent-Length: 5", Bad(ContentLengthRepeated)),
    ("lengths that differ", b"Content-Length: 5\r\ncontent-length: 6", Bad(ContentLengthRepeated)),
    ("second length bad", b"Content-Length: 5\r\nContent-Length: x", Bad(ContentLengthInvalid)),
    ("length under another name", b"Content_Length: 5", Body(NoBody)),
    // Transfer-Encoding.
    ("chunked", b"Transfer-Encoding: chunked", Body(Chunked)),
    ("chunked in capitals", b"TRANSFER-ENCODING: CHUNKED", Body(Chunked)),
    ("chunked with blanks", b"Transfer-Encoding:  \t chunked\t ", Body(Chunked)),
    ("both", b"Transfer-Encoding: chunked\r\nContent-Length: 5", Bad(LengthAndTransferEncoding)),
    (
        "both the other way round",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        Bad(LengthAndTransferEncoding),
    ),
    (
        "both with length 0",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        Bad(LengthAndTransferEncoding),
    ),
    (
        "both with an unknown coding",
        b"Content-Length: 5\r\nTransfer-Encoding: x",
        Bad(LengthAndTransferEncoding),
    ),
    ("gzip", b"Transfer-Encoding: gzip", Bad(TransferEncodingUnknown)),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked", Bad(TransferEncodingUnknown)),
    (
        "gzip and chunked",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        Bad(TransferEncodingUnknown),
    ),
    ("identity", b"Transfer-Encoding: identity", Bad(TransferEncodingUnknown)),
    ("identity, chunked", b"Transfer-Encoding: identity, chunked", Bad(TransferEncodingUnknown)),
    ("chunked, identity", b"Transfer-Encoding: chunked, identity", Bad(ChunkedNotLast)),
    ("chunked, gzip", b"Transfer-Encoding: chunked, gzip", Bad(ChunkedNotLast)),
    ("chunked and gzip", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", Bad(ChunkedNotLast)),
    ("chunked, chunked", b"Transfer-Encoding: chunked, chunked", Bad(ChunkedTwice)),
    ("chunked and chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Bad(ChunkedTwice)),
    ("xchunked", b"Transfer-Encoding: xchunked", Bad(TransferEncodingUnknown)),
    ("chunkedx", b"Transfer-Encoding: chunkedx", Bad(TransferEncodingUnknown)),
    ("chunked with a parameter", b"Transfer-Encoding: chunked;q=1", Bad(TransferEncodingUnknown)),
    ("chunked in quotes", b"Transfer-Encoding: \"chunked\"", Bad(TransferEncodingUnknown)),
    ("chunked in quotes of one", b"Transfer-Encoding: 'chunked'", Bad(TransferEncodingUnknown)),
    ("two words", b"Transfer-Encoding: chunked chunked", Bad(TransferEncodingUnknown)),
    ("a word before", b"Transfer-Encoding: x chunked", Bad(TransferEncodingUnknown)),
    ("vertical tab before chunked", b"Transfer-Encoding: \x0bchunked", Bad(ControlByte)),
    ("NUL after chunked", b"Transfer-Encoding: chunked\0", Bad(ControlByte)),
    ("NBSP before chunked", b"Transfer-Encoding: \xa0chunked", Bad(TransferEncodingUnknown)),
    ("empty encoding", b"Transfer-Encoding:", Bad(TransferEncodingMalformed)),
    ("comma first", b"Transfer-Encoding: , chunked", Bad(TransferEncodingMalformed)),
    ("comma last", b"Transfer-Encoding: chunked,", Bad(TransferEncodingMalformed)),
    ("encoding under another name", b"Transfer_Encoding: chunked", Body(NoBody)),
    (
        "encoding hidden from hops",
        b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
        Body(Chunked),
    ),
    ("length hidden from hops", b"Connection: content-length\r\nContent-Length: 3", Body(Length(3))),
    // Others.
    ("expectation", b"Expect: 100-Continue\r\nContent-Length: 1", Body(Length(1))),
    ("another expectation", b"Expect: 200-ok", Bad(ExpectationUnknown)),
    ("second Host", b"Host: b", Bad(HostRepeated)),
];

#[test]
fn heads() {
    for (name, bytes, want) in HEADS {
        check(name, bytes, want);
    }
}

#[test]
fn lines() {
    for (name, line, want) in LINES {
        for before in [true, false] {
            let other: &[u8] = b"User-Agent: test\r\n";
            let head: &[u8] = b"POST /x HTTP/1.1\r\nHost: a\r\n";
            let bytes = match before {
                true => [head, other, line, b"\r\n\r\nabcde"].concat(),
                false => [head, line, b"\r\n", other, b"\r\nabcde"].concat(),
            };
            check(name, &bytes, want);
        }
    }
}

#[test]
fn there_are_enough_of_them() {
    assert!(HEADS.len() + LINES.len() >= 200);
}

/// Whole, and byte by byte: the verdict is the same, and a bad head is refused no later than at its last byte.
fn check(name: &str, bytes: &[u8], want: &Want) {
    let limits = HttpLimits::default();
    let whole = request_outcome(bytes, &limits);
    match want {
        Body(body) => {
            assert!(matches!(whole, Ok(Some(_))), "{name}: {whole:?}");
            assert_eq!(with_request(bytes, |head| head.body()), *body, "{name}");
        }
        Partial => assert_eq!(whole, Ok(None), "{name}"),
        Bad(reason) => {
            assert_eq!(whole, Err(Reject { status: reason.status(), reason: *reason }), "{name}");
        }
    }
    harness::request(bytes);
}

#[test]
fn every_limit_is_kept_to_the_byte() {
    let limits =
        HttpLimits { head_bytes_max: 64, headers_max: 3, target_bytes_max: 10, ..HttpLimits::default() };
    let reason =
        |bytes: &[u8]| request_outcome(bytes, &limits).map_err(|reject| (reject.status, reject.reason));

    let head =
        |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(n - 32)).into_bytes();
    assert_eq!(head(64).len(), 64);
    assert_eq!(reason(&head(64)), Ok(Some(64)));
    assert_eq!(reason(&head(65)), Err((431, HeadTooLarge)));
    assert_eq!(reason(&head(5000)), Err((431, HeadTooLarge)));
    assert_eq!(reason(&head(65)[..64]), Err((431, HeadTooLarge)));
    assert_eq!(reason(&head(65)[..63]), Ok(None));

    assert_eq!(reason(b"GET /123456789 HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Some(36)));
    assert_eq!(reason(b"GET /1234567890 HTTP/1.1\r\nHost: a\r\n\r\n"), Err((414, TargetTooLong)));
    // Also when the target has no end: before the head limit would say something else.
    assert_eq!(reason(format!("GET /{}", "1".repeat(40)).as_bytes()), Err((414, TargetTooLong)));

    assert_eq!(reason(b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n"), Ok(Some(39)));
    assert_eq!(
        reason(b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"),
        Err((431, TooManyHeaders))
    );

    // Limits beyond the ceilings count as the ceilings.
    let limits = HttpLimits { head_bytes_max: usize::MAX, headers_max: usize::MAX, ..HttpLimits::default() };
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS));
    let judged = request_outcome(many.as_bytes(), &limits).map_err(|reject| reject.reason);
    assert_eq!(judged, Err(TooManyHeaders));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    let judged = request_outcome(long.as_bytes(), &limits).map_err(|reject| reject.reason);
    assert_eq!(judged, Err(HeadTooLarge));
}

#[test]
fn connection_options_are_bounded() {
    let head = |n: usize| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", vec!["x"; n].join(",")).into_bytes()
    };
    let limits = HttpLimits::default();
    assert!(request_outcome(&head(32), &limits).is_ok());
    let judged = request_outcome(&head(33), &limits).map_err(|reject| reject.reason);
    assert_eq!(judged, Err(TooManyConnectionOptions));
}

#[test]
fn reasons_have_names_of_their_own_and_statuses_that_refuse() {
    let mut names: Vec<_> = RejectReason::ALL.iter().map(|reason| reason.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RejectReason::ALL.len());
    assert!(RejectReason::ALL.iter().all(|reason| (400..600).contains(&reason.status())));
}
