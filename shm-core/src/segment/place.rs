//! Where a segment lives and how it is made: a name, a file, a memfd, or memory of the caller's.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Region, SegmentHandle, name};
use crate::error::Error;

/// Directory of the named segments.
pub const DIRECTORY: &str = "/dev/shm";

/// A place for a segment, with the options of its creation.
///
/// Every primitive of the family takes `impl Into<Place>`, so that a plain name will do:
/// `Mutex::open("tickets")`. The options are for `create` and `open_or_create`; opening ignores
/// those that only a creator decides.
///
/// # Examples
/// ```
/// use shm_core::{Place, Segment};
///
/// // By name, gone with its creator; without a name, to be handed over as a descriptor.
/// # let name = format!("doc-place-{}", std::process::id());
/// let named = Segment::create(Place::named(&name).unlink_on_drop(true), 4096)?;
/// let anonymous = Segment::create(Place::anonymous(), 4096)?;
/// # assert_eq!(named.size(), anonymous.size());
/// # Ok::<(), shm_core::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a place does nothing until a segment is created or opened in it"]
pub struct Place {
    pub(crate) origin: Origin,
    pub(crate) mode: u32,
    pub(crate) unlink_on_drop: bool,
    pub(crate) reserve_all: bool,
    pub(crate) participants: Option<u32>,
    pub(crate) type_tag: Option<String>,
    pub(crate) trusted_owner: Option<u32>,
    pub(crate) generation: Option<u64>,
    pub(crate) scope: Option<super::scope::Members>,
}

/// Where the memory comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    Named(String),
    File(PathBuf),
    Anonymous,
    Descriptor(OwnedFd),
    Inherited(i32),
    Region(Region),
}

impl Place {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            mode: 0o600,
            unlink_on_drop: false,
            reserve_all: false,
            participants: None,
            type_tag: None,
            trusted_owner: None,
            generation: None,
            scope: None,
        }
    }

    /// A name that every process of this user on this machine finds: a file in `/dev/shm`.
    ///
    /// 1..=200 bytes of `[A-Za-z0-9._-]`, the first one alphanumeric; checked at use.
    pub fn named(name: impl Into<String>) -> Self {
        Self::new(Origin::Named(name.into()))
    }

    /// A file on a local file system, named by its path.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Origin::File(path.into()))
    }

    /// No name: a sealed memfd, for descriptors sent over a socket or inherited. Only to create.
    pub fn anonymous() -> Self {
        Self::new(Origin::Anonymous)
    }

    /// A descriptor that somebody handed over ([`recv_fd`](crate::recv_fd)). Only to open.
    pub fn fd(descriptor: OwnedFd) -> Self {
        Self::new(Origin::Descriptor(descriptor))
    }

    /// A descriptor that this process inherited, by its number
    /// ([`Segment::inheritable_fd`](crate::Segment::inheritable_fd)). Only to open.
    pub fn inherited(number: i32) -> Self {
        Self::new(Origin::Inherited(number))
    }

    /// Memory of the caller's own.
    pub fn region(region: Region) -> Self {
        Self::new(Origin::Region(region))
    }

    /// File mode at creation; 0600 unless set. Exact: the umask does not change it.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Whether the name goes when the creator's last handle is dropped.
    ///
    /// If the creator dies instead, the name goes as soon as somebody meets it ([`sweep`],
    /// [`list`], a `create` of the same name) and no living process is attached. A forked child's
    /// drop leaves the name alone, and its inherited handles do not keep it.
    ///
    /// [`sweep`]: crate::sweep
    /// [`list`]: crate::list
    pub fn unlink_on_drop(mut self, yes: bool) -> Self {
        self.unlink_on_drop = yes;
        self
    }

    /// Allocates all memory at creation, also what a growing structure would allocate on its way.
    pub fn reserve_all(mut self) -> Self {
        self.reserve_all = true;
        self
    }

    /// How many attachments the segment keeps track of: 240 unless set (0 in a region, unless what
    /// lives there needs more). One more than that is refused with
    /// [`Error::TooManyParticipants`]; each costs 16 bytes.
    pub fn participants(mut self, slots: u32) -> Self {
        self.participants = Some(slots.min(1 << 20));
        self
    }

    /// A name for the element type that is compared instead of Rust's own, which may differ between
    /// two programs: `"ticket.v1"`.
    pub fn type_tag(mut self, tag: impl Into<String>) -> Self {
        self.type_tag = Some(tag.into());
        self
    }

    /// Trusts segments of the user `uid` too; otherwise only those of the caller's effective user.
    ///
    /// Whoever may write to a segment may make a process that has a lock in it misbehave.
    pub fn trust_owner(mut self, uid: u32) -> Self {
        self.trusted_owner = Some(uid);
        self
    }

    /// What errors call this place.
    pub(crate) fn display_name(&self) -> String {
        match &self.origin {
            Origin::Named(name) => name.clone(),
            Origin::File(path) => path.display().to_string(),
            Origin::Anonymous | Origin::Descriptor(_) => "(anonymous)".to_owned(),
            Origin::Inherited(number) => format!("(descriptor {number})"),
            Origin::Region(_) => "(region)".to_owned(),
        }
    }

    /// The path of a place that has one.
    pub(crate) fn path(&self) -> Result<Option<PathBuf>, Error> {
        match &self.origin {
            Origin::Named(name) => path_of(name).map(Some),
            Origin::File(path) => Ok(Some(path.clone())),
            _ => Ok(None),
        }
    }
}

/// A path that leads there also from another directory, into which this process may change before the name goes; the
/// one that was given if there is none, such as below a directory that may not be searched, or under a mount.
pub(super) fn wherever(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).ok();
    let leads_there = |other: &PathBuf| path.is_absolute() || is_beside(path, other);
    absolute
        .filter(leads_there)
        .unwrap_or_else(|| path.to_owned())
}

/// Whether both paths are of one directory.
fn is_beside(path: &Path, other: &Path) -> bool {
    let directory = |path: &Path| {
        let above = path.parent().filter(|above| *above != Path::new(""));
        let metadata = above.unwrap_or(Path::new(".")).metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    directory(path).is_some_and(|id| directory(other) == Some(id))
}

/// The file of a named segment, after a check of the name.
pub(crate) fn path_of(segment: &str) -> Result<PathBuf, Error> {
    name::check(segment)?;
    Ok(Path::new(DIRECTORY).join(segment))
}

impl From<&str> for Place {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl From<String> for Place {
    fn from(name: String) -> Self {
        Self::named(name)
    }
}

impl From<&String> for Place {
    fn from(name: &String) -> Self {
        Self::named(name)
    }
}

impl From<OwnedFd> for Place {
    fn from(descriptor: OwnedFd) -> Self {
        Self::fd(descriptor)
    }
}

impl From<Region> for Place {
    fn from(region: Region) -> Self {
        Self::region(region)
    }
}

impl From<&SegmentHandle> for Place {
    /// Opens the very segment that the handle was taken from, or fails.
    fn from(handle: &SegmentHandle) -> Self {
        let mut place = Self::named(&handle.name);
        place.generation = Some(handle.generation);
        place
    }
}
