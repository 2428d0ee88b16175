//! The first 256 bytes of every segment, and every check that `open` makes on them.
//!
//! | offset | size | field | meaning |
//! |---:|---:|---|---|
//! | 0 | 8 | `magic` | [`MAGIC`], stored last by the creator: without it nothing else counts |
//! | 8 | 4 | `format_version` | [`FORMAT_VERSION`] of this table |
//! | 12 | 4 | `byte_order` | `0x0A0B_0C0D` as the creator's machine writes it |
//! | 16 | 2 | `word_size` | bytes of a pointer: 8 |
//! | 18 | 2 | `lock_abi` | 1: lock words laid out for glibc's robust list |
//! | 20 | 4 | `kind` | four ASCII bytes: what lives in the payload |
//! | 24 | 4 | `kind_version` | version of that kind's layout |
//! | 28 | 4 | `flags` | bit 0: the name goes with its creator (`unlink_on_drop`) |
//! | 32 | 8 | `total_size` | bytes of the whole segment, this header included |
//! | 40 | 8 | `payload_offset` | where the payload starts |
//! | 48 | 8 | `payload_size` | bytes of the payload |
//! | 56 | 8 | `type_size` | size of the element type |
//! | 64 | 4 | `type_align` | its alignment |
//! | 68 | 4 | `participants` | slots in the participant table that follows at 256 |
//! | 72 | 8 | `type_tag` | FNV-1a of the type's name, or of the tag that the program set |
//! | 80 | 8 | `generation` | random; tells apart all segments that ever had this name |
//! | 88 | 16 | `boot_id` | the kernel's, as bytes |
//! | 104 | 4 | `pid_namespace` | inode number of the creator's PID namespace |
//! | 108 | 4 | `time_namespace` | inode number of the creator's time namespace, 0 if the kernel has none |
//! | 112 | 8 | `claim` | [`ProcessId`](crate::ProcessId) of the creator; in a region, taken by compare-and-swap |
//! | 120 | 8 | `created` | CLOCK_BOOTTIME, nanoseconds |
//! | 128 | 64 | `label` | what the creator calls the contents, for people; padded with NUL |
//! | 192 | 64 | reserved | zero |
//!
//! INV-H1: nothing in these bytes changes once `magic` is there.
//! INV-H2: `256 + 16 * participants <= payload_offset` and `payload_offset + payload_size <= total_size`.
//!
//! Peer death: a named segment is published whole or not at all; in a caller's region a creator that
//! dies leaves its `claim` without `magic`, and the next creator takes the claim over (`placement.rs`).

use std::mem::{offset_of, size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Spec;
pub use super::placement::MAGIC;
use crate::error::{Error, Field};
use crate::sys::identity::Identity;

/// Version of the segment format; apart from any crate's version.
pub const FORMAT_VERSION: u32 = 1;
/// Size of the header, in bytes.
pub const HEADER_SIZE: usize = 256;
/// Size of a slot of the participant table, in bytes.
pub(crate) const PARTICIPANT_SIZE: usize = 16;

const BYTE_ORDER: u32 = 0x0A0B_0C0D;
const WORD_SIZE: u16 = 8;
const LOCK_ABI_GLIBC: u16 = 1;
pub(crate) const FLAG_UNLINK_ON_DROP: u32 = 1;

/// A private copy of a header, or one about to be stored.
#[derive(Debug, Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: u64,
    pub(crate) format_version: u32,
    pub(crate) byte_order: u32,
    pub(crate) word_size: u16,
    pub(crate) lock_abi: u16,
    pub(crate) kind: [u8; 4],
    pub(crate) kind_version: u32,
    pub(crate) flags: u32,
    pub(crate) total_size: u64,
    pub(crate) payload_offset: u64,
    pub(crate) payload_size: u64,
    pub(crate) type_size: u64,
    pub(crate) type_align: u32,
    pub(crate) participants: u32,
    pub(crate) type_tag: u64,
    pub(crate) generation: u64,
    pub(crate) boot_id: [u8; 16],
    pub(crate) pid_namespace: u32,
    pub(crate) time_namespace: u32,
    pub(crate) claim: u64,
    pub(crate) created: u64,
    pub(crate) label: [u8; 64],
    pub(crate) reserved: [u8; 64],
}

pub(crate) const CLAIM_OFFSET: usize = offset_of!(Header, claim);

const _: () = assert!(size_of::<Header>() == HEADER_SIZE);
const _: () = assert!(offset_of!(Header, magic) == 0 && CLAIM_OFFSET == 112);
const _: () = assert!(offset_of!(Header, generation) == 80 && offset_of!(Header, label) == 128);

impl Header {
    /// The header of a new segment; `magic` is left zero, to be stored last.
    pub(crate) fn new(spec: &Spec, sizes: Sizes, here: &Identity, flags: u32) -> Self {
        let mut label = [0; 64];
        let mut len = spec.label.len().min(label.len());
        while !spec.label.is_char_boundary(len) {
            len -= 1;
        }
        label[..len].copy_from_slice(&spec.label.as_bytes()[..len]);
        Self {
            magic: 0,
            format_version: FORMAT_VERSION,
            byte_order: BYTE_ORDER,
            word_size: WORD_SIZE,
            lock_abi: LOCK_ABI_GLIBC,
            kind: spec.kind.0,
            kind_version: spec.kind_version,
            flags,
            total_size: sizes.total,
            payload_offset: sizes.payload_offset,
            payload_size: spec.size,
            type_size: spec.type_size,
            type_align: spec.type_align,
            participants: sizes.participants,
            type_tag: spec.type_tag,
            generation: here.random,
            boot_id: here.boot_id,
            pid_namespace: here.pid_namespace,
            time_namespace: here.time_namespace,
            claim: here.process.to_bits(),
            created: here.boot_time,
            label,
            reserved: [0; 64],
        }
    }

    /// Reads a header out of a private copy of the first bytes of a segment, checking the fields
    /// that say whether the rest can be understood at all.
    pub(crate) fn parse(segment: &str, bytes: &[u8]) -> Result<Self, Error> {
        let Ok((header, _)) = Self::read_from_prefix(bytes) else {
            return Err(truncated(segment, bytes.len() as u64, HEADER_SIZE as u64));
        };
        if header.magic == MAGIC.swap_bytes() {
            return Err(mismatch(segment, Field::ByteOrder, "native", "swapped"));
        }
        if header.magic != MAGIC {
            return Err(Error::NotASegment {
                segment: segment.to_owned(),
                why: "its first eight bytes are not a segment's",
            });
        }
        let expect = |field, expected: u64, found: u64| {
            if expected == found {
                Ok(())
            } else {
                Err(mismatch(segment, field, expected, found))
            }
        };
        expect(
            Field::ByteOrder,
            BYTE_ORDER.into(),
            header.byte_order.into(),
        )?;
        expect(
            Field::FormatVersion,
            FORMAT_VERSION.into(),
            header.format_version.into(),
        )?;
        expect(Field::WordSize, WORD_SIZE.into(), header.word_size.into())?;
        expect(
            Field::LockAbi,
            LOCK_ABI_GLIBC.into(),
            header.lock_abi.into(),
        )?;
        Ok(header)
    }

    /// Checks that the header's own sizes fit together and into `available` bytes (INV-H2).
    pub(crate) fn check_sizes(&self, segment: &str, available: u64) -> Result<(), Error> {
        let corrupt = |field, value| Error::Corrupt {
            segment: segment.to_owned(),
            field,
            value,
        };
        if self.total_size > available {
            return Err(truncated(segment, available, self.total_size));
        }
        let table_end = (HEADER_SIZE as u64)
            .checked_add(u64::from(self.participants) * PARTICIPANT_SIZE as u64)
            .filter(|&end| end <= self.payload_offset)
            .ok_or_else(|| corrupt("participants", self.participants.into()))?;
        if !self.payload_offset.is_multiple_of(64) || self.payload_offset < table_end {
            return Err(corrupt("payload_offset", self.payload_offset));
        }
        self.payload_offset
            .checked_add(self.payload_size)
            .filter(|&end| end <= self.total_size)
            .map(|_| ())
            .ok_or_else(|| corrupt("payload_size", self.payload_size))
    }

    /// Checks that this boot, PID namespace and time namespace are the creator's.
    pub(crate) fn check_origin(&self, segment: &str, here: &Identity) -> Result<(), Error> {
        if self.boot_id != here.boot_id {
            return Err(Error::OtherBoot {
                segment: segment.to_owned(),
            });
        }
        if self.pid_namespace != here.pid_namespace {
            return Err(mismatch(
                segment,
                Field::PidNamespace,
                here.pid_namespace,
                self.pid_namespace,
            ));
        }
        if self.time_namespace != here.time_namespace {
            let (expected, found) = (here.time_namespace, self.time_namespace);
            return Err(mismatch(segment, Field::TimeNamespace, expected, found));
        }
        Ok(())
    }

    /// Checks that what lives in the segment is what the caller opens it as.
    pub(crate) fn check_contents(&self, segment: &str, spec: &Spec) -> Result<(), Error> {
        if self.kind != spec.kind.0 {
            let found = format!("{} ({})", Kind(self.kind), self.label());
            return Err(mismatch(segment, Field::Kind, spec.kind, found));
        }
        if self.kind_version != spec.kind_version {
            return Err(mismatch(
                segment,
                Field::KindVersion,
                spec.kind_version,
                self.kind_version,
            ));
        }
        if self.type_size != spec.type_size {
            return Err(mismatch(
                segment,
                Field::TypeSize,
                spec.type_size,
                self.type_size,
            ));
        }
        if self.type_align != spec.type_align {
            return Err(mismatch(
                segment,
                Field::TypeAlign,
                spec.type_align,
                self.type_align,
            ));
        }
        if self.type_tag != spec.type_tag {
            let expected = format!("{:#x} ({})", spec.type_tag, spec.label);
            let found = format!("{:#x} ({})", self.type_tag, self.label());
            return Err(mismatch(segment, Field::TypeTag, expected, found));
        }
        if self.payload_size < spec.size {
            let (expected, found) = (format!("{} or more", spec.size), self.payload_size);
            return Err(mismatch(segment, Field::Size, expected, found));
        }
        Ok(())
    }

    /// What the creator calls the contents; bytes that are not UTF-8 show as replacement characters.
    pub(crate) fn label(&self) -> String {
        let end = self
            .label
            .iter()
            .position(|&b| b == 0)
            .unwrap_or(self.label.len());
        String::from_utf8_lossy(&self.label[..end]).into_owned()
    }
}

/// What lives in a segment: four ASCII bytes, `"MUTX"` for instance.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub [u8; 4]);

impl Kind {
    /// Plain bytes without a structure.
    pub const BYTES: Self = Self(*b"BYTE");
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({self})")
    }
}

/// Where things lie in a segment that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) participants: u32,
    pub(crate) payload_offset: u64,
    pub(crate) total: u64,
}

impl Sizes {
    /// Lays out header, participant table and payload; `None` if the sum leaves the address space.
    pub(crate) fn of(spec: &Spec, participants: u32) -> Option<Self> {
        let table_end = HEADER_SIZE as u64 + u64::from(participants) * PARTICIPANT_SIZE as u64;
        let payload_offset = table_end.checked_next_multiple_of(u64::from(spec.align.max(64)))?;
        let total = payload_offset
            .checked_add(spec.size)
            .filter(|&t| t <= i64::MAX as u64)?;
        Some(Self {
            participants,
            payload_offset,
            total,
        })
    }
}

pub(crate) fn mismatch(
    segment: &str,
    field: Field,
    expected: impl ToString,
    found: impl ToString,
) -> Error {
    let (expected, found) = (expected.to_string(), found.to_string());
    Error::Mismatch {
        segment: segment.to_owned(),
        field,
        expected,
        found,
    }
}

fn truncated(segment: &str, size: u64, needed: u64) -> Error {
    Error::Truncated {
        segment: segment.to_owned(),
        size,
        needed,
    }
}
