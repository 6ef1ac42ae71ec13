//! A reader over TOML's spanned tree that never stops at the first error.
//!
//! The caller asks a [`Table`] for each key that it knows. What was asked for is what is known: at
//! [`Table::finish`] every key that nobody asked for is an error, with the nearest known key as a suggestion.
//! So there is no second list of keys that could fall out of step, and the same record lets a test compare the
//! reader with docs/config.md.
//!
//! Every accessor answers `None` after it has reported why; the caller carries on with the next key.

mod value;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Error, position, quote};

pub use value::Value;

/// The file being read: its text, the errors so far, the keys that were asked for.
pub struct Context<'s> {
    source: &'s str,
    errors: RefCell<Vec<Error>>,
    warnings: RefCell<Vec<Error>>,
    known: RefCell<BTreeSet<(String, &'static str)>>,
}

impl<'s> Context<'s> {
    /// A context without errors.
    pub fn new(source: &'s str) -> Context<'s> {
        Context {
            source,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// Reports something at a place of the file.
    pub fn report(&self, at: &Place, cause: impl Into<String>, mend: impl Into<String>) {
        self.push(at, cause.into(), mend.into(), false);
    }

    /// Tells of something that keeps nothing from running.
    pub fn warn(&self, at: &Place, cause: impl Into<String>, mend: impl Into<String>) {
        let warning = self.error(at, cause.into(), mend.into(), false);
        self.warnings.borrow_mut().push(warning);
    }

    /// Reports that something is not there.
    pub fn report_absence(&self, at: &Place, cause: impl Into<String>, mend: impl Into<String>) {
        self.push(at, cause.into(), mend.into(), true);
    }

    /// How many errors there are so far.
    pub fn errors_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Ends the reading: the errors and the warnings, in no order.
    pub fn into_errors(self) -> (Vec<Error>, Vec<Error>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }

    /// Every (table, key) that was asked for, with tables named as in the file: `[[port]]`.
    pub fn known(&self) -> Vec<(String, &'static str)> {
        self.known.borrow().iter().cloned().collect()
    }

    fn push(&self, at: &Place, cause: String, mend: String, absence: bool) {
        let error = self.error(at, cause, mend, absence);
        self.errors.borrow_mut().push(error);
    }

    fn error(&self, at: &Place, cause: String, mend: String, absence: bool) -> Error {
        let (line, column) = position(self.source, at.span.start);
        Error { line, column, key: at.key.clone(), cause, mend, absence }
    }
}

/// Where something stands: the key's path and its bytes in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Path of the key, as in `port[0].device`.
    pub key: String,
    /// Bytes of the file.
    pub span: Range<usize>,
}

impl Place {
    /// The file as a whole.
    pub fn file() -> Place {
        Place { key: String::new(), span: 0..0 }
    }

    /// The line, from 1: for errors that name a second place.
    pub fn line(&self, context: &Context<'_>) -> usize {
        position(context.source, self.span.start).0
    }
}

/// A table of the file and what of it was asked for.
pub struct Table<'c, 's> {
    context: &'c Context<'s>,
    /// As an operator would call it: `[node]`, `[[port]]`, `the top level`.
    name: String,
    place: Place,
    entries: Option<&'c DeTable<'s>>,
    asked: RefCell<Vec<&'static str>>,
    /// Those of the asked keys that are refused as of a later version: not worth suggesting.
    later: RefCell<Vec<&'static str>>,
    /// Its keys are the operator's own: none is unknown.
    open: Cell<bool>,
    finished: Cell<bool>,
}

/// What a key that is `true`, `false` or a table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Nothing: it is not there (or was refused).
    Absent,
    /// `false`
    Off,
    /// `true`
    On,
    /// A table, perhaps an empty one.
    Table,
}

/// An entry of a table whose keys are the operator's own.
pub struct Entry<'c, 's> {
    /// The key.
    pub key: &'c str,
    /// Where the key stands.
    pub place: Place,
    /// What it is set to.
    pub value: Value<'c, 's>,
}

impl<'c, 's> Table<'c, 's> {
    /// The top of the file.
    pub fn top(context: &'c Context<'s>, entries: &'c DeTable<'s>) -> Table<'c, 's> {
        Table::new(context, "the top level".to_string(), Place::file(), Some(entries))
    }

    /// Where the table stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &'static str) -> Option<Value<'c, 's>> {
        self.ask(key);
        let (name, node) = self.entries?.get_key_value(key)?;
        debug_assert_eq!(name.get_ref(), key);
        let place = Place { key: self.path_of(key), span: node.span() };
        Some(Value { context: self.context, name: key.to_string(), place, node: node.get_ref() })
    }

    /// The value of a key that has to be there.
    pub fn require(&self, key: &'static str, mend: &str) -> Option<Value<'c, 's>> {
        let value = self.get(key);
        if value.is_none() {
            self.context.report_absence(&self.place, format!("{} has no \"{key}\"", self.name), mend);
        }
        value
    }

    /// A key of a later version: known, and refused. True if it is there.
    pub fn later(&self, key: &'static str, mend: &str) -> bool {
        self.ask(key);
        self.later.borrow_mut().push(key);
        let Some((name, _)) = self.entries.and_then(|e| e.get_key_value(key)) else { return false };
        let place = Place { key: self.path_of(key), span: name.span() };
        self.context.report(&place, format!("\"{key}\" in {} is not yet in this version", self.name), mend);
        true
    }

    /// A sub-table `[key]`; one that is not there reads as empty, so that its keys are asked for all the same.
    pub fn table(&self, key: &'static str) -> Table<'c, 's> {
        let (entries, place) = match self.get(key) {
            None => (None, Place { key: self.path_of(key), span: self.place.span.clone() }),
            Some(value) => (value.as_table("a table"), value.place),
        };
        Table::new(self.context, format!("[{}]", self.dotted(key)), place, entries)
    }

    /// A key that is `true`, `false` or a sub-table; one without a table reads as an empty one.
    pub fn switch(&self, key: &'static str) -> (Switch, Table<'c, 's>) {
        let value = self.get(key);
        let place = value.as_ref().map_or_else(
            || Place { key: self.path_of(key), span: self.place.span.clone() },
            |v| v.place.clone(),
        );
        let (switch, entries) = match value.as_ref().map(|v| v.node) {
            None => (Switch::Absent, None),
            Some(DeValue::Boolean(true)) => (Switch::On, None),
            Some(DeValue::Boolean(false)) => (Switch::Off, None),
            Some(DeValue::Table(entries)) => (Switch::Table, Some(entries)),
            Some(_) => {
                let mend = "write true, false, or its keys in braces, as in { … }";
                let _: Option<()> = value.and_then(|v| v.wrong_type("true, false or a table", mend));
                (Switch::Absent, None)
            }
        };
        (switch, Table::new(self.context, format!("[{}]", self.dotted(key)), place, entries))
    }

    /// All entries of a table whose keys are the operator's own.
    pub fn entries(&self) -> Vec<Entry<'c, 's>> {
        self.open.set(true);
        let entry = |(key, node): (&'c Spanned<Cow<'s, str>>, &'c Spanned<DeValue<'s>>)| {
            let name: &'c str = key.get_ref();
            let path = self.path_of(name);
            let value = Value {
                context: self.context,
                name: name.to_string(),
                place: Place { key: path.clone(), span: node.span() },
                node: node.get_ref(),
            };
            Entry { key: name, place: Place { key: path, span: key.span() }, value }
        };
        self.entries.into_iter().flatten().map(entry).collect()
    }

    /// Reports something at a place of it.
    pub fn wrong(&self, at: &Place, cause: impl Into<String>, mend: impl Into<String>) {
        self.context.report(at, cause, mend);
    }

    /// Tells of something that keeps nothing from running.
    pub fn warn(&self, at: &Place, cause: impl Into<String>, mend: impl Into<String>) {
        self.context.warn(at, cause, mend);
    }

    /// Whether anything stands in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_none_or(|entries| entries.is_empty())
    }

    /// The tables of `[[key]]`, in order.
    pub fn tables(&self, key: &'static str) -> Vec<Table<'c, 's>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.node else {
            let cause = format!("\"{key}\" is {}, not a list of tables", value.kind());
            value.context.report(&value.place, cause, format!("write [[{key}]], with two brackets"));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let place = Place { key: format!("{}[{i}]", value.place.key), span: item.span() };
            let element = Value { context: self.context, name: key.to_string(), place, node: item.get_ref() };
            if let Some(entries) = element.as_table("a table") {
                let name = format!("[[{}]]", self.dotted(key));
                tables.push(Table::new(self.context, name, element.place, Some(entries)));
            }
        }
        tables
    }

    /// Reports every key that was never asked for.
    pub fn finish(&self) {
        self.finished.set(true);
        let asked = self.asked.borrow();
        let later = self.later.borrow();
        let usable: Vec<&'static str> = asked.iter().copied().filter(|k| !later.contains(k)).collect();
        for (key, _) in self.entries.into_iter().flatten() {
            let name = key.get_ref();
            if self.open.get() || asked.iter().any(|k| k == name) {
                continue;
            }
            let place = Place { key: self.path_of(name), span: key.span() };
            let cause = format!("unknown key {} in {}", quote(name), self.name);
            let mend = match nearest(name, &usable) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => format!("known here: {}", usable.join(", ")),
            };
            self.context.report(&place, cause, mend);
        }
    }

    fn new(context: &'c Context<'s>, name: String, place: Place, entries: Option<&'c DeTable<'s>>) -> Self {
        Table {
            context,
            name,
            place,
            entries,
            asked: RefCell::default(),
            later: RefCell::default(),
            open: Cell::new(false),
            finished: Cell::new(false),
        }
    }

    fn ask(&self, key: &'static str) {
        self.context.known.borrow_mut().insert((self.name.clone(), key));
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
    }

    /// A sub-table as TOML would name it on a line of its own: `site.timeouts` under `[[site]]`.
    fn dotted(&self, key: &str) -> String {
        match self.name.strip_prefix('[') {
            Some(name) => format!("{}.{key}", name.trim_matches(['[', ']'])),
            None => key.to_string(),
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.place.key.is_empty() { key.to_string() } else { format!("{}.{key}", self.place.key) }
    }
}

impl Drop for Table<'_, '_> {
    fn drop(&mut self) {
        // Forgetting it would let unknown keys pass in silence.
        debug_assert!(self.finished.get() || std::thread::panicking(), "{} was not finished", self.name);
    }
}

/// The known word that `given` is most likely a slip of, if any is near enough to say so.
pub(super) fn nearest<K: AsRef<str> + Display>(given: &str, known: &[K]) -> Option<String> {
    // strsim takes time and memory by the product of the lengths: no slip is this long.
    if given.len() > 64 {
        return None;
    }
    let given = given.to_ascii_lowercase().replace('-', "_");
    let score = |word: &str| {
        let plural = word.strip_suffix('s').unwrap_or(word) == given.strip_suffix('s').unwrap_or(&given);
        // One slip in a short word weighs a lot in both measures: it is near all the same.
        let one_slip = word.len() >= 3 && strsim::osa_distance(&given, word) == 1;
        match (plural, one_slip) {
            (true, _) => 1.0,
            (_, true) => 0.95,
            _ => strsim::jaro_winkler(&given, word).max(strsim::normalized_damerau_levenshtein(&given, word)),
        }
    };
    known
        .iter()
        .map(|word| (score(word.as_ref()), word))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_only_when_near() {
        let known = ["address", "http", "hosts", "keep_alive"];
        assert_eq!(nearest("adress", &known).as_deref(), Some("address"));
        assert_eq!(nearest("host", &known).as_deref(), Some("hosts"));
        assert_eq!(nearest("Keep-Alive", &known).as_deref(), Some("keep_alive"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"a".repeat(100_000), &known), None);
    }
}
