//! Lists and containers whose bytes somebody damaged: an error, and never more work or memory than the segment has.

use std::fs::File;
use std::os::unix::fs::FileExt;

use shm_core::Place;
use shm_dict::{Bytes, DictError, Dynamic, List, Options};
use shm_testing::UniqueName;

fn create<T, C: shm_dict::Codec<T>>(name: &UniqueName, bytes: u64) -> List<T, C> {
    let place = Place::named(&**name).unlink_on_drop(true);
    List::create(place, Options::new().max_bytes(bytes)).unwrap()
}

/// The segment as a file, and its words.
fn open(name: &str) -> (File, Vec<u64>) {
    let mut files = std::fs::read_dir("/dev/shm")
        .unwrap()
        .map(|file| file.unwrap().path());
    let path = files
        .find(|path| path.to_string_lossy().contains(name))
        .unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    (file, words)
}

fn write(file: &File, index: usize, word: u64) {
    file.write_all_at(&word.to_ne_bytes(), index as u64 * 8)
        .unwrap();
}

#[test]
fn elements_that_share_a_record_are_noticed() {
    let name = UniqueName::new("damaged-list");
    let list = create::<Vec<u8>, Bytes>(&name, 1 << 20);
    list.push(&vec![0xAB; 200 << 10]).unwrap();
    list.extend((0..2000).map(|_| b"x".to_vec())).unwrap();
    let (file, words) = open(&name);
    let short = 1 << 63 | 1 << 56 | u64::from(b'x');
    let is_array =
        |at: &usize| words[at - 1] == 2001 << 32 && words[*at] >> 62 == 1 && words[at + 1] == short;
    let first = (1..words.len() - 2000).rfind(is_array).unwrap();
    for at in 1..=2000 {
        write(&file, first + at, words[first]);
    }
    let corrupt = |result: Result<(), DictError>| {
        assert!(
            matches!(result, Err(DictError::Corrupt { .. })),
            "{result:?}"
        );
    };
    corrupt(list.sort());
    corrupt(list.retain(|_| true));
    corrupt(list.drain().map(drop));
    corrupt(list.snapshot().map(drop));
    corrupt(list.check().map(drop));
}

#[test]
fn containers_that_share_their_elements_are_noticed() {
    let name = UniqueName::new("damaged-list");
    let outer = create::<Dynamic, shm_dict::Postcard>(&name, 2 << 20);
    let large: List<Dynamic> = outer.push_list().unwrap();
    large.extend((0..20_000).map(Dynamic::from)).unwrap();
    for _ in 0..500 {
        let _: List<Dynamic> = outer.push_list().unwrap();
    }
    let (file, words) = open(&name);
    // The kind and the depth of a list in a list of its own; its root is two words on.
    let lists: Vec<usize> = (0..words.len()).filter(|&at| words[at] == 0x102).collect();
    let root = lists.iter().map(|at| words[at + 2]).find(|root| *root != 0);
    assert!(lists.len() > 500);
    for at in &lists {
        write(&file, at + 2, root.unwrap());
    }
    let copied = outer.to_dynamic();
    assert!(
        matches!(copied, Err(DictError::Corrupt { .. })),
        "{copied:?}"
    );
    let checked = outer.check();
    assert!(
        matches!(checked, Err(DictError::Corrupt { .. })),
        "{checked:?}"
    );
}

#[test]
fn a_span_beyond_the_places_is_noticed() {
    let name = UniqueName::new("damaged-list");
    let list = create::<Vec<u8>, Bytes>(&name, 1 << 20);
    list.extend((0..5).map(|_| b"x".to_vec())).unwrap();
    let (file, words) = open(&name);
    let short = 1 << 63 | 1 << 56 | u64::from(b'x');
    let is_array = |at: &usize| words[at - 1] == 5 << 32 && words[*at] == short;
    let span = (1..words.len()).find(is_array).unwrap() - 1;
    for word in [u64::MAX, 1 << 63, 8 << 32, 7 | 1 << 32, u64::from(u32::MAX)] {
        write(&file, span, word);
        let results = [
            list.push(&vec![1]),
            list.pop().map(drop),
            list.pop_front().map(drop),
            list.insert(0, &vec![1]),
            list.get(0).map(drop),
            list.len().map(drop),
        ];
        for result in results {
            assert!(
                matches!(result, Err(DictError::Corrupt { .. })),
                "{word:#x}: {result:?}"
            );
        }
    }
}

/// The most address space that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = peak.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() << 10
}

#[test]
fn what_is_not_there_takes_no_memory() {
    const COUNT: u64 = 1 << 20;
    let name = UniqueName::new("damaged-list");
    // A byte each in the segment, 264 in a vector.
    let list = create::<Option<[u64; 32]>, shm_dict::Postcard>(&name, 32 << 20);
    list.extend((0..COUNT).map(|_| None)).unwrap();
    let (file, words) = open(&name);
    let none = 1 << 63 | 1 << 56;
    let is_array = |at: &usize| words[at - 1] == COUNT << 32 && words[*at] == none;
    let first = (1..words.len()).find(is_array).unwrap();
    write(&file, first, 0);
    drop(words);
    let before = peak();
    for result in [list.sort(), list.retain(|_| true), list.drain().map(drop)] {
        assert!(
            matches!(result, Err(DictError::Corrupt { .. })),
            "{result:?}"
        );
    }
    let more = peak() - before;
    assert!(more < 128 << 20, "{more} bytes for nothing");
}
