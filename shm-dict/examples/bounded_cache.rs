//! A cache of rendered pages that processes share, in a fixed amount of memory: when it is full, the older half
//! of the pages goes.
//!
//! ```sh
//! cargo run --release -p shm-dict --example bounded_cache
//! ```

use std::process::Command;

use serde::{Deserialize, Serialize};
use shm_dict::{Dict, DictError, Options, Place};

type Failure = Box<dyn std::error::Error>;

/// What the pages, their names and the dictionary's own tables may take in all, in bytes.
const ROOM: u64 = 256 << 10;
const PROCESSES: u64 = 3;
const REQUESTS: u64 = 2000;
/// Pages that there are: more than there is room for.
const PAGES: u64 = 400;

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    /// The dictionary's version when it was stored: an age.
    stored: u64,
    text: String,
}

type Cache = Dict<u64, Page>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [cache, tally, first] => serve(cache, tally, first.parse()?),
        _ => manage(),
    }
}

fn manage() -> Result<(), Failure> {
    let name = |what: &str| format!("cache-{what}-{}", std::process::id());
    let place = |what: &str| Place::named(name(what)).unlink_on_drop(true);
    let options = Options::new().max_bytes(ROOM).shards(4);
    let cache = Cache::create(place("pages"), options)?;
    let tally = Dict::<String, u64>::create(place("tally"), Options::new())?;

    let program = std::env::current_exe()?;
    let mut servers = Vec::new();
    for number in 0..PROCESSES {
        let args = [name("pages"), name("tally"), number.to_string()];
        servers.push(Command::new(&program).args(args).spawn()?);
    }
    for server in &mut servers {
        assert!(server.wait()?.success());
    }

    let count = |what: &str| tally.get(what).map(Option::unwrap_or_default);
    let (hits, misses, evictions) = (count("hits")?, count("misses")?, count("evictions")?);
    println!(
        "{hits} pages came from the cache, {misses} were rendered; it was full {evictions} times"
    );
    let stats = cache.check()?;
    println!(
        "{} pages in {} of {ROOM} bytes",
        stats.entries, stats.used_bytes
    );
    assert_eq!(hits + misses, PROCESSES * REQUESTS);
    assert!(hits > 0 && evictions > 0 && stats.used_bytes <= ROOM);
    Ok(())
}

fn serve(cache: &str, tally: &str, first: u64) -> Result<(), Failure> {
    let (cache, tally) = (Cache::open(cache)?, Dict::<String, u64>::open(tally)?);
    // Some pages are asked for more often than others, in an order of its own for each process.
    let mut random = first + 1;
    for _ in 0..REQUESTS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(first);
        let number = (random >> 33) % PAGES * ((random >> 50) % 4) / 3;
        let text = match cache.get(&number)? {
            Some(page) => {
                tally.fetch_add("hits", 1)?;
                page.text
            }
            None => {
                tally.fetch_add("misses", 1)?;
                let text = render(number);
                put(&cache, &tally, number, &text)?;
                text
            }
        };
        assert_eq!(text, render(number));
    }
    Ok(())
}

/// Stands for something that takes long.
fn render(number: u64) -> String {
    format!("page {number}. ").repeat(50 + number as usize % 50)
}

fn put(cache: &Cache, tally: &Dict<String, u64>, number: u64, text: &str) -> Result<(), Failure> {
    let page = Page {
        stored: cache.version(),
        text: text.to_owned(),
    };
    loop {
        match cache.set(&number, &page) {
            Err(DictError::Full { .. }) => {
                tally.fetch_add("evictions", 1)?;
                evict(cache)?;
            }
            result => return Ok(result?),
        }
    }
}

/// Takes the older half out.
fn evict(cache: &Cache) -> Result<(), Failure> {
    let stored = cache.values().map(|page| page.map(|page| page.stored));
    let mut stored = stored.collect::<Result<Vec<_>, _>>()?;
    stored.sort_unstable();
    if let Some(&median) = stored.get(stored.len() / 2) {
        cache.retain(|_, page| page.stored > median)?;
    }
    Ok(())
}
