use shm_queue::*;
use std::time::Instant;
fn main() {
    let mode = std::env::args().nth(1).unwrap_or("bytes".into());
    let size: usize = std::env::args().nth(2).map_or(64, |s| s.parse().unwrap());
    let n: u64 = std::env::args().nth(3).map_or(2_000_000, |s| s.parse().unwrap());
    let (p, c) = match std::env::args().nth(4).as_deref() { Some("2x2") => (2,2), _ => (1,1) };
    let q = ByteQueue::create(Place::anonymous(), Options::new(1024).max_message(65536).arena_bytes(64<<20)).unwrap();
    if mode == "uncontended" {
        let m = vec![1u8; size]; let mut out = Vec::new();
        let t = Instant::now();
        for _ in 0..n { q.put(&m).unwrap(); q.get_into(&mut out).unwrap(); }
        println!("put+get {} ns", t.elapsed().as_nanos() as f64 / n as f64);
        return;
    }
    let t = Instant::now();
    std::thread::scope(|s| {
        for _ in 0..p { s.spawn(|| { let m = vec![1u8; size]; for _ in 0..n/p { q.put(&m).unwrap(); } }); }
        for _ in 0..c { s.spawn(|| { let mut out = Vec::new(); let mut sum=0u64; 
            if mode == "many" { let mut k = 0; while k < n/c { let v = q.get_many(16.min((n/c-k) as usize)).unwrap(); k += v.len() as u64; for m in v { sum += m[0] as u64; } } }
            else { for _ in 0..n/c { q.get_into(&mut out).unwrap(); sum += out[0] as u64; } } std::hint::black_box(sum); }); }
    });
    let e = t.elapsed();
    println!("{mode} {size} {p}x{c}: {:.2} M/s", n as f64 / e.as_secs_f64() / 1e6);
}
