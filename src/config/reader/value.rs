//! A value of the file: what it is read as, and what is said when it cannot be.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Context, Place, Table, nearest};
use crate::config::report::quote;
use crate::config::units;

/// A value of the file, with its place.
pub struct Value<'c, 's> {
    pub(super) context: &'c Context<'s>,
    pub(super) name: String,
    /// Where it stands.
    pub place: Place,
    pub(super) node: &'c DeValue<'s>,
}

impl<'c, 's> Value<'c, 's> {
    /// Reports something about this value.
    pub fn error(&self, cause: impl Into<String>, mend: impl Into<String>) {
        self.context.report(&self.place, cause, mend);
    }

    /// Tells of something that keeps nothing from running.
    pub fn warn(&self, cause: impl Into<String>, mend: impl Into<String>) {
        self.context.warn(&self.place, cause, mend);
    }

    /// A string.
    pub fn string(&self) -> Option<&'c str> {
        self.node.as_str().or_else(|| self.wrong_type("a string", "put it in quotation marks"))
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        self.node
            .as_bool()
            .or_else(|| self.wrong_type("true or false", "write true or false, without quotes"))
    }

    /// `true` or `false` where it is that, without a report where it is something else.
    pub fn if_boolean(&self) -> Option<bool> {
        self.node.as_bool()
    }

    /// Whether it is a number.
    pub fn is_integer(&self) -> bool {
        matches!(self.node, DeValue::Integer(_))
    }

    /// The table that it is, if it is one; `table` is its name, as in `[[site.origin]]`.
    pub fn if_table(&self, table: &str) -> Option<Table<'c, 's>> {
        let entries = self.node.as_table()?;
        Some(Table::new(self.context, table.to_string(), self.place.clone(), Some(entries)))
    }

    /// A share in percent, within a range.
    pub fn percent(&self, range: RangeInclusive<u8>) -> Option<u8> {
        let show = |n: u8| format!("{n}%");
        self.with_unit("a share in percent", "\"20%\"", units::percent, show, range)
    }

    /// A whole number within a range.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let mend = format!("write a number from {} to {}", range.start(), range.end());
        let Some(integer) = self.node.as_integer() else {
            return self.wrong_type("a whole number", &format!("{mend}, without quotes or unit"));
        };
        match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(n) if u64::try_from(n).is_ok_and(|n| range.contains(&n)) => u64::try_from(n).ok(),
            // toml does not look into numbers: `1400B` comes as one.
            Err(_)
                if !integer.as_str().trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit()) =>
            {
                self.error(format!("{} is not a whole number", quote(integer.as_str())), mend);
                None
            }
            _ => {
                self.error(format!("{integer} is out of range for \"{}\"", self.name), mend);
                None
            }
        }
    }

    /// A duration with its unit, within a range.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.with_unit("a time with a unit", "\"30s\"", units::duration, units::show_duration, range)
    }

    /// A size in bytes with its unit, within a range.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        self.with_unit("a size with a unit", "\"64MiB\"", units::size, units::show_size, range)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<&'static str> = choices.iter().map(|(word, _)| *word).collect();
        let mend = match nearest(text, &words) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("write one of \"{}\"", words.join("\", \"")),
        };
        self.error(format!("{} is not a value of \"{}\"", quote(text), self.name), mend);
        None
    }

    /// The elements of a list.
    pub fn list(&self) -> Vec<Value<'c, 's>> {
        match self.node.as_array() {
            Some(items) => self.elements(items),
            None => {
                let _: Option<()> = self.wrong_type("a list", "put it in brackets, as in [ … ]");
                Vec::new()
            }
        }
    }

    /// Whether it is this word.
    pub fn is_string(&self, word: &str) -> bool {
        self.node.as_str() == Some(word)
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node, DeValue::Array(_))
    }

    /// The elements of a list, perhaps of none, or the one string that stands for a list of one.
    pub fn list_or_string(&self) -> Vec<Value<'c, 's>> {
        match self.node {
            DeValue::Array(items) => self.elements(items),
            _ => self.one_or_more(),
        }
    }

    /// Reports something at a place within this value.
    pub fn error_at(&self, at: &Place, cause: impl Into<String>, mend: impl Into<String>) {
        self.context.report(at, cause, mend);
    }

    /// The elements of a list, or the one value (a string, a number, a table) that stands for a list of one.
    pub fn some_or_one(&self) -> Vec<Value<'c, 's>> {
        match self.node {
            DeValue::Table(_) | DeValue::Integer(_) => vec![self.copy()],
            _ => self.one_or_more(),
        }
    }

    /// The elements of a list, or the one string that stands for a list of one.
    pub fn one_or_more(&self) -> Vec<Value<'c, 's>> {
        match self.node {
            DeValue::Array(items) if items.is_empty() => {
                self.error(format!("\"{}\" is an empty list", self.name), "name at least one");
                Vec::new()
            }
            DeValue::Array(items) => self.elements(items),
            DeValue::String(_) => vec![self.copy()],
            _ => {
                let _: Option<()> =
                    self.wrong_type("a string or a list of strings", "put it in quotation marks");
                Vec::new()
            }
        }
    }

    fn elements(&self, items: &'c [Spanned<DeValue<'s>>]) -> Vec<Value<'c, 's>> {
        let element = |(i, item): (usize, &'c Spanned<DeValue<'s>>)| {
            let place = Place { key: format!("{}[{i}]", self.place.key), span: item.span() };
            Value { context: self.context, name: self.name.clone(), place, node: item.get_ref() }
        };
        items.iter().enumerate().map(element).collect()
    }

    pub(super) fn copy(&self) -> Value<'c, 's> {
        Value { context: self.context, name: self.name.clone(), place: self.place.clone(), node: self.node }
    }

    pub(super) fn as_table(&self, expected: &str) -> Option<&'c DeTable<'s>> {
        self.node.as_table().or_else(|| self.wrong_type(expected, "write its keys under it"))
    }

    pub(super) fn wrong_type<T>(&self, expected: &str, mend: &str) -> Option<T> {
        self.error(format!("\"{}\" is {}, not {expected}", self.name, self.kind()), mend);
        None
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.node {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    fn with_unit<T: PartialOrd + Copy>(
        &self,
        expected: &str,
        example: &str,
        read: impl Fn(&str) -> Result<T, &'static str>,
        show: impl Fn(T) -> String,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let Some(text) = self.node.as_str() else {
            return self.wrong_type(expected, &format!("write it in quotes with its unit, as in {example}"));
        };
        let value = match read(text) {
            Ok(value) => value,
            Err(mend) => {
                self.error(format!("{} is not {expected}", quote(text)), mend);
                return None;
            }
        };
        if !range.contains(&value) {
            let cause = format!("{} is out of range for \"{}\"", quote(text), self.name);
            self.error(cause, format!("write {} to {}", show(*range.start()), show(*range.end())));
            return None;
        }
        Some(value)
    }
}
