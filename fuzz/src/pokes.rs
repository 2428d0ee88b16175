//! A segment that was in order, and an attacker who changes bytes of it.

use arbitrary::Arbitrary;
use shm_core::{HEADER_SIZE, ProcessId};

use crate::backing::Backing;
use crate::image::Content;
use crate::input::{Few, Rest, by_a_byte};
use crate::probe;

/// Changes to a segment before it is attached, then rounds of changes and uses.
#[derive(Debug, Arbitrary)]
pub struct Attack {
    content: Content,
    /// See [`Backing::of`].
    place: u8,
    read_only: bool,
    /// Opened as this instead of as what it is.
    taken_for: Option<Content>,
    /// Bytes that are missing at the end.
    cut: Option<u16>,
    before: Few<Poke, 16>,
    rounds: Rest<Round>,
}

/// Changes, and a use of the whole API; `choice` says what becomes of a lock with a report.
#[derive(Debug, Arbitrary)]
pub(crate) struct Round {
    pub(crate) pokes: Few<Poke, 12>,
    pub(crate) choice: u8,
}

by_a_byte! {
    /// One change.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Poke {
        Byte {
            at: At,
            value: u8,
        },
        Word {
            at: At,
            value: u32,
        },
        Long {
            at: At,
            value: u64,
        },
        /// A small number: lengths, versions and offsets that could be right.
        Small {
            at: At,
            value: u8,
        },
        /// This thread, as a lock word names its owner.
        OwnThread {
            at: At,
            flags: u8,
        },
        /// This process, as slots and locks name theirs.
        OwnProcess {
            at: At,
        },
    }
}

by_a_byte! {
    /// Where: in the header and what follows it, or in the payload.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum At {
        Anywhere(u16),
        Field(u8),
        Payload(u8),
    }
}

impl Poke {
    pub(crate) fn apply(self, backing: &Backing) {
        match self {
            Self::Byte { at, value } => backing.poke(at.offset(backing), &[value]),
            Self::Word { at, value } => backing.poke(at.offset(backing), &value.to_ne_bytes()),
            Self::Long { at, value } => backing.poke(at.offset(backing), &value.to_ne_bytes()),
            Self::Small { at, value } => {
                backing.poke(at.offset(backing), &u64::from(value).to_ne_bytes());
            }
            Self::OwnThread { at, flags } => {
                let thread = nix::unistd::gettid().as_raw().unsigned_abs();
                let word = thread | u32::from(flags & 3) << 30;
                backing.poke(at.offset(backing), &word.to_ne_bytes());
            }
            Self::OwnProcess { at } => {
                let process = ProcessId::current().to_bits();
                backing.poke(at.offset(backing), &process.to_ne_bytes());
            }
        }
    }
}

impl At {
    fn offset(self, backing: &Backing) -> usize {
        let len = backing.len().max(1);
        // Where `make` in image.rs puts it: behind two participants of 16 bytes, aligned to 64.
        let payload = (HEADER_SIZE + 2 * 16).next_multiple_of(64);
        match self {
            Self::Anywhere(at) => usize::from(at) % len,
            Self::Field(at) => usize::from(at) / 4 * 4,
            Self::Payload(at) => (payload + usize::from(at) / 4 * 4) % len,
        }
    }
}

/// Runs an attack.
pub fn segment_pokes(attack: &Attack) {
    let image = attack.content.image();
    let cut = usize::from(attack.cut.unwrap_or(0)).min(image.len());
    let backing = Backing::of(&image[..image.len() - cut], attack.place);
    for poke in &attack.before.0 {
        poke.apply(&backing);
    }
    let content = attack.taken_for.unwrap_or(attack.content);
    let rounds = &attack.rounds.0[..attack.rounds.0.len().min(4)];
    probe::attach_and_use(&backing, content, attack.read_only, rounds);
}
