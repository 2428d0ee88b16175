//! The lines between a test and its peers, and the environment that makes a process a peer.

/// The role that a peer is to play.
pub(crate) const ROLE: &str = "SHM_TESTING_ROLE";
/// Its arguments, each after a [`SEPARATOR`].
pub(crate) const ARGS: &str = "SHM_TESTING_ARGS";
/// Parts the arguments in the environment; no argument may hold it.
pub(crate) const SEPARATOR: char = '\u{1f}';
/// What a line of ours begins with; the character after it tells its kind.
const MARKER: &str = "\u{2}peer:";

/// What a line from the peer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The role said the text.
    Said,
    /// The role runs on the thread with this id.
    Thread,
    /// The role panicked with this message.
    Panicked,
}

impl Kind {
    const ALL: [(Self, char); 3] = [
        (Self::Said, 'S'),
        (Self::Thread, 'T'),
        (Self::Panicked, 'P'),
    ];
}

/// A line from the peer, its end included.
pub(crate) fn line(kind: Kind, text: &str) -> String {
    let (_, letter) = Kind::ALL[kind as usize];
    format!("{MARKER}{letter}{}\n", escape(text))
}

/// Takes our part out of a line of output; `None` for a line of somebody else's.
pub(crate) fn parse(line: &[u8]) -> Option<(Kind, String)> {
    let line = String::from_utf8_lossy(line);
    let (_, ours) = line.split_once(MARKER)?;
    let mut chars = ours.chars();
    let letter = chars.next()?;
    let (kind, _) = Kind::ALL.into_iter().find(|(_, l)| *l == letter)?;
    Some((kind, unescape(chars.as_str())))
}

/// Brings any text onto one line.
pub(crate) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

/// Undoes [`escape`].
pub(crate) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some('r')) => plain.push('\r'),
            ('\\', Some(other)) => plain.push(other),
            (c, _) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_comes_back() {
        for text in ["", "plain", "a\\nb", "two\nlines\r\n", "\\", "\\\\n"] {
            assert_eq!(unescape(&escape(text)), text);
            assert!(!escape(text).contains('\n'));
        }
    }

    #[test]
    fn marker_is_found_anywhere_on_the_line() {
        for (kind, text) in [
            (Kind::Said, "a\nb"),
            (Kind::Thread, "7"),
            (Kind::Panicked, ""),
        ] {
            let line = format!("running 1 test {}", line(kind, text));
            let parsed = parse(line.trim_end_matches('\n').as_bytes());
            assert_eq!(parsed, Some((kind, text.to_owned())));
        }
        assert_eq!(parse(b"running 1 test"), None);
    }
}
