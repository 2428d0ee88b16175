//! Lock and unlock by a single thread, with nobody else about.

use std::hint::black_box;
use std::io;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use shm_benches::arena::Arena;
use shm_benches::variants::{
    FetchSub, Lock, PARKING_LOT, Pthread, PthreadRobust, RAW_SYNC, ShmAtomicValue, ShmMutex,
    ShmValue, Site, StdMutex, Variant, absent,
};

fn lock_unlock<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) -> io::Result<()> {
    let (_arena, site) = site(name)?;
    let lock = L::create(&site)?;
    group.bench_function(name, |bencher| {
        bencher.iter(|| lock.with(|count, _| *black_box(count) -= 1))
    });
    Ok(())
}

fn decrement<V: Variant>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) -> io::Result<()> {
    let (_arena, site) = site(name)?;
    let counter = V::create(&site)?;
    group.bench_function(name, |bencher| {
        bencher.iter(|| black_box(&counter).decrement())
    });
    Ok(())
}

fn site(name: &str) -> io::Result<(Arena, Site)> {
    let arena = Arena::create(1)?;
    let name = format!("shm-bench.{}.{name}", std::process::id()).replace([' ', ':'], "-");
    let site = Site {
        page: arena.page(0),
        name,
    };
    Ok((arena, site))
}

fn all(group: &mut BenchmarkGroup<'_, WallTime>) -> io::Result<()> {
    decrement::<FetchSub>(group, "atomic fetch_sub")?;
    decrement::<ShmAtomicValue>(group, "shm AtomicValue")?;
    lock_unlock::<ShmMutex>(group, "shm Mutex")?;
    lock_unlock::<ShmValue>(group, "shm Value")?;
    lock_unlock::<Pthread>(group, "pthread")?;
    lock_unlock::<PthreadRobust>(group, "pthread robust")?;
    lock_unlock::<StdMutex>(group, "std Mutex (threads)")?;
    #[cfg(feature = "rivals")]
    {
        lock_unlock::<shm_benches::variants::RawSync>(group, "raw_sync")?;
        lock_unlock::<shm_benches::variants::ParkingLot>(group, "parking_lot (threads)")?;
    }
    Ok(())
}

fn uncontended(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("uncontended");
    all(&mut group).expect("every variant can be made");
    group.finish();
    for line in absent(&[RAW_SYNC, PARKING_LOT]) {
        println!("{line}");
    }
}

criterion_group!(benches, uncontended);
criterion_main!(benches);
