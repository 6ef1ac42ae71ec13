//! The config file: TOML in, a [`Config`] that cannot be wrong out, or a [`Report`] of everything that is wrong.
//!
//! ```text
//! file ─► toml's spanned tree ─► reader (which keys, which types) ─► build (what they mean) ─► Config
//!                 └─ syntax errors ──────┴── type, unit, unknown key ──────┴── contradictions ─► Report
//! ```
//!
//! docs/config.md describes every key; a test holds it against the keys that the reader asks for.

mod build;
mod machine;
mod model;
pub mod names;
pub(crate) mod reader;
mod report;
pub mod units;

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use toml::de::DeTable;

pub use machine::Machine;
pub use model::*;
pub use report::{Error, Report, Warnings, json};

/// A node with less memory than this has no room for useful pools.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// The same for what one core of several gets of it.
pub const CORE_MEMORY_BYTES_MIN: u64 = 32 << 20;
/// IPv6 needs 1280 (RFC 8200, section 5); 9216 is the largest that common switches carry.
pub const MTU: RangeInclusive<u64> = 1280..=9216;
/// A head has to fit the buffers of one request.
pub const HEAD_BYTES: RangeInclusive<u64> = (1 << 10)..=(64 << 10);
/// Flow indices are 24 bits wide at most.
pub const CONNECTIONS_MAX: u32 = 1 << 24;
/// Origins of a site or route: a set of them is one word.
pub const ORIGINS_MAX: usize = 64;
/// Routes of a site.
pub const ROUTES_MAX: usize = 1024;
/// The largest weight of an origin.
pub const WEIGHT_MAX: u16 = 256;
/// Error pages are kept in memory, and sent in one go.
pub const ERROR_PAGE_BYTES_MAX: u64 = 64 << 10;
/// A cache of less would hold nothing.
pub const CACHE_BYTES_MIN: u64 = 8 << 20;
/// What the pools need beside the cache.
pub const POOLS_BYTES_MIN: u64 = 32 << 20;
/// What to do about a file that is there, but not for us.
const NOT_OURS: &str = "run as its owner, or change its mode";
/// Nobody writes a larger config by hand, and a wrong path (a disk image, say) should not fill the memory.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A good config file.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What its operator should know all the same, in the file's order.
    pub warnings: Warnings,
}

/// Reads and checks a config file for this machine.
pub fn load(file: &Path, machine: &Machine) -> Result<Loaded, Report> {
    let (config, warnings) = judged(file, &text_of(file)?, machine)?;
    Ok(Loaded { config, warnings: Warnings::new(file, warnings) })
}

/// The text of a TOML file of ours.
pub(crate) fn text_of(file: &Path) -> Result<String, Report> {
    let bytes = read(file).map_err(|error| unreadable(file, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let cause = format!("the file is larger than {}", units::show_size(FILE_BYTES_MAX));
        return Err(Report::unreadable(file, cause, "check the path"));
    }
    match String::from_utf8(bytes) {
        Ok(source) => Ok(source),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let source = String::from_utf8_lossy(&error.as_bytes()[..good]);
            let (line, column) = report::position(&source, good);
            let error = Error {
                line,
                column,
                key: String::new(),
                cause: "the file is not UTF-8 from here on".to_string(),
                mend: "save it as UTF-8".to_string(),
                absence: false,
            };
            Err(Report::new(file, &source, vec![error]))
        }
    }
}

/// A key with its chain, in PEM, as ACME stores it in `file`.
///
/// # Errors
/// What is wrong with it.
pub fn stored_certificate(pem: &[u8], file: &Path) -> Result<std::sync::Arc<Certificate>, String> {
    build::stored(pem, file)
}

impl Config {
    /// Reads the certificates anew that ACME has stored; where one can't be used, the site keeps what it has.
    ///
    /// # Errors
    /// What is wrong with the first such one.
    pub fn take_stored_certificates(&mut self) -> Result<(), String> {
        let Some(acme) = &self.acme else { return Ok(()) };
        for site in self.sites.iter_mut().filter(|s| s.tls.acme) {
            let Some(name) = site.acme_names().into_iter().next() else { continue };
            let file = crate::acme::certificate_file(&acme.storage, &name);
            let stored = build::stored_at(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            if !stored.is_empty() {
                site.tls.certificates = stored;
            }
        }
        Ok(())
    }
}

/// Checks the text of a config; `file` is only named in the report.
pub fn parse(file: &Path, source: &str, machine: &Machine) -> Result<Config, Report> {
    judged(file, source, machine).map(|(config, _)| config)
}

fn judged(file: &Path, source: &str, machine: &Machine) -> Result<(Config, Vec<Error>), Report> {
    let folder = file.parent().unwrap_or(Path::new(""));
    judged_with(file, source, |context, entries| build::config(context, entries, machine, folder))
}

/// Checks the text of any TOML file of ours, which `build` makes sense of: all errors, in the way of `check`.
pub(crate) fn parse_with<T>(
    file: &Path,
    source: &str,
    build: impl FnOnce(&reader::Context<'_>, &DeTable<'_>) -> Option<T>,
) -> Result<T, Report> {
    judged_with(file, source, build).map(|(built, _)| built)
}

/// The same, and the warnings.
fn judged_with<T>(
    file: &Path,
    source: &str,
    build: impl FnOnce(&reader::Context<'_>, &DeTable<'_>) -> Option<T>,
) -> Result<(T, Vec<Error>), Report> {
    let (entries, syntax_errors) = DeTable::parse_recoverable(source);
    let context = reader::Context::new(source);
    let built = build(&context, entries.get_ref());
    let (mut errors, warnings) = context.into_errors();
    if !syntax_errors.is_empty() {
        let syntax: Vec<Error> = syntax_errors.iter().map(|error| syntax_error(source, error)).collect();
        // What could be read is judged too, except where the syntax error may be the reason.
        let lines: Vec<&str> = source.lines().collect();
        errors.retain(|e| !e.absence && !syntax.iter().any(|s| in_shadow(&lines, s.line, e.line)));
        errors.extend(syntax);
    }
    match built {
        Some(built) if errors.is_empty() => Ok((built, warnings)),
        _ => Err(Report::new(file, source, errors)),
    }
}

/// Every (table, key) that the reader knows, tables named as in the file: for the docs' test.
pub fn known_keys() -> Vec<(String, &'static str)> {
    let source =
        "[[port]]\nkind = \"tap\"\n[[listener]]\n[[site]]\norigin = {}\ncertificate = {}\n[[site.route]]\n";
    let (entries, _) = DeTable::parse_recoverable(source);
    let context = reader::Context::new(source);
    build::config(
        &context,
        entries.get_ref(),
        &Machine { cores: vec![0], memory_bytes: 1 << 30 },
        Path::new(""),
    );
    context.known()
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(file: &Path, error: &io::Error) -> Report {
    let (cause, mend) = match error.kind() {
        io::ErrorKind::NotFound => ("there is no such file".to_string(), "check the path"),
        io::ErrorKind::IsADirectory => ("this is a directory".to_string(), "name the file in it"),
        io::ErrorKind::PermissionDenied => ("the file may not be read".to_string(), NOT_OURS),
        _ => (format!("the file can't be read ({error})"), "check the path"),
    };
    Report::unreadable(file, cause, mend)
}

/// Whether a syntax error may be the reason for an error of another line: on the same line, or up to the next
/// header when the broken line is a header itself (its keys then seem to belong to some other table).
fn in_shadow(lines: &[&str], syntax_line: usize, line: usize) -> bool {
    let is_header = |line: usize| lines.get(line - 1).is_some_and(|l| l.trim_start().starts_with('['));
    line == syntax_line
        || (line > syntax_line && is_header(syntax_line) && !(syntax_line + 1..=line).any(is_header))
}

fn syntax_error(source: &str, error: &toml::de::Error) -> Error {
    let (line, column) = report::position(source, error.span().map_or(0, |span| span.start));
    let text = source.lines().nth(line - 1).unwrap_or_default();
    let message = error.message().lines().collect::<Vec<_>>().join(", ").replace("; ", ", ");
    let (cause, mend) = if message.contains("duplicate key") {
        (message, "keep one of them".to_string())
    } else if let Some(value) = unquoted(text) {
        // The parser takes `tap` for a slip of `true`: the usual reason is a better one.
        let quoted = report::quote(value);
        (format!("the value {quoted} has no quotation marks"), format!("write {quoted}, with them"))
    } else {
        (message, "mend the line: TOML is key = value, with text in quotation marks".to_string())
    };
    Error { line, column, key: String::new(), cause: format!("not TOML: {cause}"), mend, absence: false }
}

/// The value of a line `key = value` where that is plain text, or a number with a unit, without quotes.
fn unquoted(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let plain = |text: &str, marks: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
    };
    let good = value.parse::<f64>().is_ok() || value == "true" || value == "false";
    (plain(key.trim(), "_-") && plain(value, "._-:/*+%") && !good).then_some(value)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_tls;
