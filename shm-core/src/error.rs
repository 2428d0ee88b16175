//! The one error type of segments: every variant names the segment, and what about it.

use std::fmt;
use std::io;

/// A segment operation that did not happen. Nothing is half done when one of these comes back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot name a segment.
    #[error("{name:?} is not a segment name: {problem}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        problem: NameProblem,
    },
    /// A size of zero bytes was asked for.
    #[error("segment {segment}: a size of 0 bytes was asked for")]
    ZeroSize {
        /// The segment.
        segment: String,
    },
    /// The size is beyond what the file system or the address space can hold.
    #[error("segment {segment}: {requested} bytes are more than can be mapped here")]
    TooLarge {
        /// The segment.
        segment: String,
        /// Bytes asked for.
        requested: u64,
    },
    /// `create` met a segment of that name.
    #[error("segment {segment} exists already")]
    AlreadyExists {
        /// The segment.
        segment: String,
    },
    /// `open` or `unlink` met no segment of that name.
    #[error("segment {segment} does not exist")]
    NotFound {
        /// The segment.
        segment: String,
    },
    /// The directory that holds named segments is not there.
    #[error("segment {segment}: the directory {directory} does not exist")]
    DirectoryMissing {
        /// The segment.
        segment: String,
        /// The directory looked for.
        directory: String,
    },
    /// The file mode or the directory mode does not let this process in.
    #[error("segment {segment}: permission denied ({call})")]
    PermissionDenied {
        /// The segment.
        segment: String,
        /// The system call that was refused.
        call: &'static str,
    },
    /// The segment belongs to another user, whom the caller did not name as trusted.
    #[error("segment {segment} belongs to user {owner}; only user {trusted} is trusted")]
    ForeignOwner {
        /// The segment.
        segment: String,
        /// User id of the file's owner.
        owner: u32,
        /// User id that is trusted.
        trusted: u32,
    },
    /// There is a file of that name, but it is not one of ours (no magic, or not a regular file).
    #[error("{segment} is not a segment: {why}")]
    NotASegment {
        /// The segment.
        segment: String,
        /// What was found instead.
        why: &'static str,
    },
    /// The file or region is shorter than its header, or than its header says.
    #[error("segment {segment} is truncated: {size} bytes, {needed} needed")]
    Truncated {
        /// The segment.
        segment: String,
        /// Bytes there are.
        size: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The segment is valid, but it is not what the caller opens it as.
    #[error("segment {segment}: {field} is {found}, expected {expected}")]
    Mismatch {
        /// The segment.
        segment: String,
        /// The header field that differs.
        field: Field,
        /// What the caller (or this machine) has.
        expected: String,
        /// What the segment has.
        found: String,
    },
    /// The segment was made before the last reboot; its lock words name processes that are gone.
    #[error("segment {segment} is of another boot of this machine; unlink it and create it anew")]
    OtherBoot {
        /// The segment.
        segment: String,
    },
    /// A region whose creator has not finished (`creator` lives), or that nobody created in (`None`).
    #[error("segment {segment} is not ready: {}", not_ready(*.creator))]
    NotReady {
        /// The segment.
        segment: String,
        /// Process id of the creator at work, if there is one.
        creator: Option<u32>,
    },
    /// The file system has no room. Nothing was changed.
    #[error("segment {segment}: storage full, {need} bytes needed, {free} free")]
    StorageFull {
        /// The segment.
        segment: String,
        /// Bytes that had to be allocated.
        need: u64,
        /// Bytes that were free at that moment.
        free: u64,
    },
    /// A region of the caller's that is too small for what should live in it.
    #[error("segment {segment}: the region has {have} bytes, {need} are needed")]
    RegionTooSmall {
        /// The segment.
        segment: String,
        /// Bytes needed.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// A region, or a view into a segment, that is not aligned as it must be.
    #[error("segment {segment}: offset {offset} is not aligned to {align} bytes")]
    Misaligned {
        /// The segment.
        segment: String,
        /// Offset or address.
        offset: u64,
        /// Alignment needed, in bytes.
        align: u64,
    },
    /// An access outside the payload of a segment.
    #[error("segment {segment}: bytes {offset}..+{len} are outside of its {size} bytes")]
    OutOfBounds {
        /// The segment.
        segment: String,
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        len: u64,
        /// Payload size of the segment.
        size: u64,
    },
    /// Every participant slot is taken by a living process.
    #[error("segment {segment}: all {capacity} participant slots are taken by living processes")]
    TooManyParticipants {
        /// The segment.
        segment: String,
        /// Slots there are; `Place::participants` sets it at creation.
        capacity: u32,
    },
    /// The process or the system is out of file descriptors.
    #[error("segment {segment}: out of file descriptors ({call})")]
    TooManyDescriptors {
        /// The segment.
        segment: String,
        /// The system call that failed.
        call: &'static str,
    },
    /// A writing operation on a read-only attachment.
    #[error("segment {segment} is attached read-only")]
    ReadOnly {
        /// The segment.
        segment: String,
    },
    /// A named-segment operation on something without a name.
    #[error("segment {segment} has no name")]
    NotNamed {
        /// The segment.
        segment: String,
    },
    /// The name refers to another segment by now; it was left alone.
    #[error("the name {segment} refers to another segment by now")]
    Replaced {
        /// The segment.
        segment: String,
    },
    /// Another process held the name's file lock for longer than a second.
    #[error("segment {segment}: another process is busy creating or removing it")]
    Busy {
        /// The segment.
        segment: String,
    },
    /// Bytes in the segment that no process of this family writes.
    #[error("segment {segment} is corrupt: {field} is {value}")]
    Corrupt {
        /// The segment.
        segment: String,
        /// The field.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// The system cannot do it (file system without O_TMPFILE, foreign C library, no /proc).
    #[error("segment {segment}: not supported here: {what}")]
    Unsupported {
        /// The segment.
        segment: String,
        /// What is missing.
        what: &'static str,
    },
    /// Any other answer of the operating system.
    #[error("segment {segment}: {call} failed")]
    System {
        /// The segment.
        segment: String,
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
}

fn not_ready(creator: Option<u32>) -> String {
    match creator {
        Some(pid) => format!("process {pid} is creating it"),
        None => "nobody created anything in it".to_owned(),
    }
}

/// Longest name, in bytes: room is left below the file system's 255 for what tools append.
pub const MAX_NAME: usize = 200;

/// What is wrong with a segment name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// No character at all.
    #[error("it is empty")]
    Empty,
    /// More than [`MAX_NAME`](crate::MAX_NAME) bytes.
    #[error("it has {len} bytes, at most {max} are allowed", max = MAX_NAME)]
    TooLong {
        /// Bytes in the name.
        len: usize,
    },
    /// A character outside `[A-Za-z0-9._-]`, or a first one that is not alphanumeric.
    #[error("{character:?} at byte {at} is not allowed there ([A-Za-z0-9._-], first [A-Za-z0-9])")]
    Character {
        /// The character.
        character: char,
        /// Its byte position.
        at: usize,
    },
}

/// A header field that `open` compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// Version of the segment format.
    FormatVersion,
    /// Order of the bytes in a word.
    ByteOrder,
    /// Size of a pointer, in bytes.
    WordSize,
    /// C library whose robust list the lock words are laid out for.
    LockAbi,
    /// What lives in the segment.
    Kind,
    /// Version of that kind's layout.
    KindVersion,
    /// Size of the element type, in bytes.
    TypeSize,
    /// Alignment of the element type, in bytes.
    TypeAlign,
    /// Tag of the element type: a hash of its name, or of the tag that the program set.
    TypeTag,
    /// Payload size, in bytes.
    Size,
    /// Number of elements.
    Length,
    /// PID namespace of the creator: process ids mean something else in another one.
    PidNamespace,
    /// Time namespace of the creator: start times mean something else in another one.
    TimeNamespace,
    /// Generation: which of all segments that ever had this name.
    Generation,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FormatVersion => "format version",
            Self::ByteOrder => "byte order",
            Self::WordSize => "word size",
            Self::LockAbi => "lock ABI",
            Self::Kind => "kind",
            Self::KindVersion => "kind version",
            Self::TypeSize => "type size",
            Self::TypeAlign => "type alignment",
            Self::TypeTag => "type tag",
            Self::Size => "size",
            Self::Length => "length",
            Self::PidNamespace => "PID namespace",
            Self::TimeNamespace => "time namespace",
            Self::Generation => "generation",
        })
    }
}

impl Error {
    /// Sorts a failed system call into the variant that says most.
    #[cfg(not(loom))]
    pub(crate) fn from_errno(segment: &str, call: &'static str, errno: nix::errno::Errno) -> Self {
        use nix::errno::Errno;
        let segment = segment.to_owned();
        match errno {
            Errno::EACCES | Errno::EPERM | Errno::EROFS => Self::PermissionDenied { segment, call },
            Errno::EMFILE | Errno::ENFILE => Self::TooManyDescriptors { segment, call },
            errno => Self::System {
                segment,
                call,
                source: errno.into(),
            },
        }
    }

    /// As `from_errno`, for what the standard library calls.
    #[cfg(not(loom))]
    pub(crate) fn from_io(segment: &str, call: &'static str, source: std::io::Error) -> Self {
        match source.raw_os_error() {
            Some(errno) => Self::from_errno(segment, call, nix::errno::Errno::from_raw(errno)),
            None => Self::System {
                segment: segment.to_owned(),
                call,
                source,
            },
        }
    }
}
