//! Settings that one process changes while others run: each sleeps until something has changed, looks, and
//! reports what it goes by now.
//!
//! ```sh
//! cargo run -p shm-dict --example shared_configuration
//! ```

use std::process::Command;

use shm_dict::{Dict, Options, Place};

type Failure = Box<dyn std::error::Error>;
type Settings = Dict<String, String>;

const SERVICES: usize = 3;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [settings, reports, service] => serve(settings, reports, service),
        _ => manage(),
    }
}

fn manage() -> Result<(), Failure> {
    let name = |what: &str| format!("configuration-{what}-{}", std::process::id());
    let place = |what: &str| Place::named(name(what)).unlink_on_drop(true);
    let settings = Settings::create(place("settings"), Options::new())?;
    let reports = Settings::create(place("reports"), Options::new())?;
    settings.set("level", &"info".to_owned())?;

    let program = std::env::current_exe()?;
    let mut services = Vec::new();
    for number in 0..SERVICES {
        let args = [
            name("settings"),
            name("reports"),
            format!("service {number}"),
        ];
        services.push(Command::new(&program).args(args).spawn()?);
    }
    for level in ["info", "debug", "warn", "stop"] {
        settings.set("level", &level.to_owned())?;
        wait_for_all(&reports, level)?;
        println!("all {SERVICES} services go by `{level}`");
    }
    for service in &mut services {
        assert!(service.wait()?.success());
    }
    assert_eq!(reports.len()?, SERVICES);
    Ok(())
}

/// Until every service has reported that level.
fn wait_for_all(reports: &Settings, level: &str) -> Result<(), Failure> {
    loop {
        // The version first, then the entries: what changes in between ends the wait at once.
        let seen = reports.version();
        let there = reports.snapshot()?;
        if there.iter().filter(|(_, said)| said == level).count() == SERVICES {
            return Ok(());
        }
        reports.wait_for_change(seen)?;
    }
}

fn serve(settings: &str, reports: &str, service: &str) -> Result<(), Failure> {
    let settings = Settings::open(settings)?;
    let reports = Settings::open(reports)?;
    loop {
        let seen = settings.version();
        let level = settings.get("level")?.unwrap_or_default();
        reports.set(service, &level)?;
        if level == "stop" {
            return Ok(());
        }
        settings.wait_for_change(seen)?;
    }
}
