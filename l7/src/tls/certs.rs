//! Who a client is by its certificate, which was verified: what rules, logs and origins may want to know of it.
//!
//! A reader of DER (X.690) for what is looked at, and no more: it takes no certificate that webpki would refuse for its
//! form, and where it finds something else than expected there is no identity.

use std::fmt::Write;
use std::net::IpAddr;

use aws_lc_rs::digest;

/// Bytes of a subject or issuer as text: who has a longer one has no identity. And of the alternative names that are kept, in
/// all.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Alternative names that are kept.
pub const NAMES_MAX: usize = 64;

/// What a certificate says about its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The subject's distinguished name as RFC 4514 writes it: `CN=somebody,O=Example`, the innermost part first. Printable
    /// ASCII: all else is escaped by its bytes in UTF-8, as `openssl x509 -nameopt RFC2253` does.
    pub subject: String,
    /// The innermost common name.
    pub common_name: Option<String>,
    /// The issuer's name, likewise.
    pub issuer: String,
    /// The serial number in hexadecimal digits, two a byte.
    pub serial: String,
    /// Subject alternative names (RFC 5280, 4.2.1.6) of the kinds that clients have: the first [`NAMES_MAX`], as
    /// far as [`TEXT_BYTES_MAX`] have room for them.
    pub names: Vec<Name>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Of a host.
    Dns(String),
    /// A mailbox.
    Email(String),
    /// Such as SPIFFE's.
    Uri(String),
    /// An address.
    Ip(IpAddr),
}

impl Name {
    /// What it takes beside itself.
    fn text_bytes(&self) -> usize {
        match self {
            Name::Dns(text) | Name::Email(text) | Name::Uri(text) => text.len(),
            Name::Ip(_) => 0,
        }
    }
}

impl Identity {
    /// That of the owner of `certificate`, in DER.
    pub fn of(certificate: &[u8]) -> Option<Identity> {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        let mut tbs = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
        let (mut tag, mut value) = tbs.next()?;
        if tag == VERSION {
            (tag, value) = tbs.next()?;
        }
        if tag != INTEGER {
            return None;
        }
        // A zero in front only says that the number is positive.
        let serial = hex(value.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(value));
        tbs.expect(SEQUENCE)?; // The signature's algorithm.
        let issuer = distinguished_name(tbs.expect(SEQUENCE)?)?.0;
        tbs.expect(SEQUENCE)?; // Validity.
        let (subject, common_name) = distinguished_name(tbs.expect(SEQUENCE)?)?;
        if subject.len().max(issuer.len()).max(serial.len()) > TEXT_BYTES_MAX {
            return None;
        }
        tbs.expect(SEQUENCE)?; // The key.
        let mut names = Vec::new();
        while !tbs.0.is_empty() {
            let (tag, value) = tbs.next()?;
            if tag == EXTENSIONS {
                names = alternative_names(value)?;
            }
        }
        Some(Identity { subject, common_name, issuer, serial, names, fingerprint })
    }

    /// The fingerprint in hexadecimal digits.
    pub fn fingerprint_hex(&self) -> [u8; 64] {
        let mut text = [0; 64];
        for (digits, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.fingerprint) {
            *digits = [byte >> 4, byte & 15].map(|n| b"0123456789abcdef"[usize::from(n)]);
        }
        text
    }
}

/// The last second that a certificate is good, counted from 1970 on; 0 if that was before.
pub fn not_after_s(certificate: &[u8]) -> Option<u64> {
    let mut tbs = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    if tbs.next()?.0 == VERSION {
        tbs.expect(INTEGER)?;
    }
    tbs.expect(SEQUENCE)?; // The signature's algorithm.
    tbs.expect(SEQUENCE)?; // The issuer.
    let mut validity = Der(tbs.expect(SEQUENCE)?);
    validity.next()?;
    let (tag, value) = validity.next()?;
    time_s(tag, value)
}

/// Of a certificate: its serial number, its issuer's name in DER, and the bits of its own key. RFC 6960 tells certificates
/// apart by these.
pub(super) fn of_name_and_serial(certificate: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut tbs = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    let (mut tag, mut serial) = tbs.next()?;
    if tag == VERSION {
        (tag, serial) = tbs.next()?;
    }
    if tag != INTEGER {
        return None;
    }
    tbs.expect(SEQUENCE)?; // The signature's algorithm.
    let from_issuer = tbs.0;
    tbs.expect(SEQUENCE)?;
    let issuer = from_issuer.get(..from_issuer.len() - tbs.0.len())?;
    tbs.expect(SEQUENCE)?; // Validity.
    tbs.expect(SEQUENCE)?; // The subject.
    let mut key = Der(tbs.expect(SEQUENCE)?);
    key.expect(SEQUENCE)?; // Its algorithm.
    let (_, bits) = key.expect(BIT_STRING)?.split_first()?;
    Some((serial, issuer, bits))
}

/// RFC 5280, 4.1.2.5: always in UTC, and with seconds.
pub(super) fn time_s(tag: u8, value: &[u8]) -> Option<u64> {
    let two = |digits: &[u8; 2]| {
        let [tens, ones] = digits.map(|digit| digit.wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| u64::from(tens * 10 + ones))
    };
    let (pairs, b"Z") = value.as_chunks::<2>() else { return None };
    let (year, rest) = match (tag, pairs) {
        (UTC_TIME, [year, rest @ ..]) => {
            let year = two(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, [century, year, rest @ ..]) => (two(century)? * 100 + two(year)?, rest),
        _ => return None,
    };
    let [month, day, hour, minute, second] = rest else { return None };
    let (month, day) = (two(month)?, two(day)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days of years that begin in March: the odd day is the last then.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    const BEFORE_1970: u64 = 719_468;
    let seconds = two(hour)? * 3600 + two(minute)? * 60 + two(second)?;
    Some(days.checked_sub(BEFORE_1970).map_or(0, |days| days * 86_400 + seconds))
}

// Tags.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
pub(super) const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// `subjectAltName`.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// Types of attributes that have a short name (RFC 4514, 3; the rest as OpenSSL has it).
const ATTRIBUTES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// The name as text, and the innermost common name.
fn distinguished_name(name: &[u8]) -> Option<(String, Option<String>)> {
    let (mut parts, mut common_name) = (Vec::new(), None);
    let mut sets = Der(name);
    while !sets.0.is_empty() {
        let mut attributes = Der(sets.expect(SET)?);
        let mut part = String::new();
        while !attributes.0.is_empty() {
            let mut attribute = Der(attributes.expect(SEQUENCE)?);
            let kind = attribute.expect(OID)?;
            let (tag, value) = attribute.next()?;
            let value = text(tag, value);
            if !part.is_empty() {
                part.push('+');
            }
            match ATTRIBUTES.iter().find(|(oid, _)| *oid == kind) {
                Some((_, short)) => part.push_str(short),
                None => dotted(kind, &mut part)?,
            }
            part.push('=');
            escape(&value, &mut part);
            if kind == COMMON_NAME {
                common_name = Some(value);
            }
        }
        parts.push(part);
    }
    parts.reverse();
    Some((parts.join(","), common_name))
}

/// A string of any type; what is no text is replaced.
fn text(tag: u8, value: &[u8]) -> String {
    if tag == BMP_STRING {
        let units = value.as_chunks().0.iter().map(|unit| u16::from_be_bytes(*unit));
        return char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    }
    String::from_utf8_lossy(value).into_owned()
}

/// RFC 4514, 2.4. What is no printable ASCII is escaped too: the text may get into logs and heads.
fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => out.extend(['\\', c]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            c if !c.is_ascii() || c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            c => out.push(c),
        }
    }
}

/// An object identifier in digits and dots.
fn dotted(oid: &[u8], out: &mut String) -> Option<()> {
    let mut arc = 0u64;
    let mut is_first = true;
    for byte in oid {
        arc = arc.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            let top = (arc / 40).min(2);
            let _ = write!(out, "{top}.{}", arc - top * 40);
        } else {
            let _ = write!(out, ".{arc}");
        }
        (arc, is_first) = (0, false);
    }
    Some(())
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<Name>> {
    let (mut names, mut room) = (Vec::new(), TEXT_BYTES_MAX);
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.expect(SEQUENCE)?);
        if extension.expect(OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        let (mut tag, mut value) = extension.next()?;
        if tag != OCTET_STRING {
            (tag, value) = extension.next()?; // Whether it is critical came first.
        }
        if tag != OCTET_STRING {
            return None;
        }
        let mut list = Der(Der(value).expect(SEQUENCE)?);
        while !list.0.is_empty() {
            let (tag, value) = list.next()?;
            let string = || String::from_utf8_lossy(value).into_owned();
            let name = match (tag, value.len()) {
                (0x81, _) => Name::Email(string()),
                (0x82, _) => Name::Dns(string()),
                (0x86, _) => Name::Uri(string()),
                (0x87, 4) => Name::Ip(<[u8; 4]>::try_from(value).ok()?.into()),
                (0x87, 16) => Name::Ip(<[u8; 16]>::try_from(value).ok()?.into()),
                _ => continue,
            };
            let left = room.checked_sub(name.text_bytes()).filter(|_| names.len() < NAMES_MAX);
            let Some(left) = left else { break };
            room = left;
            names.push(name);
        }
    }
    Some(names)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What is left to be read.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag and the contents of the next value.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, len], rest) = self.0.split_first_chunk()?;
        if tag & 0x1f == 0x1f {
            return None; // Longer tags are in no certificate.
        }
        let (len, rest) = match len {
            0..=0x7f => (usize::from(len), rest),
            0x80 => return None, // Without a length: that is BER.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(len & 0x7f))?;
                (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The contents of the next value, which must be of this kind.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, value) = self.next()?;
        (found == tag).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn made(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        edit(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn what_a_certificate_says() {
        let der = made(|params| {
            params.serial_number = Some(rcgen::SerialNumber::from(vec![0x12, 0xab]));
            let name = &mut params.distinguished_name;
            name.push(DnType::CountryName, "NZ");
            name.push(DnType::OrganizationName, "Some, Body \"Ltd\"");
            name.push(DnType::CustomDnType(vec![1, 2, 840, 5]), " x ");
            name.push(DnType::CommonName, DnValue::Utf8String("Zoë\n#1".into()));
            params.subject_alt_names = vec![
                SanType::DnsName("a.test".try_into().unwrap()),
                SanType::Rfc822Name("zoe@a.test".try_into().unwrap()),
                SanType::URI("spiffe://a.test/zoe".try_into().unwrap()),
                SanType::IpAddress("192.0.2.1".parse().unwrap()),
                SanType::IpAddress("2001:db8::1".parse().unwrap()),
            ];
        });
        let identity = Identity::of(&der).unwrap();
        assert_eq!(identity.subject, "CN=Zo\\C3\\AB\\0A#1,1.2.840.5=\\ x\\ ,O=Some\\, Body \\\"Ltd\\\",C=NZ");
        assert_eq!(identity.issuer, identity.subject);
        assert_eq!(identity.common_name.as_deref(), Some("Zoë\n#1"));
        assert_eq!(identity.serial, "12ab");
        let names = [
            Name::Dns("a.test".into()),
            Name::Email("zoe@a.test".into()),
            Name::Uri("spiffe://a.test/zoe".into()),
            Name::Ip("192.0.2.1".parse().unwrap()),
            Name::Ip("2001:db8::1".parse().unwrap()),
        ];
        assert_eq!(identity.names, names);
        let fingerprint = hex(digest::digest(&digest::SHA256, &der).as_ref());
        assert_eq!(identity.fingerprint_hex(), *fingerprint.as_bytes());
    }

    #[test]
    fn what_is_too_long_for_a_header_is_nobody() {
        let long =
            |n: usize| made(|params| params.distinguished_name.push(DnType::CommonName, "x".repeat(n)));
        assert!(Identity::of(&long(TEXT_BYTES_MAX - 3)).is_some());
        assert_eq!(Identity::of(&long(TEXT_BYTES_MAX - 2)), None);
        let names = made(|params| {
            let name = |n: usize| SanType::DnsName(format!("{n}.test").try_into().unwrap());
            params.subject_alt_names = (0..NAMES_MAX + 10).map(name).collect();
        });
        assert_eq!(Identity::of(&names).unwrap().names.len(), NAMES_MAX);
    }

    #[test]
    fn of_long_names_so_many_are_kept_as_have_room() {
        let uri = |n: usize| SanType::URI("u".repeat(n).try_into().unwrap());
        let kept = |lengths: &[usize]| {
            let der = made(|params| {
                params.subject_alt_names = lengths.iter().map(|n| uri(*n)).collect();
                params.subject_alt_names.push(SanType::IpAddress("192.0.2.1".parse().unwrap()));
            });
            Identity::of(&der).unwrap().names.len()
        };
        assert_eq!(kept(&[1000, TEXT_BYTES_MAX - 1000]), 3);
        assert_eq!(kept(&[1000, TEXT_BYTES_MAX - 999, 1]), 1, "the first ones: none behind what is left out");
        assert_eq!((kept(&[60_000]), kept(&[1000; NAMES_MAX - 1])), (0, 2));
    }

    #[test]
    fn a_serial_number_that_begins_with_a_high_bit() {
        let serial = |bytes: &[u8]| {
            let der = made(|p| p.serial_number = Some(rcgen::SerialNumber::from(bytes.to_vec())));
            Identity::of(&der).unwrap().serial
        };
        assert_eq!((serial(&[0xfe, 1]), serial(&[1])), ("fe01".into(), "01".into()));
    }

    #[test]
    fn nobody_is_an_identity_too() {
        let identity = Identity::of(&made(|_| {})).unwrap();
        assert_eq!((identity.subject.as_str(), &identity.common_name, identity.names.len()), ("", &None, 0));
    }

    #[test]
    fn until_when_a_certificate_is_good() {
        let until = |y, m, d| {
            let end = rcgen::date_time_ymd(y, m, d);
            (not_after_s(&made(|params| params.not_after = end)), end.unix_timestamp() as u64)
        };
        for (y, m, d) in [
            (1970, 1, 1),
            (1999, 12, 31),
            (2000, 2, 29),
            (2024, 2, 29),
            (2024, 3, 1),
            (2027, 8, 15),
            (2049, 12, 31),
            (2050, 1, 1),
            (2100, 2, 28),
            (2100, 3, 1),
            (4096, 1, 1),
            (9999, 12, 31),
        ] {
            let (read, is) = until(y, m, d);
            assert_eq!(read, Some(is), "{y}-{m}-{d}");
        }
        assert_eq!(time_s(GENERALIZED_TIME, b"99991231235959Z"), Some(253_402_300_799));
        assert_eq!(time_s(GENERALIZED_TIME, b"00000101000000Z"), None);
        assert_eq!(time_s(UTC_TIME, b"500101000000Z"), Some(0));
        for wrong in
            ["", "Z", "300101000000", "3001010000Z", "301301000000Z", "30010100000aZ", "300101000000+0100"]
        {
            assert_eq!(time_s(UTC_TIME, wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(time_s(0x16, b"300101000000Z"), None);
    }

    #[test]
    fn what_is_cut_or_changed_is_read_without_harm() {
        let der = made(|params| params.distinguished_name.push(DnType::CommonName, "somebody"));
        for at in 0..der.len() {
            assert_eq!((Identity::of(&der[..at]), not_after_s(&der[..at])), (None, None));
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[at] ^= 1 << bit;
                let _ = (Identity::of(&changed), not_after_s(&changed));
            }
        }
    }
}
