//! What exists: the named segments of this machine.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::time::Duration;

use super::header::{FLAG_UNLINK_ON_DROP, Header, Kind};
use super::open::read_header;
use super::place::path_of;
use super::{Backing, Segment, create, removal};
use crate::error::Error;
use crate::participant::ProcessId;
use crate::sys::{file, identity};

/// A named segment, as it was during [`list`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its name.
    pub name: String,
    /// What lives in it.
    pub kind: Kind,
    /// What its creator calls the contents.
    pub label: String,
    /// Size in bytes, header included.
    pub size: u64,
    /// Bytes of memory that are allocated to it.
    pub allocated: u64,
    /// Time since it was created; counts through suspend.
    pub age: Duration,
    /// User id of its owner.
    pub owner: u32,
    /// File mode.
    pub mode: u32,
    /// The process that created it, perhaps gone.
    pub creator: Option<ProcessId>,
    /// The living processes attached to it, each once.
    pub participants: Vec<ProcessId>,
    /// Whether the name goes with its creator.
    pub unlink_on_drop: bool,
    /// Which of all segments that ever had this name.
    pub generation: u64,
}

/// The named segments that this process may read, in the order of their names. Names that should
/// have gone with a creator who died are removed on the way, as [`sweep`](crate::sweep) does.
///
/// # Errors
/// [`Error::DirectoryMissing`], [`Error::PermissionDenied`], [`Error::TooManyDescriptors`],
/// [`Error::System`]. Files that are no segments, of another format version, or not
/// readable are passed over.
pub fn list() -> Result<Vec<SegmentInfo>, Error> {
    let mut names = removal::names()?;
    names.sort_unstable();
    Ok(names
        .iter()
        .filter_map(|name| look(name).ok().flatten())
        .collect())
}

fn look(name: &str) -> Result<Option<SegmentInfo>, Error> {
    let path = path_of(name)?;
    if removal::reclaim(name, &path).unwrap_or(false) {
        return Ok(None);
    }
    let file = file::open(name, &path, true)?;
    let stat = file::stat(name, &file)?;
    let header = read_header(name, &file)?;
    header.check_sizes(name, stat.st_size as u64)?;
    let mut info = SegmentInfo {
        name: name.to_owned(),
        kind: Kind(header.kind),
        label: header.label(),
        size: header.total_size,
        allocated: stat.st_blocks as u64 * 512,
        age: Duration::from_nanos(identity::boot_time().saturating_sub(header.created)),
        owner: stat.st_uid,
        mode: stat.st_mode & 0o777,
        creator: ProcessId::from_bits(header.claim),
        participants: Vec::new(),
        unlink_on_drop: header.flags & FLAG_UNLINK_ON_DROP != 0,
        generation: header.generation,
    };
    let comparable = identity::here().is_ok_and(|here| header.check_origin(name, &here).is_ok());
    if comparable {
        info.participants = look_into(name, &file, &header)?.participants();
        info.participants.sort_unstable_by_key(|id| id.pid());
        info.participants.dedup();
    }
    Ok(Some(info))
}

/// A read-only mapping of a segment whose header was checked, to look at its participants.
pub(super) fn look_into(name: &str, file: &OwnedFd, header: &Header) -> Result<Segment, Error> {
    let (map, id) = create::map(name, file, header.total_size, true)?;
    let base = NonNull::new(map.as_mut_ptr()).ok_or_else(|| create::null_mapping(name))?;
    let file = file
        .try_clone()
        .map_err(|error| Error::from_io(name, "dup", error))?;
    let backing = Backing::File { map, file, id };
    Ok(create::assemble(
        name.to_owned(),
        base,
        header.clone(),
        backing,
    ))
}
