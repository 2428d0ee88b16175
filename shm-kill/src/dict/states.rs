//! What a victim finds.

use shm_core::sync::Ordering;
use shm_dict::raw::{Control, Shard};
use shm_lock::Patience;
use shm_testing::Commands;

use super::{KEYS, MORE, OF_MORE, Values, open, small_dict, value};
use crate::segment::{die, place};

/// So that each victim goes the same way, and keys collide: of 1 to 12 more than eight begin in one of two buckets.
const SEED: u64 = 16;

pub(super) fn commands(commands: Commands) -> Commands {
    setups_of_the_dead(setups(commands))
}

fn setups(commands: Commands) -> Commands {
    let made_of = |commands: Commands, state, entries: &'static [(u64, u8)]| {
        commands.setup(state, move |name| drop(create(name, 1, entries)))
    };
    let commands = made_of(commands, "empty dict", &[]);
    let commands = made_of(commands, "dict of one", &[(1, 10)]);
    let commands = made_of(commands, "dict of a word", &[(1, 1)]);
    let commands = made_of(commands, "dict of one medium", &[(1, 20)]);
    let commands = made_of(commands, "dict of one large", &[(1, 30)]);
    let commands = made_of(commands, "three in a bucket", &[(1, 10), (2, 10), (3, 10)]);
    commands
        .setup("no dict", |_| {})
        .setup("growth due", |name| {
            let dict = create_with_more(name, 1, 5);
            assert_eq!(
                dict.inspect().shards[0].places,
                8,
                "six fill a bucket of eight"
            );
        })
        .setup("two shards", |name| {
            let dict = create_with_more(name, 2, 7);
            let is_used = |shard: &shm_dict::ShardInspection| shard.entries > 0;
            assert!(dict.inspect().shards.iter().all(is_used));
        })
        .setup("chain of buckets", |name| drop(chain(name)))
        .setup("tombstone in a chain", |name| {
            let dict = chain(name);
            assert_eq!(dict.remove(&4), Ok(true));
            let tombstones = shard(&dict, 0).tombstones.load(Ordering::Relaxed);
            assert_eq!(tombstones, 1, "its bucket was full");
        })
        .setup("full dict", |name| drop(full(name)))
        .setup("heap of freed blocks", |name| {
            let dict = full(name);
            for (key, _) in more(KEYS.end - MORE) {
                dict.remove(&key).expect("nothing stands in the way");
            }
        })
        .setup("cleared dict", |name| {
            let dict = create(name, 1, &[(1, 10), (2, 30)]);
            dict.clear().expect("nothing stands in the way");
        })
}

fn setups_of_the_dead(commands: Commands) -> Commands {
    commands
        .setup("dead under the lock", |name| {
            let dict = create(name, 1, &[(1, 10), (2, 10), (3, 10)]);
            let shard = shard(&dict, 0);
            // SAFETY: the dictionary stays mapped until this process ends; no signal handler.
            unsafe { shard.lock.acquire(Patience::Endless) }.expect("it is free");
            // Of what is written under this lock and never believed again.
            for cache in [&shard.count, &shard.tombstones, &shard.freed] {
                cache.store(7777, Ordering::Relaxed);
            }
            for class in shard.classes.iter() {
                class.free.store(77, Ordering::Relaxed);
                class.bump.store(77, Ordering::Relaxed);
            }
            die();
        })
        .setup("dead in a clearing", |name| {
            let dict = create(name, 1, &[(1, 10), (2, 10), (3, 10)]);
            // SAFETY: as above.
            unsafe { shard(&dict, 0).lock.acquire(Patience::Endless) }.expect("it is free");
            let control = dict.segment().view::<Control>(0).expect("a dictionary");
            control.epoch.fetch_add(1, Ordering::Release);
            die();
        })
}

/// A new dictionary with keys whose hashes are the same each time.
fn create(name: &str, shards: u32, entries: &[(u64, u8)]) -> Values {
    let dict = Values::create(place(name), small_dict(shards)).expect("a new dictionary");
    fix_seed(
        &dict
            .segment()
            .view::<Control>(0)
            .expect("a dictionary")
            .config,
    );
    let dict = open(name);
    for &(key, number) in entries {
        dict.set(&key, &value(number)).expect("it has room");
    }
    dict
}

pub(crate) fn fix_seed(config: &[shm_core::sync::AtomicU64; 16]) {
    // Relaxed: nobody else is here.
    config[4].store(SEED, Ordering::Relaxed);
    config[5].store(SEED, Ordering::Relaxed);
}

fn shard(dict: &Values, index: usize) -> &Shard {
    let at = size_of::<Control>() + index * size_of::<Shard>();
    dict.segment().view::<Shard>(at).expect("a dictionary")
}

fn more(count: u64) -> impl Iterator<Item = (u64, u8)> {
    (MORE..MORE + count).map(|key| (key, OF_MORE))
}

fn create_with_more(name: &str, shards: u32, count: u64) -> Values {
    let entries: Vec<_> = [(1, 10)].into_iter().chain(more(count)).collect();
    create(name, shards, &entries)
}

/// Twelve in two buckets, one of which is full and goes on in the other.
fn chain(name: &str) -> Values {
    let dict = create(name, 1, &[]);
    for key in 1..=12 {
        dict.set(&key, &value(10)).expect("it has room");
    }
    assert_eq!(dict.inspect().shards[0].places, 16);
    dict
}

/// No chunk is free, nor any block of those that values of 40 bytes or more need.
fn full(name: &str) -> Values {
    let dict = create(name, 1, &[(1, 20)]);
    let mut entries = more(KEYS.end - MORE);
    let stop = entries.try_for_each(|(key, number)| dict.set(&key, &value(number)));
    assert!(stop.is_err_and(|error| error.is_full()));
    dict
}
