//! Bytes that a client sent, as part of a line of text or of JSON: escaped, and cut where that breaks nothing.

use crate::http1::{Full, HeadSink};

pub(super) const HEX: &[u8; 16] = b"0123456789abcdef";

/// A sink for one field: takes so much, then nothing any more.
struct Bounded<'s, S: ?Sized> {
    sink: &'s mut S,
    left: usize,
}

impl<S: HeadSink + ?Sized> Bounded<'_, S> {
    /// `false`: it does not fit, and the field ends here.
    fn put_whole(&mut self, piece: &[u8]) -> Result<bool, Full> {
        match self.left.checked_sub(piece.len()) {
            Some(left) => {
                self.left = left;
                self.sink.put(piece)?;
                Ok(true)
            }
            None => self.cut(),
        }
    }

    fn cut(&mut self) -> Result<bool, Full> {
        self.left = 0;
        self.sink.put(b"...")?;
        Ok(false)
    }
}

/// Between quotes, for whoever splits text at quotes: `"` and `\` get a backslash, and what is not printable
/// ASCII becomes `\xHH`.
pub(super) fn put_escaped(value: &[u8], max: usize, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
    put_text(value, max, |b| (b' '..=b'~').contains(&b) & (b != b'"') & (b != b'\\'), sink)
}

/// Without quotes: a blank would end it. `-` when empty.
pub(super) fn put_word(value: &[u8], max: usize, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
    let value = if value.is_empty() { b"-" } else { value };
    put_text(value, max, |b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'), sink)
}

fn put_text(
    value: &[u8],
    max: usize,
    is_plain: impl Fn(u8) -> bool,
    sink: &mut (impl HeadSink + ?Sized),
) -> Result<(), Full> {
    let mut field = Bounded { sink, left: max };
    let mut rest = value;
    while let Some(&first) = rest.first() {
        let run = plain_run(rest, &is_plain);
        if run > field.left {
            field.sink.put(&rest[..field.left])?;
            return field.cut().map(drop);
        }
        if run > 0 {
            field.put_whole(&rest[..run])?;
            rest = &rest[run..];
            continue;
        }
        let fits = match first {
            b'"' => field.put_whole(b"\\\"")?,
            b'\\' => field.put_whole(b"\\\\")?,
            b => field.put_whole(&[b'\\', b'x', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]])?,
        };
        if !fits {
            break;
        }
        rest = &rest[1..];
    }
    Ok(())
}

/// How many bytes at the start are plain; sixteen at a time while they are.
#[inline]
fn plain_run(bytes: &[u8], is_plain: &impl Fn(u8) -> bool) -> usize {
    let mut run = 0;
    while let Some(block) = bytes.get(run..).and_then(|rest| rest.first_chunk::<16>()) {
        // No early exit: it becomes a few vector instructions.
        if !block.iter().fold(true, |plain, &b| plain & is_plain(b)) {
            break;
        }
        run += 16;
    }
    run + bytes[run..].iter().position(|&b| !is_plain(b)).unwrap_or(bytes.len() - run)
}

/// Between the quotes of a JSON string (RFC 8259 7). What is not UTF-8 becomes U+FFFD.
pub(super) fn put_json(value: &[u8], max: usize, sink: &mut (impl HeadSink + ?Sized)) -> Result<(), Full> {
    let mut field = Bounded { sink, left: max };
    for chunk in value.utf8_chunks() {
        if !put_json_text(chunk.valid(), &mut field)? {
            return Ok(());
        }
        if !chunk.invalid().is_empty() && !field.put_whole("\u{fffd}".as_bytes())? {
            return Ok(());
        }
    }
    Ok(())
}

/// `false`: the field ends here.
fn put_json_text<S: HeadSink + ?Sized>(text: &str, field: &mut Bounded<'_, S>) -> Result<bool, Full> {
    let mut rest = text;
    while let Some(&first) = rest.as_bytes().first() {
        let is_plain = |b: u8| (b >= 0x20) & (b != b'"') & (b != b'\\') & (b != 0x7f);
        // What is not plain is ASCII, so that runs begin and end between characters.
        let run = plain_run(rest.as_bytes(), &is_plain);
        if run > field.left {
            field.sink.put(&rest.as_bytes()[..rest.floor_char_boundary(field.left)])?;
            return field.cut();
        }
        if run > 0 {
            field.put_whole(&rest.as_bytes()[..run])?;
            rest = &rest[run..];
            continue;
        }
        let fits = match first {
            b'"' => field.put_whole(b"\\\"")?,
            b'\\' => field.put_whole(b"\\\\")?,
            b => field.put_whole(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(b >> 4)],
                HEX[usize::from(b & 15)],
            ])?,
        };
        if !fits {
            return Ok(false);
        }
        rest = &rest[1..];
    }
    Ok(true)
}
