//! The life of a small segment: create, open a second time, touch through both, unlink and unmap; with and without a crowd of others.

use std::any::Any;
use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::OFlag;
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::Mode;
use serde_json::json;
use shm_core::{Place, Segment};

use super::{Report, number, rotated};
use crate::clock::now;
use crate::options::{Part, Plan};
use crate::statistics::{median, quotients};
use crate::table::{Table, figure};
use crate::variants::absent;

/// Bytes of a segment.
const SIZE: usize = 4096;

/// How many other segments of the same library exist.
const CROWDS: [usize; 2] = [0, 1000];

/// One library's segments.
trait Library {
    /// In the table.
    fn name(&self) -> &'static str;
    /// The whole life of one segment.
    fn live(&self, name: &str) -> io::Result<()>;
    /// Makes one that stays until the value is dropped.
    fn keep(&self, name: &str) -> io::Result<Box<dyn Any>>;
}

/// All libraries of this build; the first is the reference.
fn libraries() -> Vec<Box<dyn Library>> {
    vec![
        Box::new(Bare),
        Box::new(Ours),
        #[cfg(feature = "rivals")]
        Box::new(SharedMemory),
    ]
}

/// Measures and reports.
///
/// # Errors
///
/// What the system or a library says.
pub fn measure(run: &str, plan: &Plan) -> io::Result<Report> {
    let libraries = libraries();
    let mut found = vec![[const { Vec::new() }; CROWDS.len()]; libraries.len()];
    for round in 0..=plan.rounds {
        for at in rotated(libraries.len(), round) {
            for (crowd, times) in CROWDS.into_iter().zip(&mut found[at]) {
                let time = lives(libraries[at].as_ref(), run, crowd, plan.lives)?;
                // The first round warms up.
                if round > 0 {
                    times.push(time);
                }
            }
        }
    }

    let columns = ["library", "us", "x bare", "us among 1,000", "x alone"];
    let mut table = Table::new("Life of a 4 KiB segment: create, open, unlink", &columns);
    let mut rows = Vec::new();
    for (library, times) in libraries.iter().zip(&found) {
        let [alone, among] = [0, 1].map(|crowd| median(&times[crowd]));
        let bare = median(&quotients(&times[0], &found[0][0]));
        let growth = median(&quotients(&times[1], &times[0]));
        table.row(vec![
            library.name().to_owned(),
            figure(alone, 1),
            figure(bare, 2),
            figure(among, 1),
            figure(growth, 2),
        ]);
        rows.push(json!({
            "library": library.name(),
            "us_alone": number(alone),
            "to_bare": number(bare),
            "us_among_1000": number(among),
            "growth": number(growth),
        }));
    }
    table.note(
        "Both handles touch the segment; the others in /dev/shm are segments of the same library.",
    );
    for line in absent(&["shared_memory 0.12"]) {
        table.note(line);
    }
    Ok(Report {
        part: Part::Segment,
        table,
        rows,
        failures: Vec::new(),
    })
}

/// The median time of a life among `crowd` others, in microseconds.
fn lives(library: &dyn Library, run: &str, crowd: usize, lives: usize) -> io::Result<f64> {
    let others = (0..crowd).map(|other| library.keep(&format!("{run}other.{other}")));
    let _others: Vec<Box<dyn Any>> = others.collect::<io::Result<_>>()?;
    let life = |life| {
        let name = format!("{run}life.{life}");
        let began = now();
        library.live(&name)?;
        Ok((now() - began) as f64 / 1e3)
    };
    Ok(median(
        &(0..lives).map(life).collect::<io::Result<Vec<_>>>()?,
    ))
}

/// Writes the first byte through one mapping and reads it through another.
fn touch(writer: *mut u8, reader: *const u8) -> io::Result<()> {
    // SAFETY: both start a mapping of a whole page of one segment, which nobody else has opened.
    unsafe { writer.write_volatile(0x5a) };
    // SAFETY: as above; a byte is always a value.
    let seen = unsafe { reader.read_volatile() };
    same(seen)
}

fn same(seen: u8) -> io::Result<()> {
    if seen == 0x5a {
        Ok(())
    } else {
        Err(io::Error::other("two mappings of one segment differ"))
    }
}

/// `shm_open`, `ftruncate`, `mmap`: the least that a named segment needs.
struct Bare;

impl Bare {
    fn create(name: &str) -> io::Result<(File, Name)> {
        let file = File::from(shm_open(
            name,
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR,
            Mode::from_bits_truncate(0o600),
        )?);
        let name = Name(name.to_owned());
        file.set_len(SIZE as u64)?;
        Ok((file, name))
    }

    fn map(file: &File) -> io::Result<MmapRaw> {
        MmapOptions::new().len(SIZE).map_raw(file)
    }
}

/// Removes the name when it is dropped.
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        // Gone already: as wanted.
        let _ = shm_unlink(self.0.as_str());
    }
}

impl Library for Bare {
    fn name(&self) -> &'static str {
        "bare shm_open, ftruncate, mmap"
    }

    fn live(&self, name: &str) -> io::Result<()> {
        let (file, unlink) = Self::create(name)?;
        let created = Self::map(&file)?;
        let opened = Self::map(&File::from(shm_open(name, OFlag::O_RDWR, Mode::empty())?))?;
        touch(created.as_mut_ptr(), opened.as_ptr())?;
        drop(unlink);
        Ok(())
    }

    fn keep(&self, name: &str) -> io::Result<Box<dyn Any>> {
        let (file, unlink) = Self::create(name)?;
        Ok(Box::new((Self::map(&file)?, unlink)))
    }
}

/// The crate `shm-core`: published whole, checked when opened, allocated when created.
struct Ours;

impl Library for Ours {
    fn name(&self) -> &'static str {
        "shm-core"
    }

    fn live(&self, name: &str) -> io::Result<()> {
        let created = Segment::create(name, SIZE).map_err(io::Error::other)?;
        let opened = Segment::open(name, SIZE).map_err(io::Error::other)?;
        let mut seen = [0];
        created.write(0, &[0x5a]).map_err(io::Error::other)?;
        opened.read(0, &mut seen).map_err(io::Error::other)?;
        same(seen[0])?;
        created.unlink().map_err(io::Error::other)
    }

    fn keep(&self, name: &str) -> io::Result<Box<dyn Any>> {
        let place = Place::named(name).unlink_on_drop(true);
        Ok(Box::new(
            Segment::create(place, SIZE).map_err(io::Error::other)?,
        ))
    }
}

/// The crate `shared_memory`.
#[cfg(feature = "rivals")]
struct SharedMemory;

#[cfg(feature = "rivals")]
impl Library for SharedMemory {
    fn name(&self) -> &'static str {
        "shared_memory"
    }

    fn live(&self, name: &str) -> io::Result<()> {
        let new = shared_memory::ShmemConf::new;
        let created = new()
            .size(SIZE)
            .os_id(name)
            .create()
            .map_err(io::Error::other)?;
        let opened = new().os_id(name).open().map_err(io::Error::other)?;
        // The creator's drop unlinks.
        touch(created.as_ptr(), opened.as_ptr())
    }

    fn keep(&self, name: &str) -> io::Result<Box<dyn Any>> {
        let conf = shared_memory::ShmemConf::new().size(SIZE).os_id(name);
        Ok(Box::new(conf.create().map_err(io::Error::other)?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{libraries, lives};
    use crate::process::SHM;

    #[test]
    fn lives_leave_no_name_behind() {
        let run = format!("shm-bench-life.{}.", std::process::id());
        for library in libraries() {
            assert!(lives(library.as_ref(), &run, 3, 2).unwrap() > 0.0);
        }
        let names = fs::read_dir(SHM)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert_eq!(
            names
                .filter(|name| name.to_string_lossy().contains(&run))
                .count(),
            0
        );
    }

    #[test]
    fn kept_segment_exists_until_it_is_dropped() {
        for library in libraries() {
            let name = format!("shm-bench-kept.{}", std::process::id());
            let exists = || {
                fs::read_dir(SHM)
                    .unwrap()
                    .any(|entry| entry.unwrap().file_name().to_string_lossy().contains(&name))
            };
            let kept = library.keep(&name).unwrap();
            assert!(exists(), "{}", library.name());
            drop(kept);
            assert!(!exists(), "{}", library.name());
        }
    }
}
