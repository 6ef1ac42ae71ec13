//! What a site or route does with fields, redirects and error pages.

use std::path::Path;

use super::upstream::switch_on;
use super::{files, text};
use crate::config::ERROR_PAGE_BYTES_MAX;
use crate::config::model::*;
use crate::config::names::{self, Direction};
use crate::config::reader::{Entry, Switch, Table, Value};
use crate::config::report::quote;

/// Fields that are set, added or removed: far more than anybody writes, and a bound on the work per message.
const FIELDS_MAX: usize = 1024;

/// `request_headers` or `response_headers`, over those that are inherited.
pub(super) fn header_rules(
    table: &Table<'_, '_>,
    key: &'static str,
    direction: Direction,
    base: &HeaderRules,
) -> HeaderRules {
    let table = table.table(key);
    let set = fields(&table.table("set"), direction, false);
    let add = fields(&table.table("add"), direction, true);
    let remove_value = table.get("remove");
    let mut remove: Vec<NamePattern> = Vec::new();
    for item in remove_value.as_ref().map(|v| v.list_or_string()).unwrap_or_default() {
        let Some(pattern) = text(&item, |t| names::pattern_to_remove(t, direction)) else { continue };
        if remove.contains(&pattern) {
            item.error("this field is listed twice", "keep one of them");
        } else {
            remove.push(pattern);
        }
    }
    if set.len() + add.len() + remove.len() > FIELDS_MAX {
        table.wrong(table.place(), "there are too many fields", format!("keep {FIELDS_MAX} of them"));
    }
    table.finish();
    merged(base, HeaderRules { remove, set, add })
}

/// What is inherited goes first; what the route itself says about a field replaces what was inherited for it.
fn merged(base: &HeaderRules, own: HeaderRules) -> HeaderRules {
    let same = |a: &HeaderField, b: &HeaderField| a.name.eq_ignore_ascii_case(&b.name);
    let removed = |f: &HeaderField| own.remove.iter().any(|p| p.matches(&f.name.to_ascii_lowercase()));
    let replaced = |f: &HeaderField| removed(f) || own.set.iter().any(|o| same(o, f));
    let kept = |fields: &[HeaderField]| -> Vec<HeaderField> {
        fields.iter().filter(|f| !replaced(f)).cloned().collect()
    };
    let mut rules = HeaderRules { remove: base.remove.clone(), set: kept(&base.set), add: kept(&base.add) };
    rules.remove.extend(own.remove.into_iter().filter(|p| !base.remove.contains(p)));
    rules.set.extend(own.set);
    rules.add.extend(own.add);
    rules
}

/// The fields of `set` or `add`.
fn fields(table: &Table<'_, '_>, direction: Direction, several: bool) -> Vec<HeaderField> {
    let mut fields: Vec<HeaderField> = Vec::new();
    for Entry { key, place, value } in table.entries() {
        let name = match names::field_to_write(key, direction) {
            Ok(name) => name,
            Err(wrong) => {
                table.wrong(&place, wrong.cause, wrong.mend);
                continue;
            }
        };
        if fields.iter().any(|f| f.name.eq_ignore_ascii_case(&name)) {
            let cause = format!("the field {} is there twice", quote(key));
            table.wrong(&place, cause, "keep one of them: upper and lower case are the same");
            continue;
        }
        let values = if several { value.one_or_more() } else { vec![value] };
        let values = values.iter().filter_map(|v| text(v, names::value));
        fields.extend(values.map(|value| HeaderField { name: name.clone(), value }));
    }
    table.finish();
    fields
}

/// `redirect`, which replaces an inherited one as a whole; `false` ends it.
pub(super) fn redirect(table: &Table<'_, '_>, base: Option<&Redirect>) -> Option<Redirect> {
    let (switch, table) = table.switch("redirect");
    let https = table.get("https").and_then(|v| v.boolean());
    let host_value = table.get("host");
    let host = host_value.as_ref().and_then(|v| text(v, names::redirect_host));
    let status = table.get("status").and_then(|v| redirect_status(&v));
    if matches!(switch, Switch::On | Switch::Table) && https != Some(true) && host_value.is_none() {
        let mend = "write { https = true }, or a host, as in { host = \"www.example.com\" }";
        table.wrong(table.place(), "the redirect leads nowhere", mend);
    }
    table.finish();
    let said = Redirect { https: https.unwrap_or(false), host, status: status.unwrap_or(308) };
    switch_on(switch, base, said)
}

fn redirect_status(value: &Value<'_, '_>) -> Option<u16> {
    let status = value.integer(100..=599)? as u16;
    if !matches!(status, 301 | 302 | 307 | 308) {
        let mend = "write 308 (or 301) for good, 307 (or 302) for now";
        value.error(format!("{status} is not the status of a redirect"), mend);
        return None;
    }
    Some(status)
}

/// `error_pages`: the files are read now, so that a core never waits for one.
pub(super) fn error_pages(folder: &Path, table: &Table<'_, '_>) -> Vec<ErrorPage> {
    let mut pages: Vec<ErrorPage> = Vec::new();
    for Entry { key, place, value } in table.entries() {
        let statuses = match names::statuses(key) {
            Ok(statuses) if *statuses.start() >= 400 => statuses,
            _ => {
                let cause = format!("{} is not the status of an error", quote(key));
                table.wrong(&place, cause, "write 400 to 599, \"4xx\" or \"5xx\"");
                continue;
            }
        };
        pages.extend(error_page(folder, statuses, &value));
    }
    table.finish();
    // Single statuses before classes: the first that matches is the right one.
    pages.sort_by_key(|p| (p.statuses.end() - p.statuses.start(), *p.statuses.start()));
    pages
}

fn error_page(
    folder: &Path,
    statuses: std::ops::RangeInclusive<u16>,
    value: &Value<'_, '_>,
) -> Option<ErrorPage> {
    let content_type = match Path::new(value.string()?).extension().and_then(|e| e.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("txt") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        _ => {
            let cause = format!("the type of {} is not known", quote(value.string()?));
            value.error(cause, "name a file that ends in .html, .txt or .json");
            return None;
        }
    };
    let mend = "make it smaller: error pages are kept in memory";
    let (file, body) = files::read(folder, value, ERROR_PAGE_BYTES_MAX, mend)?;
    Some(ErrorPage { statuses, file, content_type, body: body.into() })
}
