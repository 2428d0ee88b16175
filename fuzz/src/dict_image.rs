//! Dictionaries that are in order, any bytes as a dictionary, and an attacker who changes bytes of it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use shm_core::sync::{AtomicU64, Ordering};
use shm_core::{Place, Segment};
use shm_dict::raw::Shard;
use shm_dict::{Bytes, Dict, DictError, List, Options, Raw};

use crate::allocation::{self, bounded_by_elements};
use crate::backing::Backing;
use crate::descriptors;
use crate::input::{Few, Rest, by_a_byte};
use crate::told;

by_a_byte! {
    /// What the segment was made as, and what it is opened as.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Content {
        Texts,
        Numbers,
        Structs,
        /// A list, with containers in it.
        Row,
        /// A dictionary, with containers in it.
        Nested,
        /// The same, left by one who died when a change of two keys had been promised, and nothing of it stored.
        Promised,
    }
}

/// Bytes behind the header, and rounds of changes and uses.
#[derive(Debug, Arbitrary)]
pub struct DictAttack {
    content: Content,
    taken_for: Option<Content>,
    /// See [`Backing::of`].
    place: u8,
    cut: Option<u16>,
    /// What stands from the options on instead.
    payload: Option<Few<u8, 200>>,
    /// Of which three are used.
    rounds: Rest<Round>,
}

/// Changes, and which calls follow.
#[derive(Debug, Arbitrary)]
struct Round {
    pokes: Few<Poke, 12>,
    group: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Poke {
    part: Part,
    at: u8,
    value: Value,
}

by_a_byte! {
    /// Where: docs/format.md, "Dictionaries".
    #[derive(Debug, Clone, Copy)]
    enum Part {
        Options,
        /// Epoch, frontier, hint and bell.
        Control,
        /// A shard's lock, table word and counts.
        Shard,
        Classes,
        Owners,
        /// The first words of blocks: tables, lengths, links.
        Blocks,
        Heap,
        Header,
    }
}

by_a_byte! {
    #[derive(Debug, Clone, Copy)]
    enum Value {
        Small(u8),
        Long(u64),
        /// Low and high half: also a span.
        Pair(u32, u32),
        /// A table word: its logarithm, and its block.
        Table(u8, u16),
        /// The bits of an owner.
        Owner(u8, u8, bool),
        /// An item of a list: a short value of so many bytes, or a record.
        Item(Option<u8>, u16),
        /// A container's kind and depth.
        Kind(u8, u8),
        /// A record's lengths: of the key, and of a value or a container.
        Lengths(u8, u16, bool),
        /// A place of an intent.
        Place(u8, u16),
    }
}

const SHARDS: usize = 2;
const SHARDS_AT: usize = 512;
const HEAP_AT: usize = 4096;
const CHUNKS: usize = 16;
/// Keys of containers.
const DICT: u8 = 20;
const ROW: u8 = 21;
/// Keys of which two were promised values.
const PROMISED: Range<u8> = 30..60;

type Texts = Dict<Vec<u8>, Vec<u8>, Bytes>;
type Numbers = Dict<u32, u64, Raw>;
type Row = List<Vec<u8>, Bytes>;
type Nested = Dict<u8, Vec<u8>, Bytes>;
type Structs = Dict<(u8, String), Vec<String>>;

fn make(content: Content) -> Vec<u8> {
    let place = Place::anonymous().participants(64);
    let options = Options::new()
        .max_bytes((CHUNKS << 12) as u64)
        .shards(SHARDS as u32);
    match content {
        Content::Texts => {
            let dict = Texts::create(place, options).expect("a dictionary");
            for n in 0..6_u8 {
                dict.set(&vec![n; 3], &vec![n; 5]).expect("room");
            }
            dict.remove(&vec![2; 3]).expect("it is there");
            bytes_of(dict.segment())
        }
        Content::Numbers => {
            let dict = Numbers::create(place, options).expect("a dictionary");
            (0..30).for_each(|n| dict.set(&n, &u64::from(n)).expect("room"));
            (0..30).step_by(4).for_each(|n| drop(dict.pop(&n)));
            bytes_of(dict.segment())
        }
        Content::Row => {
            let row = Row::create(place, options).expect("a list");
            fill_row(&row);
            bytes_of(row.segment())
        }
        Content::Nested => bytes_of(nested(place, options).segment()),
        Content::Promised => {
            let dict = nested(place, options);
            promise(&dict);
            let mut bytes = bytes_of(dict.segment());
            orphan(&mut bytes);
            bytes
        }
        Content::Structs => {
            let dict = Structs::create(place, options).expect("a dictionary");
            for n in 0..4 {
                let key = (n, "key".to_owned());
                dict.set(&key, &vec!["text".to_owned(); 2]).expect("room");
            }
            bytes_of(dict.segment())
        }
    }
}

fn nested(place: Place, options: Options) -> Nested {
    let outer = Nested::create(place, options).expect("a dictionary");
    (0..4).for_each(|n| outer.set(&n, &vec![n; 9]).expect("room"));
    let inner: Nested = outer.child_dict(&DICT).expect("room");
    inner.set(&0, &vec![0; 9]).expect("room");
    fill_row(&inner.child_list(&ROW).expect("room"));
    fill_row(&outer.child_list(&ROW).expect("room"));
    outer
}

/// Makes a change of two keys in two shards, and takes it back but for the promise.
fn promise(dict: &Nested) {
    let first = PROMISED.start;
    let (leader, unit) = (first + 1..PROMISED.end)
        .find_map(|second| change_both(dict, [first, second]))
        .expect("keys of two shards");
    let heap = heap_of(dict);
    let block = &heap[unit as usize * 2..];
    block[0].store(2, Ordering::Relaxed);
    for place in [&block[2], &block[4]] {
        let place = place.load(Ordering::Relaxed) << 16 >> 16;
        heap[place as usize].store(0, Ordering::Relaxed);
    }
    for index in 0..SHARDS {
        shard_of(dict, index)
            .intent
            .store(1 << 63, Ordering::Relaxed);
    }
    shard_of(dict, leader)
        .intent
        .store(unit + 1, Ordering::Relaxed);
}

/// Makes the shards' locks inconsistent, as a death does (docs/format.md, "Raw mutex").
fn orphan(bytes: &mut [u8]) {
    let shards_at = payload_of(bytes) + SHARDS_AT;
    for index in 0..SHARDS {
        bytes[shards_at + index * size_of::<Shard>() + 4] |= 1;
    }
}

fn payload_of(bytes: &[u8]) -> usize {
    u64::from_ne_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize
}

/// Changes two keys together. If they are of two shards: the one that led, and the block of its intent.
fn change_both(dict: &Nested, keys: [u8; 2]) -> Option<(usize, u64)> {
    let [first, second] = &keys;
    // So that the tables have places.
    for key in &keys {
        dict.set(key, &vec![5; 9]).expect("room");
        dict.remove(key).expect("it is there");
    }
    let made = dict.transaction(&[first, second], |both| {
        both.set(first, &vec![5; 9])?;
        both.set(second, &vec![5; 9])
    });
    made.expect("room");
    // The block was the last of its size to be given back. Its first word is a link now.
    let heap = heap_of(dict);
    let is_intent = |unit: &u64| {
        let word = |at: usize| heap[*unit as usize * 2 + at].load(Ordering::Relaxed);
        word(1) == 0 && word(3) != 0 && word(5) != 0 && (word(2) >> 48) + (word(4) >> 48) == 1
    };
    let found = (0..SHARDS).find_map(|index| {
        let classes = shard_of(dict, index).classes.iter();
        let mut freed =
            classes.filter_map(|class| class.free.load(Ordering::Relaxed).checked_sub(1));
        Some((index, freed.find(is_intent)?))
    });
    if found.is_none() {
        for key in &keys {
            assert!(dict.remove(key).expect("good words"), "it is there");
        }
    }
    found
}

fn shard_of(dict: &Nested, index: usize) -> &Shard {
    let at = SHARDS_AT + index * size_of::<Shard>();
    dict.segment().view(at).expect("a shard")
}

fn heap_of(dict: &Nested) -> &[AtomicU64] {
    dict.segment()
        .view_slice(HEAP_AT, CHUNKS << 9)
        .expect("a heap")
}

/// Short and long values, a dictionary and a list.
fn fill_row(row: &Row) {
    for len in [1, 7, 8, 40, 300] {
        row.push(&vec![7; len]).expect("room");
    }
    let map: Nested = row.push_dict().expect("room");
    map.set(&0, &vec![0; 9]).expect("room");
    let inner: Row = row.push_list().expect("room");
    inner.push(&vec![1; 20]).expect("room");
}

fn bytes_of(segment: &Segment) -> Vec<u8> {
    let fd = segment
        .as_fd()
        .expect("an anonymous segment has a descriptor");
    let file = File::from(fd.try_clone_to_owned().expect("a descriptor"));
    let mut bytes = vec![0; file.metadata().expect("its size").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

impl Content {
    fn image(self) -> &'static [u8] {
        static IMAGES: LazyLock<[Vec<u8>; 6]> = LazyLock::new(|| {
            let contents = [Content::Texts, Content::Numbers, Content::Structs];
            let [texts, numbers, structs] = contents.map(make);
            let [row, nested] = [Content::Row, Content::Nested].map(make);
            let promised = make(Content::Promised);
            // Who comes keeps the promise, or this would be nothing more than `nested`.
            let backing = Backing::memory(&promised);
            let dict = Nested::open(backing.place()).expect("a dictionary");
            let kept = || {
                PROMISED
                    .filter(|key| dict.get(key).expect("good words").is_some())
                    .count()
            };
            assert_eq!(kept(), 0);
            dict.repair().expect("good words");
            assert_eq!(kept(), 2);
            [texts, numbers, structs, row, nested, promised]
        });
        &IMAGES[self as usize]
    }
}

impl Poke {
    fn apply(self, backing: &Backing, payload: usize, shards: usize) {
        let at = usize::from(self.at);
        let shard = SHARDS_AT + at % shards * 1152;
        let owners_at = SHARDS_AT + shards * 1152;
        let (at, width) = match self.part {
            Part::Header => (at / 4 * 4, 4),
            Part::Options => (payload + at % 6 * 8, 8),
            Part::Control => (payload + [128, 192, 196, 200][at % 4], 4),
            Part::Shard => {
                let field = [0, 8, 64, 72, 128, 136, 144, 152, 160, 168, 176][at / 2 % 11];
                (payload + shard + field, 8)
            }
            Part::Classes => (payload + shard + 192 + at / 2 * 8 % 896, 8),
            Part::Owners => (payload + owners_at + at % CHUNKS * 4, 4),
            Part::Blocks => {
                // Most blocks are of 32 or 64 bytes.
                let (chunk, block) = ((at % CHUNKS) << 12, at / CHUNKS * 32);
                (payload + HEAP_AT + chunk + block, 8)
            }
            Part::Heap => (payload + HEAP_AT + at * 8, 8),
        };
        let bytes = match self.value {
            Value::Small(value) => u64::from(value),
            Value::Long(value) => value,
            Value::Pair(low, high) => u64::from(low) | u64::from(high) << 32,
            Value::Table(log, unit) => u64::from(log) << 40 | u64::from(unit),
            Value::Item(Some(len), value) => 1 << 63 | u64::from(len % 16) << 56 | u64::from(value),
            Value::Item(None, unit) => 1 << 62 | u64::from(unit),
            Value::Kind(kind, depth) => u64::from(kind % 4) | u64::from(depth) << 8,
            Value::Lengths(key, value, is_container) => {
                u64::from(key) | u64::from(value) << 32 | u64::from(is_container) << 63
            }
            Value::Place(shard, word) => u64::from(shard % 4) << 48 | u64::from(word),
            Value::Owner(shard, used, backed) => {
                u64::from(shard % 4) | u64::from(used) << 16 | u64::from(backed) << 31
            }
        };
        backing.poke(at, &bytes.to_ne_bytes()[..width]);
    }
}

/// Runs an attack.
///
/// # Panics
/// If a call does anything but succeed or give a typed error.
pub fn dict_image(attack: &DictAttack) {
    let image = attack.content.image();
    let cut = usize::from(attack.cut.unwrap_or(0)).min(image.len());
    let backing = Backing::of(&image[..image.len() - cut], attack.place);
    let payload = payload_of(image);
    if let Some(Few(instead)) = &attack.payload {
        backing.poke(payload, instead);
    }
    told::forget();
    let taken_for = attack.taken_for.unwrap_or(attack.content);
    let shards = match attack.content {
        Content::Row => 1,
        _ => SHARDS,
    };
    let attack = || {
        let rounds = &attack.rounds.0[..attack.rounds.0.len().min(3)];
        let change = |round: &Round| {
            let pokes = round.pokes.0.iter();
            pokes.for_each(|poke| poke.apply(&backing, payload, shards));
        };
        if let Some(round) = rounds.first() {
            change(round);
        }
        // What is used before the next round's changes, and after the last.
        let calls = |n: usize| match rounds.get(n) {
            Some(round) if n + 1 < rounds.len() => Calls::of(round.group),
            _ => Calls::All,
        };
        let later = || {
            (1..rounds.len()).map(|n| {
                change(&rounds[n]);
                (Calls::of(rounds[n].group), calls(n))
            })
        };
        let (place, calls) = (backing.place(), calls(0));
        match taken_for {
            Content::Texts => {
                let Ok(dict) = Texts::open(place) else { return };
                let (keys, value) = ([vec![1; 3], vec![2; 3], vec![9; 20]], vec![7; 5]);
                use_texts(&dict, calls);
                use_dict(&dict, &keys, &value, calls);
                later().for_each(|(_, calls)| {
                    use_dict(&dict, &keys, &value, calls);
                    use_texts(&dict, calls);
                });
            }
            Content::Numbers => {
                let Ok(dict) = Numbers::open(place) else {
                    return;
                };
                let keys = [0, 1, 77];
                use_dict(&dict, &keys, &8, calls);
                later().for_each(|(_, calls)| {
                    if calls.write() {
                        for n in 100..116 {
                            told(dict.within(Duration::ZERO).fetch_add(&n, 1));
                        }
                    }
                    use_dict(&dict, &keys, &8, calls);
                });
            }
            Content::Row => {
                let Ok(row) = Row::open(place) else { return };
                let row = row.within(Duration::ZERO);
                let inner = (row.child_list(6).ok(), row.child_dict(5).ok());
                use_row(&row, calls);
                later().for_each(|(group, calls)| {
                    use_inside(&inner, group);
                    use_row(&row, calls);
                });
            }
            Content::Nested | Content::Promised => {
                let Ok(dict) = Nested::open(place) else {
                    return;
                };
                let dict = dict.within(Duration::ZERO);
                let inner = (dict.child_list(&ROW).ok(), dict.child_dict(&DICT).ok());
                use_nested(&dict, calls);
                later().for_each(|(group, calls)| {
                    use_inside(&inner, group);
                    use_nested(&dict, calls);
                });
            }
            Content::Structs => {
                let Ok(dict) = Structs::open(place) else {
                    return;
                };
                let keys = [1, 9].map(|n| (n, "key".to_owned()));
                let value = vec!["text".to_owned(); 9];
                use_dict(&dict, &keys, &value, calls);
                later().for_each(|(_, calls)| use_dict(&dict, &keys, &value, calls));
            }
        }
    };
    descriptors::closed(|| allocation::bounded(backing.len(), attack));
}

fn told<T>(result: Result<T, DictError>) -> Option<T> {
    result.inspect_err(told::told).ok()
}

/// Which calls follow a round of changes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Calls {
    Read,
    Write,
    /// Containers that are inside.
    Inside,
    /// What looks at all of it.
    Whole,
    /// What takes out.
    Take,
    All,
}

impl Calls {
    fn of(group: u8) -> Self {
        [
            Self::Read,
            Self::Write,
            Self::Inside,
            Self::Whole,
            Self::Take,
        ][usize::from(group) % 5]
    }

    fn read(self) -> bool {
        matches!(self, Self::Read | Self::All)
    }

    fn write(self) -> bool {
        matches!(self, Self::Write | Self::All)
    }

    fn inside(self) -> bool {
        matches!(self, Self::Inside | Self::All)
    }

    fn whole(self) -> bool {
        matches!(self, Self::Whole | Self::All)
    }

    fn take(self) -> bool {
        matches!(self, Self::Take | Self::All)
    }
}

/// Handles that were there before the changes.
fn use_inside((row, dict): &(Option<Row>, Option<Nested>), calls: Calls) {
    row.iter().for_each(|row| use_row(row, calls));
    dict.iter()
        .for_each(|dict| use_dict(dict, &[0, 1], &vec![7; 9], calls));
}

fn use_nested(dict: &Nested, calls: Calls) {
    if calls.inside()
        && let Some(inner) = told(dict.child_dict::<_, u8, Vec<u8>, Bytes>(&DICT))
    {
        told(inner.get(&0));
        told(inner.set(&1, &vec![1; 9]));
        told(inner.find_child_list::<_, Vec<u8>, Bytes>(&ROW));
        told(inner.clear());
    }
    if let Some(row) = told(dict.child_list::<_, Vec<u8>, Bytes>(&ROW)) {
        use_row(&row, calls);
    }
    if calls.write() {
        told(dict.transaction(&[&1, &2, &30], |keys| {
            keys.set(&1, &vec![1; 30])?;
            keys.remove(&2)?;
            keys.modify(&30, |_| Some(vec![3; 9])).map(drop)
        }));
    }
    if calls.take() && dict.version().is_multiple_of(2) {
        told(dict.remove(&ROW));
    }
    use_dict(dict, &[0, 1, DICT], &vec![7; 9], calls);
}

fn use_row(row: &Row, calls: Calls) {
    #[cfg(feature = "planted")]
    crate::planted::in_row(row);
    told(row.len());
    if calls.read() {
        (0..8).for_each(|at| drop(told(row.get(at))));
        told(row.slice(1..3));
        told(row.position(&vec![7; 8]));
    }
    if calls.whole() {
        told(row.check());
        row.iter().take(300).for_each(|element| drop(told(element)));
        told(bounded_by_elements(|| row.snapshot()));
    }
    if calls.write() {
        for at in 0..9 {
            told(row.set(at, &vec![at as u8; at * 3]));
        }
        told(row.push(&vec![1; 2]));
        told(row.extend(vec![vec![2; 50]; 3]));
        told(row.insert(0, &vec![3; 20]));
        told(row.splice(1..2, vec![vec![4; 4]; 4]));
        told(row.modify(2, |value| value));
        told(row.swap(0, 1));
        told(row.reverse());
        told(bounded_by_elements(|| row.sort()));
        told(bounded_by_elements(|| row.sort_by_key(Vec::len)));
        told(bounded_by_elements(|| {
            row.retain(|value| !value.is_empty())
        }));
    }
    if calls.inside() {
        // Each kind where it is, and where the other one is.
        for at in 0..12 {
            told(row.child_dict::<u8, Vec<u8>, Bytes>(at))
                .map(|dict| told(dict.set(&3, &vec![3; 3])));
            told(row.child_list::<Vec<u8>, Bytes>(at)).map(|inner| told(inner.push(&vec![3; 30])));
        }
        told(row.push_dict::<u8, Vec<u8>, Bytes>());
        told(row.push_list::<Vec<u8>, Bytes>());
    }
    if calls.take() {
        told(row.pop());
        told(row.pop_front());
        told(row.pop_at(1));
        told(row.remove(0));
        told(row.check());
        if row.version().is_multiple_of(4) {
            told(bounded_by_elements(|| row.drain()));
            told(row.clear());
        }
    }
    if calls == Calls::All {
        let _ = format!("{row:?}");
    }
}

fn use_texts(dict: &Texts, calls: Calls) {
    let dict = dict.within(Duration::ZERO);
    if calls.read() {
        let mut buffer = Vec::new();
        told(dict.get_into(&vec![1; 3], &mut buffer));
        told(dict.with(&vec![3; 3], |value| {
            value.iter().map(|byte| usize::from(*byte)).sum::<usize>()
        }));
    }
    if calls.write() {
        for len in [0, 40, 2100, 5000] {
            told(dict.set(&vec![7; 3], &vec![7; len]));
        }
        told(dict.remove(&vec![7; 3]));
    }
}

fn use_dict<K, V, C>(dict: &Dict<K, V, C>, keys: &[K], value: &V, calls: Calls)
where
    K: shm_dict::ShmKey,
    V: Clone,
    C: shm_dict::Codec<V>,
{
    let dict = dict.within(Duration::ZERO);
    for key in keys.iter().filter(|_| calls.read()) {
        told(dict.get(key));
        told(dict.contains_key(key));
    }
    for key in keys.iter().filter(|_| calls.write()) {
        told(dict.insert(key, value));
        told(dict.modify(key, |value| value));
        told(dict.entry(key).or_insert(value.clone()));
        told(dict.compare_and_swap(key, Some(value), Some(value)));
        if let Some(Some((value, version))) = told(dict.get_versioned(key)) {
            told(dict.set_if_version(key, &value, version));
        }
    }
    #[cfg(feature = "planted")]
    crate::planted::in_dict(&dict);
    told(dict.len());
    if calls.whole() {
        dict.items().take(300).for_each(|item| drop(told(item)));
        told(dict.check());
    }
    if calls == Calls::All {
        let _ = format!("{:?} {dict:?}", dict.inspect());
    }
    if calls.whole() {
        told(dict.repair());
    }
    if calls.take() {
        take_out(&dict, keys, value);
    }
    if calls.write() {
        told(dict.set(&keys[0], value));
    }
}

fn take_out<K, V, C>(dict: &Dict<K, V, C>, keys: &[K], value: &V)
where
    K: shm_dict::ShmKey,
    V: Clone,
    C: shm_dict::Codec<V>,
{
    told(dict.pop(&keys[0]));
    told(dict.popitem());
    let mut keep = false;
    told(dict.retain(|_, _| {
        keep = !keep;
        keep
    }));
    told(dict.wait_for_change_deadline(dict.version(), Instant::now()));
    if let Some(mut all) = told(dict.lock_timeout(Duration::ZERO)) {
        told(all.set(&keys[0], value));
        told(bounded_by_elements(|| all.items()));
        told(all.pop(&keys[0]));
    }
    if dict.version().is_multiple_of(4) {
        told(bounded_by_elements(|| dict.drain()));
        told(dict.clear());
    }
}
