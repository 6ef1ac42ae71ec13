//! Certificates that are trusted to sign others: of a file, or of the system. For control threads: it reads files.

use std::path::Path;

use l7::tls::origin::Roots;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// One sentence with the mend.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = file.display();
    let text = std::fs::read(file).map_err(|e| format!("cannot read {name}: {e}"))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|e| format!("{name} is no PEM file: {e}"))?;
    if all.is_empty() {
        return Err(format!(
            "{name} has no certificate; name a PEM file with one (-----BEGIN CERTIFICATE-----)"
        ));
    }
    Ok(all)
}

/// The roots of a PEM file.
///
/// # Errors
/// One sentence with the mend.
pub fn of_file(file: &Path) -> Result<Roots, String> {
    Roots::new(&certificates(file)?, true).map_err(|e| format!("{}: {e}", file.display()))
}

/// The roots of the system: `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set, else where it has them.
///
/// # Errors
/// There is none: why, without the mend.
pub fn of_system() -> Result<Roots, String> {
    let found = rustls_native_certs::load_native_certs();
    Roots::new(&found.certs, false).map_err(|_| {
        let why = found.errors.first().map_or(String::new(), |e| format!(" ({e})"));
        format!("the system has no trusted root certificates{}", why.replace("; ", ", ").replace('\n', " "))
    })
}
