//! A response of an issuer's OCSP server, from a file: what it says of the certificate that it is to be stapled to. What
//! would keep clients away is an error, what only time makes useless is left out as long as it is, and warned of.

use std::path::Path;

use l7::tls::ocsp::{Fault, Good, read};
use rustls::pki_types::CertificateDer;

use super::certificate::{FILE_BYTES_MAX, day, now_s, serial_of};
use super::files;
use crate::config::model::{Ocsp, ShownTo};
use crate::config::reader::Value;
use crate::config::report::quote;

/// The response for `chain`, as far as that could be read.
pub(super) fn ocsp(
    folder: &Path,
    value: &Value<'_, '_>,
    chain: Option<&[CertificateDer<'static>]>,
    to: ShownTo,
) -> Option<Ocsp> {
    let (file, bytes) = files::read(folder, value, FILE_BYTES_MAX, "name the response alone")?;
    let shown = quote(value.string()?);
    // Without a certificate what it says is of no interest, but whether it is a response at all.
    let leaf = chain.and_then(|chain| chain.first());
    let issuer = chain.and_then(|chain| chain.get(1));
    let judged = read(&bytes, leaf.map_or(&[], |leaf| &leaf[..]), issuer.map(|issuer| &issuer[..]));
    let (cause, mend) = match judged {
        Ok(good) => {
            in_time(good, value, &shown);
            return Some(Ocsp { file, der: bytes.into(), good });
        }
        Err(Fault::Other | Fault::OtherIssuer) if leaf.is_none() => return None,
        Err(Fault::NotDer) => (
            format!("{shown} is not an OCSP response in DER"),
            "write it by openssl ocsp -respout FILE".to_owned(),
        ),
        Err(Fault::NoState(status)) => {
            (format!("{shown} is an answer without a state (status {status})"), "ask again".to_owned())
        }
        Err(fault @ (Fault::NotBasic | Fault::OtherIssuer)) => {
            (format!("{shown} is {fault}"), "ask the OCSP server of the certificate's issuer".to_owned())
        }
        Err(Fault::Other) => {
            let mend = match leaf.and_then(|leaf| serial_of(leaf)) {
                Some(serial) => format!("name the response for the one with the serial number {serial}"),
                None => "name this one's".to_owned(),
            };
            (format!("{shown} is for another certificate"), mend)
        }
        Err(Fault::Revoked(at_s)) => (
            format!("{shown} says that the certificate was revoked on {}", day(at_s as i64)),
            format!("have another one issued, with another key: {} refuse this one", to.text()),
        ),
        Err(Fault::Unknown) => (
            format!("{shown} says that the server does not know the certificate"),
            "ask the OCSP server of its issuer, or wait until that has heard of it".to_owned(),
        ),
    };
    value.error(cause, mend);
    None
}

/// Says so where it is of no use now.
fn in_time(good: Good, at: &Value<'_, '_>, shown: &str) {
    let now_s = now_s();
    if let Some(until_s) = good.until_s.filter(|until_s| *until_s < now_s) {
        let cause = format!("the OCSP response {shown} has expired on {}", day(until_s as i64));
        at.warn(cause, "get a newer one, and reload: as it is it is not sent to clients");
    } else if good.from_s > now_s {
        let cause = format!("the OCSP response {shown} is not good before {}", day(good.from_s as i64));
        at.warn(cause, "check this machine's clock: until then it is not sent to clients");
    }
}
