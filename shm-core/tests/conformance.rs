//! `_TestSharedMemory` and `TestResourceTracker` of CPython's suite for multiprocessing: the same facts, under the same
//! names, with real processes. Its lists are in `shm-value`.
//!
//! | there | here |
//! |---|---|
//! | a size on attaching is ignored | it is the least that the segment must have, or `Mismatch` |
//! | no name: one is made up, and another if it is taken | the caller names it, and a name that is taken is `AlreadyExists` |
//! | a negative size, none, a name of none | cannot be written; a size of -1 read as unsigned is `TooLarge` |
//! | `close` twice is harmless | a handle is dropped once; a clone of it lives on |
//! | `SharedMemoryManager` | a `Scope`, in the process itself |
//! | the resource tracker, which may die, ignores signals, is shared and complains on standard error | there is none: whoever meets the name of a dead owner removes it (`sweep`, `list`, `create`) |
//!
//! What serialises needs the feature `serde`, which `cargo test --workspace` has on.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shm_core::{Error, Place, Scope, Segment};
use shm_testing::{Child, Peer, UniqueName, peer_main, wait_until, watchdog};

#[test]
fn peer() {
    peer_main(&[
        ("attaches", attaches as fn(&mut Peer)),
        ("writes by name", writes_by_name),
        #[cfg(feature = "serde")]
        ("writes by handle", serialised::writes_by_handle),
        ("owns two", owns_two),
        ("uses a scope", uses_a_scope),
    ]);
}

/// What `len` bytes of the segment say.
fn text(segment: &Segment, len: usize) -> String {
    let mut bytes = vec![0; len];
    segment.read(0, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn is_missing(name: &str) -> bool {
    matches!(Segment::open(name, 1), Err(Error::NotFound { .. }))
}

/// Whether the name goes by sweeping. Another test's sweep may be at it, whom this one does not wait for.
fn is_swept(name: &UniqueName) -> bool {
    let goes = || {
        shm_core::sweep().unwrap();
        !name.path().exists()
    };
    wait_until(goes, Duration::from_secs(10))
}

/// Attaches with the size that it is told, says what it finds, and ends.
fn attaches(peer: &mut Peer) {
    let size: usize = peer.args()[1].parse().unwrap();
    let said = match Segment::open(&peer.args()[0], size) {
        Ok(segment) => format!("{} {}", segment.size(), text(&segment, 1)),
        Err(error) => match error {
            Error::Mismatch { field, .. } => format!("{field:?}"),
            other => panic!("{other}"),
        },
    };
    peer.say(&said);
}

fn writes_by_name(peer: &mut Peer) {
    let segment = Segment::open(&peer.args()[0], 512).unwrap();
    segment.write(0, b"howdy").unwrap();
    peer.say("done");
}

/// Owns both names, which go with it.
fn owns_two(peer: &mut Peer) {
    let owned = |name: &String| Place::named(name).unlink_on_drop(true);
    let _first = Segment::create(owned(&peer.args()[0]), 10).unwrap();
    let _second = Segment::create(owned(&peer.args()[1]), 10).unwrap();
    peer.say("owns");
    peer.hear();
}

fn uses_a_scope(peer: &mut Peer) {
    let scope = Scope::new();
    Segment::create(scope.place(&peer.args()[0]), 64).unwrap();
    assert!(!is_missing(&peer.args()[0]));
    peer.say("used");
}

#[test]
fn test_shared_memory_basics() {
    let _watchdog = watchdog();
    let name = UniqueName::new("tsmb");
    let segment = Segment::create(&*name, 512).unwrap();
    assert_eq!(segment.name(), &*name);
    assert_eq!(segment.size(), 512);
    let shown = format!("{segment:?}");
    assert!(shown.contains(&*name) && shown.contains("512"), "{shown}");
    segment.write(0, b"*").unwrap();
    assert_eq!(text(&segment, 1), "*");

    // Attached by others: with its size, with a smaller one, with a larger one.
    let attached = |size: &str, said: &str| Child::spawn("attaches", &[&name, size]).expect(said);
    attached("512", "512 *");
    attached("1", "512 *");
    attached("10240", "Size");

    // To close one handle is to close no other.
    let other = segment.clone();
    drop(other);
    assert_eq!(text(&segment, 1), "*");

    let taken = Segment::create(&*name, 512).unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    // Created unless it exists: attached.
    let attached = Segment::open_or_create(&*name, 512).unwrap();
    assert_eq!(attached.generation(), segment.generation());
    assert_eq!(text(&attached, 1), "*");
    assert!(is_missing(&UniqueName::new("notthere")));

    // Unlinked through one handle, then through another: the second time there is nothing.
    let name = UniqueName::new("dblunlink");
    let uno = Segment::create(&*name, 5000).unwrap();
    let duo = Segment::open(&*name, 5000).unwrap();
    duo.unlink().unwrap();
    drop(duo);
    let gone = uno.unlink().unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
    assert!(is_missing(&name));
    uno.write(4995, b"still").unwrap();
}

/// A name that is taken is refused, and the next one serves; one that was unlinked is free again, and is another segment.
#[test]
fn test_shared_memory_recreate() {
    let _watchdog = watchdog();
    let names = [UniqueName::new("fn-first"), UniqueName::new("fn-second")];
    let first_free = || {
        let made = names.iter().map(|name| Segment::create(&**name, 1));
        made.flatten().next().unwrap()
    };
    let shm1 = first_free();
    assert_eq!(shm1.name(), &*names[0]);
    let shm2 = first_free();
    assert_eq!(shm2.name(), &*names[1]);

    shm1.write(0, b"1").unwrap();
    shm1.unlink().unwrap();
    let again = first_free();
    assert_eq!(again.name(), &*names[0]);
    again.write(0, b"2").unwrap();
    Child::spawn("attaches", &[&names[0], "1"]).expect("1 2");
    assert_eq!(text(&shm1, 1), "1", "the old one is its own memory");
    assert_ne!(again.generation(), shm1.generation());
}

/// As CPython spells it.
#[test]
fn test_invalid_shared_memory_cration() {
    let name = UniqueName::new("cration");
    let create = |size: usize| Segment::create(&*name, size).unwrap_err();
    assert!(matches!(create(-1_isize as usize), Error::TooLarge { .. }));
    assert!(matches!(create(0), Error::ZeroSize { .. }));
    let nameless = Segment::open("", 1).unwrap_err();
    assert!(matches!(nameless, Error::InvalidName { .. }), "{nameless}");
    assert!(is_missing(&name), "nothing was left");
}

#[test]
fn test_shared_memory_across_processes() {
    let _watchdog = watchdog();
    let name = UniqueName::new("across");
    let segment = Segment::create(&*name, 512).unwrap();
    Child::spawn("writes by name", &[&name]).expect("done");
    assert_eq!(text(&segment, 5), "howdy");
    #[cfg(feature = "serde")]
    {
        let handle = serialised::of(&segment);
        Child::spawn("writes by handle", &[&handle, "HELLO"]).expect("done");
        assert_eq!(text(&segment, 5), "HELLO");
    }
}

#[cfg(feature = "serde")]
mod serialised {
    use super::*;
    use shm_core::{Field, SegmentHandle};

    pub(super) fn of(segment: &Segment) -> String {
        serde_json::to_string(&segment.handle().unwrap()).unwrap()
    }

    fn open(text: &str) -> Result<Segment, Error> {
        let handle: SegmentHandle = serde_json::from_str(text).unwrap();
        Segment::open(&handle, 512)
    }

    /// Writes what it is told; with nothing to write, finds nothing.
    pub(super) fn writes_by_handle(peer: &mut Peer) {
        match open(&peer.args()[0]) {
            Ok(segment) => segment.write(0, peer.args()[1].as_bytes()).unwrap(),
            Err(Error::NotFound { .. }) => return peer.say("not found"),
            Err(other) => panic!("{other}"),
        }
        peer.say("done");
    }

    #[test]
    fn test_shared_memory_pickle_unpickle() {
        let _watchdog = watchdog();
        let name = UniqueName::new("pickle");
        let sms = Segment::create(&*name, 512).unwrap();
        sms.write(0, b"pickle").unwrap();
        let pickled = of(&sms);
        let sms2 = open(&pickled).unwrap();
        assert_eq!((sms2.name(), &*text(&sms2, 6)), (sms.name(), "pickle"));
        sms.write(0, b"newval").unwrap();
        assert_eq!(text(&sms2, 6), "newval");
        Child::spawn("writes by handle", &[&pickled, "oldval"]).expect("done");
        assert_eq!(
            [text(&sms, 6), text(&sms2, 6)],
            ["oldval", "oldval"].map(str::to_owned)
        );
    }

    #[test]
    fn test_shared_memory_pickle_unpickle_dead_object() {
        let _watchdog = watchdog();
        let name = UniqueName::new("pickle-dead");
        let sms = Segment::create(&*name, 512).unwrap();
        let pickled = of(&sms);
        sms.unlink().unwrap();
        drop(sms);
        Child::spawn("writes by handle", &[&pickled, "oldval"]).expect("not found");
        // And not another one that has the name by now.
        let _another = Segment::create(&*name, 512).unwrap();
        let error = open(&pickled).unwrap_err();
        assert!(
            matches!(error, Error::Mismatch { field, .. } if field == Field::Generation),
            "{error}"
        );
    }
}

/// The end of a scope takes all its names away, while those who are attached keep the memory.
#[test]
fn test_shared_memory_shared_memory_manager_basics() {
    let names: Vec<_> = (0..6).map(|_| UniqueName::new("managed")).collect();
    let scope = Scope::new();
    for (name, size) in names.iter().zip((32..128).step_by(16)) {
        Segment::create(scope.place(&**name), size).unwrap();
    }
    let doppelganger = Segment::open(&*names[0], 32).unwrap();
    assert_eq!(doppelganger.size(), 32);
    drop(scope);
    assert!(names.iter().all(|name| is_missing(name)));
    doppelganger.write(31, b"x").unwrap();
}

/// A process that ends in good order leaves no name, and nobody complains.
#[test]
fn test_shared_memory_shared_memory_manager_reuses_resource_tracker() {
    let _watchdog = watchdog();
    let name = UniqueName::new("reuses");
    let mut child = Child::spawn("uses a scope", &[&name]);
    child.expect("used");
    assert!(child.wait().success());
    assert!(!name.path().exists());
    assert!(!shm_core::sweep().unwrap().contains(&name.to_string()));
}

/// Whoever owned a name and was killed, by a signal that can be caught or by one that cannot, leaks nothing.
#[test]
fn test_shared_memory_cleaned_after_process_termination() {
    let _watchdog = watchdog();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let names = [UniqueName::new("cleaned"), UniqueName::new("cleaned-too")];
        let mut owner = Child::spawn("owns two", &[&names[0], &names[1]]);
        owner.expect("owns");
        kill(Pid::from_raw(owner.pid() as i32), signal).unwrap();
        assert!(!owner.wait().success());
        for name in &names {
            assert!(is_swept(name), "{signal}: {name}");
            assert!(is_missing(name));
        }
    }
}

/// Of two names of a killed process one was unlinked by hand before; the other one is what is reclaimed.
#[test]
fn test_resource_tracker() {
    let _watchdog = watchdog();
    let names = [UniqueName::new("tracked"), UniqueName::new("tracked-too")];
    let mut owner = Child::spawn("owns two", &[&names[0], &names[1]]);
    owner.expect("owns");
    shm_core::unlink(&names[0]).unwrap();
    shm_core::sweep().unwrap();
    assert!(names[1].path().exists(), "its owner lives");
    owner.kill();
    assert!(is_swept(&names[1]));
    for name in &names {
        let gone = shm_core::unlink(name).unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
    }
}

#[test]
fn test_too_long_name_resource() {
    let name = "a".repeat(512 - "shared_memory".len());
    let error = Segment::create(&*name, 1).unwrap_err();
    assert!(matches!(error, Error::InvalidName { .. }), "{error}");
}
