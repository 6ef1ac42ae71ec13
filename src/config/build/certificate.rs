//! Certificates and keys: read from PEM files and judged here, so that what is wrong with one is said with its line and
//! before it is in force.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, RootCertStore, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::files;
use super::ocsp::ocsp;
use crate::config::model::*;
use crate::config::names;
use crate::config::reader::{Table, Value};
use crate::config::report::quote;

/// A chain, a key or an OCSP response: far more than any needs, and no wrong path fills the memory.
pub(super) const FILE_BYTES_MAX: u64 = 256 << 10;
/// Certificates that are trusted: the system's are some 200 KiB.
const ROOTS_BYTES_MAX: u64 = 4 << 20;
/// A handshake carries them all.
const CHAIN_MAX: usize = 10;

/// `certificate = { chain, key, ocsp }`; `None` where something was reported.
pub(super) fn certificate(folder: &Path, table: &Table<'_, '_>, to: ShownTo) -> Option<Arc<Certificate>> {
    let chain_value = table.require("chain", "add the file with the certificate and those of its issuers");
    let key_value = table.require("key", "add the file with the certificate's private key");
    let ocsp_value = table.get("ocsp");
    table.finish();
    let chain = chain_value.as_ref().and_then(|v| chain(folder, v));
    let key = key_value.as_ref().and_then(|v| key(folder, v));
    let ocsp = match &ocsp_value {
        None => None,
        Some(value) => Some(ocsp(folder, value, chain.as_ref().map(|(_, chain)| &chain[..]), to)?),
    };
    let ((chain_file, chain), (key_file, key, signer)) = (chain?, key?);
    fits(&chain, &signer, key_value.as_ref()?)?;
    in_order(&chain, chain_value.as_ref()?)?;
    let key_type = key_type(&signer);
    let leaf = parsed(&chain[0])?;
    let validity = leaf.validity();
    let valid_unix_s = (validity.not_before.timestamp(), validity.not_after.timestamp());
    in_time(&leaf, chain_value.as_ref()?, to);
    let names = names_of(&leaf);
    Some(Arc::new(Certificate { chain_file, key_file, chain, key, key_type, ocsp, names, valid_unix_s }))
}

/// A key with its chain in one file of ours, `file`, whose bytes are these.
///
/// # Errors
/// What is wrong with it, as part of a sentence.
pub(in crate::config) fn stored(bytes: &[u8], file: &Path) -> Result<Arc<Certificate>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let chain = chain.map_err(|e| format!("the chain is damaged ({e})"))?;
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|e| format!("the key is damaged ({e})"))?;
    let signer = any_supported_type(&key).map_err(|e| format!("the key can't be used ({})", clause(&e)))?;
    let leaf = chain.first().and_then(parsed).ok_or("there is no certificate in it")?;
    let certified = CertifiedKey::new(chain.clone(), Arc::clone(&signer));
    certified.keys_match().map_err(|e| format!("the key is not the certificate's ({})", clause(&e)))?;
    let validity = leaf.validity();
    let (valid_unix_s, names) =
        ((validity.not_before.timestamp(), validity.not_after.timestamp()), names_of(&leaf));
    Ok(Arc::new(Certificate {
        chain_file: file.to_owned(),
        key_file: file.to_owned(),
        key: PrivateKey(key),
        key_type: key_type(&signer),
        ocsp: None,
        names,
        valid_unix_s,
        chain,
    }))
}

fn key_type(signer: &Signer) -> KeyType {
    match signer.algorithm() {
        SignatureAlgorithm::ECDSA => KeyType::Ecdsa,
        SignatureAlgorithm::ED25519 => KeyType::Ed25519,
        _ => KeyType::Rsa,
    }
}

/// The certificates of a file of trusted ones.
pub(super) fn roots(folder: &Path, value: &Value<'_, '_>) -> Option<Roots> {
    let (file, bytes) = files::read(folder, value, ROOTS_BYTES_MAX, "name a file with certificates alone")?;
    let certificates = certificates_in(value, &bytes)?;
    let mut store = RootCertStore::empty();
    for (n, certificate) in certificates.iter().enumerate() {
        if let Err(error) = store.add(certificate.clone()) {
            let shown = quote(value.string()?);
            let cause = format!("certificate {} of {shown} can't be trusted ({})", n + 1, clause(&error));
            value.error(cause, "remove it, or have it made anew");
            return None;
        }
    }
    Some(Roots { file, certificates: certificates.into() })
}

fn chain(folder: &Path, value: &Value<'_, '_>) -> Option<(PathBuf, Vec<CertificateDer<'static>>)> {
    let too_large = "name a file with the certificate and its issuers' alone";
    let (file, bytes) = files::read(folder, value, FILE_BYTES_MAX, too_large)?;
    let chain = certificates_in(value, &bytes)?;
    let shown = quote(value.string()?);
    if chain.len() > CHAIN_MAX {
        let cause = format!("{shown} has {} certificates", chain.len());
        value.error(cause, format!("{too_large}: {CHAIN_MAX} at most"));
        return None;
    }
    if let Some(n) = chain.iter().position(|c| parsed(c).is_none()) {
        value.error(format!("certificate {} of {shown} is damaged", n + 1), "get the file again");
        return None;
    }
    Some((file, chain))
}

type Signer = Arc<dyn SigningKey>;

fn key(folder: &Path, value: &Value<'_, '_>) -> Option<(PathBuf, PrivateKey, Signer)> {
    let (file, bytes) = files::read(folder, value, FILE_BYTES_MAX, "name a file with the key alone")?;
    let shown = quote(value.string()?);
    let key = match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => key,
        Err(error) => {
            let has = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
            let (cause, mend) = if has(b"ENCRYPTED") {
                let mend =
                    "store it without: openssl pkey -in FILE -out FILE; and keep others from reading it";
                ("holds a key under a password", mend.replace("; ", ", "))
            } else if !has(b"-----BEGIN ") {
                ("is not PEM", "convert it: openssl pkey -inform der -in FILE -out FILE.pem".to_owned())
            } else if matches!(error, pem::Error::NoItemsFound) {
                ("has no private key in it", "name the file with the key".to_owned())
            } else {
                ("is damaged", "get the file again".to_owned())
            };
            value.error(format!("{shown} {cause}"), mend);
            return None;
        }
    };
    match any_supported_type(&key) {
        Ok(signer) => Some((file, PrivateKey(key), signer)),
        Err(_) => {
            let mend = "use ECDSA with P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519";
            value.error(format!("the key in {shown} is of no known type or size"), mend);
            None
        }
    }
}

/// At least one, or a report.
fn certificates_in(value: &Value<'_, '_>, bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let shown = quote(value.string()?);
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let is_pem = bytes.windows(11).any(|w| w == b"-----BEGIN ");
    let (cause, mend) = match all {
        Ok(all) if !all.is_empty() => return Some(all),
        _ if !is_pem => ("is not PEM", "convert it: openssl x509 -inform der -in FILE -out FILE.pem"),
        Ok(_) => ("has no certificate in it", "name the file with the certificates"),
        Err(_) => ("is damaged", "get the file again"),
    };
    value.error(format!("{shown} {cause}"), mend);
    None
}

/// The key has to be the first certificate's.
fn fits(chain: &[CertificateDer<'static>], signer: &Signer, at: &Value<'_, '_>) -> Option<()> {
    let of =
        |c: &CertificateDer<'static>| CertifiedKey::new(vec![c.clone()], Arc::clone(signer)).keys_match();
    let error = match of(&chain[0]) {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => return Some(()),
        Err(error) => error,
    };
    let shown = quote(at.string()?);
    if !matches!(error, rustls::Error::InconsistentKeys(_)) {
        at.error(format!("the certificate can't be used ({})", clause(&error)), "have it made anew");
    } else if let Some(n) = chain.iter().position(|c| of(c).is_ok()) {
        let cause = format!("the chain is out of order: the key {shown} is that of certificate {}", n + 1);
        at.error(cause, "put the site's own certificate first, then each one's issuer");
    } else {
        at.error(format!("the key {shown} is not the certificate's"), "name the key that it was made with");
    }
    None
}

/// Each certificate has to be issued by the next.
fn in_order(chain: &[CertificateDer<'static>], at: &Value<'_, '_>) -> Option<()> {
    for (n, pair) in chain.windows(2).enumerate() {
        let (certificate, issuer) = (parsed(&pair[0])?, parsed(&pair[1])?);
        if certificate.issuer().as_raw() != issuer.subject().as_raw() {
            let cause = format!(
                "the chain is out of order: certificate {} did not issue certificate {}",
                n + 2,
                n + 1
            );
            at.error(cause, "put each one's issuer behind it, and leave out others");
            return None;
        }
    }
    Some(())
}

/// Says so where nobody would take it now. It is used all the same: the rest of the node's sites should not suffer.
fn in_time(leaf: &X509Certificate<'_>, at: &Value<'_, '_>, to: ShownTo) {
    let now = now_s() as i64;
    let (from, until) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    if until < now {
        let cause = format!("the certificate has expired on {}", day(until));
        at.warn(cause, format!("renew it: {} refuse it", to.text()));
    } else if from > now {
        let cause = format!("the certificate is not good before {}", day(from));
        at.warn(cause, "check this machine's clock, or wait");
    } else if ends_soon_from_s((from, until)) <= now {
        let cause = format!("the certificate expires {}, on {}", ends_in(until - now), day(until));
        at.warn(cause, "renew it");
    }
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The day of a time in seconds since 1970.
pub(crate) fn day(unix_s: i64) -> String {
    match ASN1Time::from_timestamp(unix_s) {
        Ok(time) => time.to_datetime().date().to_string(),
        Err(_) => format!("{unix_s} (in seconds since 1970)"),
    }
}

/// The serial number as `openssl x509 -serial` shows it.
pub(super) fn serial_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let serial = parsed(certificate)?.raw_serial().to_vec();
    let digits = serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(&serial);
    Some(digits.iter().map(|byte| format!("{byte:02X}")).collect())
}

/// Whom it is for: names and addresses (RFC 9525: the subject's common name does not count).
fn names_of(leaf: &X509Certificate<'_>) -> Vec<HostPattern> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => names::host_pattern(name).ok(),
        GeneralName::IPAddress(bytes) => {
            let address = match bytes.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            };
            let text = if address.is_ipv4() { address.to_string() } else { format!("[{address}]") };
            Some(HostPattern::Exact(text))
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Some(parsed),
        _ => None,
    }
}

/// An error as part of a sentence.
fn clause(error: &rustls::Error) -> String {
    error.to_string().replace("; ", ", ").replace('\n', " ")
}
