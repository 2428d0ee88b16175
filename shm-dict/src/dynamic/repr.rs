//! The text of a value: Python's `repr` of it.

use std::fmt::{self, Write};

use super::walk::{Step, walk};
use super::{Dynamic, Kind};

impl fmt::Display for Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The containers that are open, with the number of items that came.
        let mut open: Vec<(Kind, usize)> = Vec::new();
        for step in walk(self) {
            if let Step::Leave = step {
                f.write_str(match open.pop() {
                    Some((Kind::Tuple, 1)) => ",)",
                    Some((Kind::Tuple, _)) => ")",
                    Some((Kind::List, _)) => "]",
                    _ => "}",
                })?;
                continue;
            }
            if let Some((kind, items)) = open.last_mut() {
                f.write_str(match (*items, kind) {
                    (0, _) => "",
                    (_, Kind::Dict) if *items % 2 == 1 => ": ",
                    _ => ", ",
                })?;
                *items += 1;
            }
            match step {
                Step::Enter(value) => {
                    open.push((value.kind(), 0));
                    f.write_str(match value {
                        Self::Tuple(_) => "(",
                        Self::List(_) => "[",
                        _ => "{",
                    })?;
                }
                Step::Leaf(value) => leaf(value, f)?,
                Step::Leave => {}
            }
        }
        Ok(())
    }
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn leaf(value: &Dynamic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Dynamic::Bool(true) => f.write_str("True"),
        Dynamic::Bool(false) => f.write_str("False"),
        Dynamic::Int(value) => write!(f, "{value}"),
        Dynamic::Float(value) => float(*value, f),
        Dynamic::Str(value) => string(value, f),
        Dynamic::Bytes(value) => bytes(value, f),
        Dynamic::None | Dynamic::Tuple(_) | Dynamic::List(_) | Dynamic::Dict(_) => {
            f.write_str("None")
        }
    }
}

/// The fewest digits that lead to the same float, with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value.is_nan() {
        return f.write_str("nan");
    }
    if value == 0.0 || value.is_infinite() {
        return write!(f, "{value:?}");
    }
    let fewest = format!("{value:e}");
    let (mantissa, exponent) = fewest.split_once('e').unwrap_or((&fewest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits = mantissa.chars().filter(char::is_ascii_digit).count() as i32;
    // As many digits, but of two that are equally near the even one: std takes the upper one.
    let even = |text: String, other: String| {
        if text.parse() == Ok(value) {
            text
        } else {
            other
        }
    };
    if (-4..16).contains(&exponent) {
        let decimals = (digits - 1 - exponent).max(1) as usize;
        let text = even(format!("{value:.decimals$}"), format!("{value:?}"));
        return f.write_str(&text);
    }
    let decimals = (digits - 1) as usize;
    let text = even(format!("{value:.decimals$e}"), fewest.clone());
    let mantissa = text.split('e').next().unwrap_or(&text);
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(f, "{mantissa}e{sign}{:02}", exponent.abs())
}

/// Single quotes, unless there are such and no double ones inside.
fn quote(inside: &[u8]) -> char {
    if inside.contains(&b'\'') && !inside.contains(&b'"') {
        '"'
    } else {
        '\''
    }
}

fn string(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let quote = quote(text.as_bytes());
    f.write_char(quote)?;
    for c in text.chars() {
        match (c, u32::from(c)) {
            ('\\', _) => f.write_str("\\\\")?,
            ('\n', _) => f.write_str("\\n")?,
            ('\r', _) => f.write_str("\\r")?,
            ('\t', _) => f.write_str("\\t")?,
            _ if c == quote => write!(f, "\\{c}")?,
            _ if is_printable(c) => f.write_char(c)?,
            (_, code @ 0..=0xFF) => write!(f, "\\x{code:02x}")?,
            (_, code @ 0..=0xFFFF) => write!(f, "\\u{code:04x}")?,
            (_, code) => write!(f, "\\U{code:08x}")?,
        }
    }
    f.write_char(quote)
}

/// Whether Python shows a character as it is: std's `escape_debug` asks for the same categories, inside of a string.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let mut text = [b'a'; 5];
    let len = c.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..=len]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

fn bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let quote = quote(bytes);
    write!(f, "b{quote}")?;
    for byte in bytes {
        match byte {
            b'\\' => f.write_str("\\\\")?,
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            _ if char::from(*byte) == quote => write!(f, "\\{quote}")?,
            b' '..=b'~' => f.write_char(char::from(*byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char(quote)
}
