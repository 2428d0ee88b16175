//! Names for addresses: function and source line.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::{Object, ObjectKind, ObjectSymbol};

use super::Error;
use super::marks;

/// What the tool needs to know of the victims' program file.
#[derive(Debug)]
pub(crate) struct Symbols {
    path: PathBuf,
    relocatable: bool,
    pub(crate) start_mark: u64,
    pub(crate) end_mark: u64,
}

/// A file's place in a victim's memory; the same in every run, as addresses are not randomised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    start: u64,
    end: u64,
    path: PathBuf,
}

impl Symbols {
    pub(crate) fn read(program: &Path) -> Result<Self, Error> {
        let unreadable = |why: String| Error::Program {
            path: program.to_owned(),
            why,
        };
        let path = program
            .canonicalize()
            .map_err(|e| unreadable(e.to_string()))?;
        let bytes = fs::read(&path).map_err(|e| unreadable(e.to_string()))?;
        let file = object::File::parse(&*bytes).map_err(|e| unreadable(e.to_string()))?;
        let address = |name: &str| {
            let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
            symbol
                .map(|symbol| symbol.address())
                .ok_or_else(|| unreadable(format!("it has no symbol {name}; is it stripped?")))
        };
        Ok(Self {
            relocatable: file.kind() == ObjectKind::Dynamic,
            start_mark: address(marks::START)?,
            end_mark: address(marks::END)?,
            path,
        })
    }

    /// What is to be added to the file's addresses.
    pub(crate) fn base(&self, maps: &[Map]) -> u64 {
        let lowest = maps
            .iter()
            .filter(|map| map.path == self.path)
            .map(|map| map.start);
        if self.relocatable {
            lowest.min().unwrap_or(0)
        } else {
            0
        }
    }
}

/// The files mapped by process `pid`.
pub(crate) fn maps_of(pid: u32) -> Result<Vec<Map>, Error> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    Ok(text.lines().filter_map(parse_map).collect())
}

/// Where the kernel's code for fast calls lies; an empty range if nowhere.
pub(crate) fn vdso(maps: &[Map]) -> Range<u64> {
    let map = maps.iter().find(|map| map.path == Path::new("[vdso]"));
    map.map_or(0..0, |map| map.start..map.end)
}

/// `START-END PERMS OFFSET DEVICE INODE   PATH`
fn parse_map(line: &str) -> Option<Map> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    Some(Map {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        path: words.nth(4)?.into(),
    })
}

/// A place in the code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The function that was inlined last, or the symbol.
    pub function: String,
    /// `file:line`; empty without debug information.
    pub line: String,
    /// For code of the standard library, who called it: the function, and the line there.
    pub within: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        if !self.line.is_empty() {
            write!(f, " at {}", self.line)?;
        }
        if !self.within.is_empty() {
            write!(f, ", called by {}", self.within)?;
        }
        Ok(())
    }
}

/// Finds places; keeps the debug information of the files that were asked for.
#[derive(Default)]
pub(crate) struct Places {
    loaders: HashMap<PathBuf, Option<Loader>>,
}

/// One function of those that were inlined into each other at an address.
#[derive(Debug)]
struct Frame {
    function: String,
    line: String,
    /// Of the standard library or the C library: names no line that a reader would mend.
    foreign: bool,
}

impl Places {
    /// The place of the last of `pcs`; a foreign one's caller is the last before that is not.
    pub(crate) fn find(&mut self, pcs: &[u64], maps: &[Map]) -> Place {
        const LOOK_BACK: usize = 2000;
        let Some((&pc, before)) = pcs.split_last() else {
            return Place::default();
        };
        let mut frames = self.frames(pc, maps).into_iter();
        let mut place = Place::default();
        if let Some(frame) = frames.next() {
            (place.function, place.line) = (frame.function, frame.line);
            if !frame.foreign {
                return place;
            }
        }
        let own = |frame: &Frame| !frame.foreign;
        let caller = frames.find(own).or_else(|| {
            let mut earlier = before.iter().rev().take(LOOK_BACK);
            earlier.find_map(|&pc| self.frames(pc, maps).into_iter().find(own))
        });
        if let Some(frame) = caller {
            place.within = format!("{} at {}", frame.function, frame.line);
        }
        place
    }

    /// What is at `address`, the innermost function first; at least one.
    fn frames(&mut self, address: u64, maps: &[Map]) -> Vec<Frame> {
        let foreign = |function| {
            vec![Frame {
                function,
                line: String::new(),
                foreign: true,
            }]
        };
        let Some(map) = maps
            .iter()
            .find(|map| (map.start..map.end).contains(&address))
        else {
            return foreign(format!("{address:#x}"));
        };
        let same_file = maps.iter().filter(|other| other.path == map.path);
        let base = same_file.map(|map| map.start).min().unwrap_or(0);
        let loader = self
            .loaders
            .entry(map.path.clone())
            .or_insert_with(|| Loader::new(&map.path).ok());
        // A program at a fixed address knows itself by it.
        let found = loader.as_ref().map(|loader| {
            let mut found = [address - base, address]
                .into_iter()
                .map(|probe| look_up(loader, probe));
            found.find(|frames| !frames.is_empty()).unwrap_or_default()
        });
        match found {
            Some(frames) if !frames.is_empty() => frames,
            _ => {
                let file = map.path.file_name().unwrap_or_default().to_string_lossy();
                foreign(format!("{file}+{:#x}", address - base))
            }
        }
    }
}

fn look_up(loader: &Loader, probe: u64) -> Vec<Frame> {
    let mut found = Vec::new();
    if let Ok(mut frames) = loader.find_frames(probe) {
        while let Ok(Some(frame)) = frames.next() {
            let function = frame
                .function
                .and_then(|function| Some(function.demangle().ok()?.into_owned()));
            let file = frame.location.as_ref().and_then(|location| location.file);
            let line = frame.location.as_ref().and_then(|location| location.line);
            found.push(Frame {
                function: function.map_or("?".to_owned(), |name| without_hash(&name)),
                line: file.map_or(String::new(), |file| {
                    format!("{}:{}", short(file), line.unwrap_or(0))
                }),
                foreign: file.is_none_or(|file| {
                    file.starts_with("/rustc/") || file.contains("/library/std/")
                }),
            });
        }
    }
    if found.is_empty()
        && let Some(symbol) = loader.find_symbol(probe)
    {
        let name = addr2line::demangle_auto(symbol.into(), None);
        found.push(Frame {
            function: without_hash(&name),
            line: String::new(),
            foreign: true,
        });
    }
    found
}

/// The mangled name's hash tells a reader nothing.
fn without_hash(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 => rest.to_owned(),
        _ => name.to_owned(),
    }
}

/// The last three parts of a path.
fn short(path: &str) -> &str {
    let mut slashes = path.rmatch_indices('/');
    slashes.nth(2).map_or(path, |(at, _)| &path[at + 1..])
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.loaders.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_line_is_read() {
        let line = "555555554000-55555555a000 r--p 00000000 fe:00 1234    /usr/bin/toy";
        let map = parse_map(line).unwrap();
        assert_eq!(
            (map.start, map.path.to_str()),
            (0x5555_5555_4000, Some("/usr/bin/toy"))
        );
        assert_eq!(
            parse_map("7ffff7fc9000-7ffff7fcb000 rw-p 00000000 00:00 0 "),
            None
        );
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hash"), "a::hash");
        assert_eq!(short("/a/b/src/x.rs"), "b/src/x.rs");
        assert_eq!(short("src/x.rs"), "src/x.rs");
    }
}
