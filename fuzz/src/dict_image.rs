//! Dictionaries that are in order, any bytes as a dictionary, and an attacker who changes bytes of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use shm_core::{Place, Segment};
use shm_dict::{Bytes, Dict, DictError, Options, Raw};

use crate::allocation;
use crate::backing::Backing;

/// What the segment was made as, and what it is opened as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Content {
    Texts,
    Numbers,
    Structs,
}

/// Bytes behind the header, and rounds of changes and uses.
#[derive(Debug, Arbitrary)]
pub struct DictAttack {
    content: Content,
    taken_for: Option<Content>,
    in_file: bool,
    cut: Option<u16>,
    /// What stands from the options on instead.
    payload: Option<Vec<u8>>,
    rounds: Vec<Vec<Poke>>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Poke {
    part: Part,
    at: u8,
    value: Value,
}

/// Where: docs/format.md, "Dictionaries".
#[derive(Debug, Clone, Copy, Arbitrary)]
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

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Value {
    Small(u8),
    Long(u64),
    /// Low and high half.
    Pair(u32, u32),
    /// A table word: its logarithm, and its block.
    Table(u8, u16),
    /// The bits of an owner.
    Owner(u8, u8, bool),
}

const SHARDS: usize = 2;
const SHARDS_AT: usize = 512;
const OWNERS_AT: usize = SHARDS_AT + SHARDS * 1152;
const HEAP_AT: usize = 4096;
const CHUNKS: usize = 5;

type Texts = Dict<Vec<u8>, Vec<u8>, Bytes>;
type Numbers = Dict<u32, u64, Raw>;
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
        static IMAGES: LazyLock<[Vec<u8>; 3]> =
            LazyLock::new(|| [Content::Texts, Content::Numbers, Content::Structs].map(make));
        &IMAGES[self as usize]
    }
}

impl Poke {
    fn apply(self, backing: &Backing, payload: usize) {
        let at = usize::from(self.at);
        let shard = SHARDS_AT + at % SHARDS * 1152;
        let (at, width) = match self.part {
            Part::Header => (at / 4 * 4, 4),
            Part::Options => (payload + at % 6 * 8, 8),
            Part::Control => (payload + [128, 192, 196, 200][at % 4], 4),
            Part::Shard => {
                let field = [0, 8, 64, 72, 128, 136, 144, 152, 160, 168, 176][at / 2 % 11];
                (payload + shard + field, 8)
            }
            Part::Classes => (payload + shard + 192 + at / 2 * 8 % 896, 8),
            Part::Owners => (payload + OWNERS_AT + at % CHUNKS * 4, 4),
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
    let mut bytes = image[..image.len() - cut].to_vec();
    let payload = u64::from_ne_bytes(image[40..48].try_into().expect("eight bytes")) as usize;
    if let (Some(instead), Some(old)) = (&attack.payload, bytes.get_mut(payload..)) {
        let len = instead.len().min(old.len());
        old[..len].copy_from_slice(&instead[..len]);
    }
    let backing = match attack.in_file {
        true => Backing::file(&bytes),
        false => Backing::memory(&bytes),
    };
    let taken_for = attack.taken_for.unwrap_or(attack.content);
    allocation::bounded(backing.len(), || {
        let mut rounds = attack.rounds.iter().take(6);
        let change = |round: &Vec<Poke>| {
            round
                .iter()
                .take(16)
                .for_each(|poke| poke.apply(&backing, payload));
        };
        if let Some(round) = rounds.next() {
            change(round);
        }
        let place = backing.place();
        match taken_for {
            Content::Texts => {
                let Ok(dict) = Texts::open(place) else { return };
                let (keys, value) = ([vec![1; 3], vec![2; 3], vec![9; 20]], vec![7; 5]);
                use_texts(&dict);
                use_dict(&dict, &keys, &value);
                rounds.for_each(|round| {
                    change(round);
                    use_dict(&dict, &keys, &value);
                    use_texts(&dict);
                });
            }
            Content::Numbers => {
                let Ok(dict) = Numbers::open(place) else {
                    return;
                };
                let keys = [0, 1, 77];
                use_dict(&dict, &keys, &8);
                rounds.for_each(|round| {
                    change(round);
                    for n in 100..116 {
                        told(dict.within(Duration::ZERO).fetch_add(&n, 1));
                    }
                    use_dict(&dict, &keys, &8);
                });
            }
            Content::Structs => {
                let Ok(dict) = Structs::open(place) else {
                    return;
                };
                let keys = [1, 9].map(|n| (n, "key".to_owned()));
                let value = vec!["text".to_owned(); 9];
                use_dict(&dict, &keys, &value);
                rounds.for_each(|round| {
                    change(round);
                    use_dict(&dict, &keys, &value);
                });
            }
        }
    });
}

fn told<T>(result: Result<T, DictError>) -> Option<T> {
    result
        .map_err(|error| assert!(!error.to_string().is_empty()))
        .ok()
}

fn use_texts(dict: &Texts) {
    let dict = dict.within(Duration::ZERO);
    let mut buffer = Vec::new();
    told(dict.get_into(&vec![1; 3], &mut buffer));
    told(dict.with(&vec![3; 3], |value| {
        value.iter().map(|byte| usize::from(*byte)).sum::<usize>()
    }));
    for len in [0, 40, 2100, 5000] {
        told(dict.set(&vec![7; 3], &vec![7; len]));
    }
    told(dict.remove(&vec![7; 3]));
}

fn use_dict<K, V, C>(dict: &Dict<K, V, C>, keys: &[K], value: &V)
where
    K: shm_dict::ShmKey,
    V: Clone,
    C: shm_dict::Codec<V>,
{
    let dict = dict.within(Duration::ZERO);
    for key in keys {
        told(dict.get(key));
        told(dict.contains_key(key));
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
    dict.items().take(300).for_each(|item| drop(told(item)));
    told(dict.check());
    let _ = format!("{:?} {dict:?}", dict.inspect());
    told(dict.repair());
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
        told(all.items().map(|items| items.len()));
        told(all.pop(&keys[0]));
    }
    if dict.version().is_multiple_of(4) {
        told(dict.drain());
        told(dict.clear());
    }
    told(dict.set(&keys[0], value));
}
