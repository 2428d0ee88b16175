//! What the death of a process leaves of a shareable list, and bytes that are none of its: one test for each
//! row of docs/peer-death.md.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use shm_core::{Error, Place};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};
use shm_value::{Item, ShareableList, ValueError};

#[test]
fn peer() {
    peer_main(&[
        ("changes two", changes_two as fn(&mut Peer)),
        ("writes without pause", writes_without_pause),
        ("forks with the guard", forks_with_the_guard),
        ("opens what is vast", opens_what_is_vast),
    ]);
}

fn open(peer: &Peer) -> ShareableList {
    ShareableList::open(&peer.args()[0]).unwrap()
}

fn changes_two(peer: &mut Peer) {
    let list = open(peer);
    let guard = list.lock().unwrap();
    guard.set(0, "new").unwrap();
    peer.say("half-way");
    peer.hear();
    guard.set(1, "new").unwrap();
}

/// The items that the storm writes, each of which says how long it is.
fn word(n: usize) -> Item {
    match n % 3 {
        0 => "é".repeat(n % 40).as_str().into(),
        1 => vec![n as u8 % 100; n % 80].into(),
        _ => Item::Int(n as i64),
    }
}

fn is_word(item: &Item) -> bool {
    match item {
        Item::Str(text) => text.len() < 80 && text.chars().all(|c| c == 'é'),
        Item::Bytes(bytes) => bytes.iter().all(|byte| *byte == bytes[0]),
        Item::Int(n) => n % 3 == 2,
        _ => false,
    }
}

fn writes_without_pause(peer: &mut Peer) {
    let list = open(peer);
    peer.say("writing");
    for n in 0.. {
        list.set(n % 2, &word(n)).unwrap();
    }
}

fn forks_with_the_guard(peer: &mut Peer) {
    use nix::sys::wait::{WaitStatus, waitpid};
    let list = open(peer);
    let guard = list.lock().unwrap();
    // SAFETY: the peer's only other thread is libtest's, which holds no lock that we need.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = guard.set(0, "child") == Err(ValueError::WouldBlock);
            drop(guard);
            std::process::exit(i32::from(!refused));
        }
        nix::unistd::ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    assert_eq!(
        list.inspect().owner_tid,
        nix::unistd::gettid().as_raw() as u32
    );
    guard.set(0, "parent").unwrap();
    peer.say("set");
}

#[test]
fn a_writer_killed_with_the_guard_leaves_each_item_old_or_new_and_a_free_lock() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-guard");
    let list = ShareableList::create(&*name, &["old", "old"].map(Item::from)).unwrap();
    let mut writer = Child::spawn("changes two", &[&name]);
    writer.expect("half-way");
    let seen = list.to_vec().unwrap();
    assert_eq!(seen, ["new", "old"].map(Item::from), "readers do not wait");
    let waited = list.lock_timeout(Duration::from_millis(1));
    assert!(matches!(waited, Err(ValueError::Timeout)));
    assert!(matches!(list.try_lock(), Err(ValueError::WouldBlock)));
    writer.kill_unreaped();
    list.set(1, "again").unwrap();
    assert_eq!(list.to_vec().unwrap(), ["new", "again"].map(Item::from));
    assert_eq!(list.inspect().deaths, 1);
}

#[test]
fn readers_see_whole_items_while_writers_are_killed() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-storm");
    let items = [word(0), word(1)];
    let list = ShareableList::create_with_room(&*name, &items, 80).unwrap();
    let reader = ShareableList::open_read_only(&*name).unwrap();
    for _ in 0..10 {
        let mut writer = Child::spawn("writes without pause", &[&name]);
        writer.expect("writing");
        for n in 0..4_000 {
            let handle = if n % 2 == 0 { &list } else { &reader };
            for item in handle.iter() {
                let item = item.unwrap();
                assert!(is_word(&item), "{item:?}");
            }
        }
        writer.kill();
    }
    list.set(0, "é").unwrap();
    assert_eq!(reader.get(0).unwrap(), Item::from("é"));
}

#[test]
fn a_forked_childs_guard_writes_nothing() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-fork");
    let list = ShareableList::create(&*name, &[Item::None]).unwrap();
    Child::spawn("forks with the guard", &[&name]).expect("set");
    assert_eq!(list.get(0).unwrap(), Item::from("parent"));
}

#[test]
fn a_read_only_attachment_reads_and_cannot_write() {
    let name = UniqueName::new("list-ro");
    let list = ShareableList::create(&*name, &["text".into(), 7.into()]).unwrap();
    let reader = ShareableList::open_read_only(&*name).unwrap();
    list.set(1, false).unwrap();
    assert_eq!(reader.to_vec().unwrap(), [Item::from("text"), false.into()]);
    assert_eq!(reader.index_of(false), Ok(Some(1)));
    assert_eq!(reader.set(0, 1), Err(ValueError::ReadOnly));
    assert!(matches!(reader.try_lock(), Err(ValueError::ReadOnly)));
}

/// Each planted word, where it lies, and what `open` says of it.
#[test]
fn bytes_that_lie_are_corrupt() {
    let name = UniqueName::new("list-lies");
    let list = ShareableList::create(&*name, &["text".into(), 7.into()]).unwrap();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.path())
        .unwrap();
    // Behind lock, length and two entries: two slots of 16 bytes each.
    let (len, room, slot) = (48, 64, 96);
    let string = |bytes: u64| 4 | bytes << 8;
    let lies = [
        (len, u64::MAX, "list length"),
        (len, 1 << 60, "list length"),
        (len, 200, "list length"),
        (len, 3, "room of an item"),
        (room, u64::MAX, "room of an item"),
        (room, u64::MAX - 7, "room of an item"),
        (room, 9, "room of an item"),
        (room, 64, "room of an item"),
        (slot, string(9), "item of a list"),
        (slot, string(u64::MAX >> 8), "item of a list"),
        (slot, 6 | 4 << 8, "item of a list"),
        (slot, 2 | 4 << 8, "item of a list"),
        (slot, 1 | 1 << 8, "item of a list"),
        (slot + 8, 0xff, "item of a list"),
    ];
    for (at, lie, expected) in lies {
        let at = 4096 + at;
        let mut truth = [0; 8];
        file.read_exact_at(&mut truth, at).unwrap();
        file.write_all_at(&u64::to_ne_bytes(lie), at).unwrap();
        let error = ShareableList::open(&*name).unwrap_err();
        let found = matches!(&error, Error::Corrupt { field, .. } if *field == expected);
        assert!(found, "{at} {lie:x}: {error}");
        if expected == "item of a list" {
            assert_eq!(list.get(0), Err(ValueError::Corrupt { index: 0 }));
        } else {
            assert!(list.get(0).is_ok(), "a handle keeps what it checked");
        }
        file.write_all_at(&truth, at).unwrap();
    }
    assert_eq!(ShareableList::open(&*name).unwrap().to_vec(), list.to_vec());
}

/// A sparse file is as large as it says, and costs nothing.
#[test]
fn numbers_for_which_there_is_no_memory_are_corrupt() {
    let _watchdog = watchdog();
    let name = UniqueName::new("list-vast");
    drop(ShareableList::create(&*name, &["text".into()]).unwrap());
    Child::spawn("opens what is vast", &[&name]).expect("refused");
}

/// With a limit to its memory, where the system has none.
fn opens_what_is_vast(peer: &mut Peer) {
    setrlimit(Resource::RLIMIT_DATA, 1 << 30, 1 << 30).unwrap();
    let name = &peer.args()[0];
    let path = std::path::Path::new("/dev/shm").join(name);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let size = 1_u64 << 44;
    file.set_len(size).unwrap();
    let write = |at, word: u64| file.write_all_at(&word.to_ne_bytes(), at).unwrap();
    // The header's sizes, of the whole and of the payload.
    write(32, size);
    write(48, size - 4096);
    // Behind the length one entry, of room and version, then the first slot.
    let (len, room, slot) = (4096 + 48, 4096 + 64, 4096 + 80);
    let open_with = |at, lie: u64| {
        write(at, lie);
        match ShareableList::open(name).unwrap_err() {
            Error::Corrupt { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(open_with(len, 1 << 39), "room of an item");
    write(len, 1);
    write(room, 1 << 42);
    assert_eq!(open_with(slot, 4 | 1 << (8 + 42)), "item of a list");
    peer.say("refused");
}

/// A lock that a thread of this process holds keeps a mapping; one that is said to be held in bytes that were
/// refused does not.
#[test]
fn a_list_that_was_refused_is_not_kept_mapped() {
    let name = UniqueName::new("list-refused");
    drop(ShareableList::create(&*name, &["text".into()]).unwrap());
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    let own = nix::unistd::gettid().as_raw();
    file.write_all_at(&own.to_ne_bytes(), 4096).unwrap();
    // The item, behind lock, length and one entry: of no kind.
    file.write_all_at(&[6], 4096 + 80).unwrap();
    let error = ShareableList::open(&*name).unwrap_err();
    assert!(matches!(error, Error::Corrupt { field, .. } if field == "item of a list"));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains(&*name), "{maps}");
}

#[test]
fn a_list_that_cannot_be_mapped_is_refused() {
    let error = ShareableList::create_with_room(Place::anonymous(), &[Item::None], usize::MAX);
    let error = error.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}
