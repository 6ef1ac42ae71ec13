//! `[acme]`, and the sites whose certificates come from there.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;

use rustix::fs::{Access, access};

use super::certificate::{roots as roots_of, stored};
use super::{At, Reader};
use crate::acme::certificate_file;
use crate::config::model::*;
use crate::config::reader::{Table, Value};
use crate::config::report::quote;
use crate::roots;

/// Who is asked where nothing else is said.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Let's Encrypt's.
const NAMES_MAX: usize = 100;

/// `None` where the table is not there, or something was reported.
pub(super) fn acme(folder: &Path, is_there: bool, table: &Table<'_, '_>) -> Option<Acme> {
    let directory = table.get("directory");
    let contact = table.get("contact").map(|v| v.one_or_more()).unwrap_or_default();
    let accept_terms = table.get("accept_terms");
    let storage = table.get("storage");
    let ca = table.get("ca");
    let kinds = [("http-01", ChallengeKind::Http01), ("tls-alpn-01", ChallengeKind::TlsAlpn01)];
    let challenge = table.get("challenge").map(|v| v.choice(&kinds));
    table.finish();
    if !is_there {
        return None;
    }
    let directory = match &directory {
        None => Some(LETS_ENCRYPT),
        Some(value) => value.string().filter(|url| {
            let good = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty()) && url.is_ascii();
            if !good {
                let cause = format!("{} is not the URL of an ACME server", quote(url));
                value.error(cause, "write that of its directory, which begins with https://");
            }
            good
        }),
    };
    let contacts = contact.iter().filter_map(|value| {
        let text = value.string()?;
        if !text.starts_with("mailto:") || !text.contains('@') {
            value.error(
                format!("{} is not a contact", quote(text)),
                "write it as in \"mailto:you@example.com\"",
            );
        }
        Some(text.to_owned())
    });
    let contact = contacts.collect();
    let accepted = accept_terms.as_ref().and_then(|v| v.boolean());
    if accepted != Some(true) {
        let mend = "read them, and write accept_terms = true";
        let cause = "a certificate by ACME needs your consent to the server's terms of service";
        table.wrong(accept_terms.as_ref().map_or(table.place(), |v| &v.place), cause, mend);
    }
    let Some(storage) = storage else {
        let cause = "[acme] has no \"storage\"";
        table.wrong(table.place(), cause, "add a folder, as in storage = \"/var/lib/millrace/acme\"");
        return None;
    };
    let given = storage.string()?.trim_end_matches('/');
    if given.is_empty() || given.contains('\0') {
        storage.error(
            format!("{} is not a folder's path", quote(given)),
            "write one, as in \"/var/lib/millrace/acme\"",
        );
        return None;
    }
    let folder_of = folder.join(given);
    if let Some(why) = not_writable(&folder_of) {
        let cause = format!("the storage {} {why}", quote(given));
        storage.error(cause, "name one that the node may make and write to");
    }
    let roots = match ca {
        None => {
            if let Err(cause) = roots::of_system() {
                let mend = "install ca-certificates, or name a \"ca\": no ACME server can be asked";
                table.warn(table.place(), cause, mend);
            }
            None
        }
        Some(value) => Some(roots_of(folder, &value)?),
    };
    Some(Acme {
        directory: directory?.to_owned(),
        contact,
        storage: folder_of,
        roots,
        challenge: challenge.unwrap_or(Some(ChallengeKind::Http01))?,
    })
}

/// Why nothing could be stored in a folder, if so: a certificate would be ordered that cannot be kept. One that is not there
/// would be made.
fn not_writable(storage: &Path) -> Option<String> {
    let failed = |error: &io::Error| error.to_string().replace("; ", ", ");
    let mut at = storage;
    loop {
        let there = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match there.metadata() {
            Ok(found) if !found.is_dir() => return Some("is not a folder".to_owned()),
            Ok(_) => {
                let error = io::Error::from(access(there, Access::WRITE_OK | Access::EXEC_OK).err()?);
                let what = if at == storage { "written to" } else { "made" };
                return Some(format!("can't be {what} ({})", failed(&error)));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => at = at.parent()?,
            Err(error) => return Some(format!("can't be made ({})", failed(&error))),
        }
    }
}

impl Reader<'_, '_> {
    /// What is stored for a site with `certificate = "acme"`.
    pub(super) fn by_acme(&self, value: &Value<'_, '_>, hosts: &[At<HostPattern>]) -> SiteTls {
        let none = SiteTls { acme: true, ..SiteTls::default() };
        for host in hosts {
            let shown = quote(&host.value.to_string());
            match &host.value {
                HostPattern::Wildcard(_) => {
                    let cause =
                        format!("ACME gives no certificate for {shown} by the challenges of this node");
                    self.context.report(
                        &host.place,
                        cause,
                        "list the names, or get the certificate elsewhere",
                    );
                }
                HostPattern::Exact(name) if name.starts_with('[') || name.parse::<IpAddr>().is_ok() => {
                    let cause = format!("ACME gives no certificate for the address {shown}");
                    self.context.report(&host.place, cause, "give it a site of its own");
                }
                _ => {}
            }
        }
        let names: Vec<&HostPattern> =
            hosts.iter().map(|h| &h.value).filter(|h| **h != HostPattern::Default).collect();
        if names.len() > NAMES_MAX {
            value.error(
                format!("one certificate for {} names is too much", names.len()),
                "spread them over sites",
            );
        }
        if !self.acme_there {
            value.error("there is no [acme]", "add it, with accept_terms = true and a storage");
        }
        let Some(HostPattern::Exact(first)) = names.first() else {
            if !hosts.is_empty() && names.is_empty() {
                value.error("a certificate by ACME needs a name", "list the site's hosts");
            }
            return none;
        };
        let Some(acme) = &self.acme else { return none };
        match stored_at(&certificate_file(&acme.storage, first)) {
            Ok(certificates) => SiteTls { certificates, acme: true, client_auth: None },
            Err(cause) => {
                value.warn(format!("the stored certificate can't be used: {cause}"), "it is ordered anew");
                none
            }
        }
    }

    /// The challenge has to reach a listener.
    pub(super) fn between_acme(&self, table: &Table<'_, '_>) {
        let Some(acme) = &self.acme else { return };
        let (reaches, key, usual) = match acme.challenge {
            ChallengeKind::Http01 => (self.listeners.iter().any(|l| l.http.is_some()), "http", 80),
            ChallengeKind::TlsAlpn01 => (self.listeners.iter().any(|l| l.https.is_some()), "https", 443),
        };
        if !reaches && !self.listeners.is_empty() {
            let kind = acme.challenge.text();
            let cause = format!("the challenge {kind} needs a [[listener]] with \"{key}\"");
            table.wrong(
                table.place(),
                cause,
                format!("add it, as in {key} = {usual}, or choose the other challenge"),
            );
        }
    }
}

/// The certificate of a file of ours; none is fine.
///
/// # Errors
/// What is wrong with it.
pub(in crate::config) fn stored_at(file: &Path) -> Result<Vec<std::sync::Arc<Certificate>>, String> {
    match fs::read(file) {
        Ok(bytes) => stored(&bytes, file).map(|c| vec![c]),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e.to_string().replace("; ", ", ")),
    }
}
