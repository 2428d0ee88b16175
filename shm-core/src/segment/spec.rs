//! What lives in a segment: kind, type, size.

use std::mem::{align_of, size_of};

use super::header::Kind;

/// The most that a payload, and so the type in it, can be aligned to: a page.
pub(super) const MAX_ALIGN: u32 = 4096;

/// What a segment holds; `create` writes it down, `open` compares it.
///
/// A number of bytes converts into one: `Segment::create("frames", 4096)`.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(crate) kind: Kind,
    pub(crate) kind_version: u32,
    /// Payload size in bytes at creation; at least that much when opening.
    pub(crate) size: u64,
    pub(crate) align: u32,
    /// Bytes of the payload to allocate at creation.
    pub(crate) reserve: u64,
    pub(crate) type_size: u64,
    pub(crate) type_align: u32,
    pub(crate) type_tag: u64,
    pub(crate) label: String,
    /// Participant slots that the contents need even in a region.
    pub(crate) participants: u32,
    pub(crate) locked: bool,
}

impl Spec {
    /// Plain bytes.
    #[must_use]
    pub fn bytes(size: u64) -> Self {
        Self::new(Kind::BYTES, 1, size)
    }

    /// A payload of `size` bytes of a given kind; without an element type.
    #[must_use]
    pub fn new(kind: Kind, kind_version: u32, size: u64) -> Self {
        Self {
            kind,
            kind_version,
            size,
            align: 64,
            reserve: size,
            type_size: 0,
            type_align: 0,
            type_tag: 0,
            label: kind.to_string(),
            participants: 0,
            locked: false,
        }
    }

    /// Says which element type is in it: size, alignment and a tag, by default a hash of its name.
    #[must_use]
    pub fn of_type<T>(mut self) -> Self {
        self.type_size = size_of::<T>() as u64;
        self.type_align = align_of::<T>() as u32;
        self.label = format!("{}<{}>", self.label, std::any::type_name::<T>());
        self.type_tag = fnv1a(std::any::type_name::<T>().as_bytes());
        self
    }

    /// Says in words which element type is in it, where its size is not its values' size.
    #[doc(hidden)]
    #[must_use]
    pub fn of_type_named(self, name: &str) -> Self {
        self.tagged(Some(name))
    }

    /// What people call it; the first 64 bytes are kept.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Alignment of the payload, a power of two from 64 to 4096.
    #[must_use]
    pub fn align(mut self, align: u32) -> Self {
        self.align = align.clamp(64, MAX_ALIGN).next_power_of_two();
        self
    }

    /// Allocates only the first `bytes` of the payload at creation; the rest by
    /// [`Segment::allocate`](crate::Segment::allocate) before its first use.
    #[must_use]
    pub fn reserve(mut self, bytes: u64) -> Self {
        self.reserve = bytes.min(self.size);
        self
    }

    /// Participant slots that the contents need.
    #[must_use]
    pub fn participants(mut self, slots: u32) -> Self {
        self.participants = slots;
        self
    }

    /// Says that a lock is in it: [`Segment::write`](crate::Segment::write) is refused once it is
    /// published, since it knows nothing of who holds the lock.
    #[doc(hidden)]
    #[must_use]
    pub fn locked(mut self) -> Self {
        self.locked = true;
        self
    }

    pub(crate) fn tagged(mut self, tag: Option<&str>) -> Self {
        if let Some(tag) = tag {
            self.type_tag = fnv1a(tag.as_bytes());
            self.label = tag.to_owned();
        }
        self
    }
}

impl From<usize> for Spec {
    fn from(size: usize) -> Self {
        Self::bytes(size as u64)
    }
}

/// FNV-1a, 64 bits: a fixed hash for tags, not for tables.
///
/// Source: Fowler, Noll, Vo; draft-eastlake-fnv.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_gives_the_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn types_of_one_size_differ_by_tag() {
        let spec = || Spec::new(Kind(*b"TEST"), 1, 8);
        assert_ne!(
            spec().of_type::<u64>().type_tag,
            spec().of_type::<i64>().type_tag
        );
        let tag = |t| spec().of_type::<u64>().tagged(Some(t)).type_tag;
        assert_eq!(
            tag("x.v1"),
            spec().of_type::<i64>().tagged(Some("x.v1")).type_tag
        );
        assert_ne!(tag("x.v1"), tag("x.v2"));
    }
}
