//! `shm ls`: the named segments that exist, as a table or as JSON.

use std::io::Write;
use std::process::ExitCode;

use anstyle::Style;
use clap::Args;
use serde_json::{Value, json};
use shm_core::SegmentInfo;

use crate::exit::Failure;
use crate::figures;

/// How to list.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print a JSON array with everything known about each segment
    #[arg(long)]
    json: bool,
}

/// Lists what there is.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let segments = shm_core::list()?;
    let mut out = anstream::stdout().lock();
    if options.json {
        let rows: Vec<Value> = segments.iter().map(as_json).collect();
        writeln!(out, "{:#}", Value::from(rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    if segments.is_empty() {
        writeln!(out, "no segments")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<[String; 6]> = segments.iter().map(as_row).collect();
    let widths = widths(&rows);
    const BOLD: Style = Style::new().bold();
    writeln!(
        out,
        "{BOLD}{}{BOLD:#}",
        line(&HEADINGS.map(String::from), widths)
    )?;
    for row in &rows {
        writeln!(out, "{}", line(row, widths))?;
    }
    Ok(ExitCode::SUCCESS)
}

const HEADINGS: [&str; 6] = ["NAME", "CONTENTS", "SIZE", "AGE", "CREATOR", "ATTACHED"];

fn as_row(info: &SegmentInfo) -> [String; 6] {
    let contents = if info.label.is_empty() {
        info.kind.to_string()
    } else {
        // A label is whatever bytes its creator put there: none of them speaks to the terminal.
        info.label.escape_debug().to_string()
    };
    let creator = match info.creator {
        None => "-".to_owned(),
        Some(id) if id.is_alive().unwrap_or(true) => id.pid().to_string(),
        Some(id) => format!("{} (gone)", id.pid()),
    };
    let attached = match info.participants.as_slice() {
        [] => "-".to_owned(),
        few if few.len() <= 4 => pids(few),
        many => format!("{} processes", many.len()),
    };
    [
        info.name.clone(),
        contents,
        figures::bytes(info.size),
        figures::age(info.age),
        creator,
        attached,
    ]
}

fn pids(ids: &[shm_core::ProcessId]) -> String {
    let pids: Vec<_> = ids.iter().map(|id| id.pid().to_string()).collect();
    pids.join(" ")
}

fn widths(rows: &[[String; 6]]) -> [usize; 6] {
    let mut widths = HEADINGS.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// Names to the left, figures to the right.
fn line(cells: &[String; 6], widths: [usize; 6]) -> String {
    let [name, contents, size, age, creator, attached] = cells;
    let [w0, w1, w2, w3, w4, _] = widths;
    format!("{name:<w0$}  {contents:<w1$}  {size:>w2$}  {age:>w3$}  {creator:>w4$}  {attached}")
}

fn as_json(info: &SegmentInfo) -> Value {
    let pids: Vec<u32> = info.participants.iter().map(|id| id.pid()).collect();
    json!({
        "name": info.name,
        "kind": info.kind.to_string(),
        "label": info.label,
        "size": info.size,
        "allocated": info.allocated,
        "age_seconds": info.age.as_secs_f64(),
        "owner": info.owner,
        "mode": format!("{:04o}", info.mode),
        "creator": info.creator.map(|id| json!({
            "pid": id.pid(),
            "alive": id.is_alive().unwrap_or(true),
        })),
        "attached": pids,
        "unlink_on_drop": info.unlink_on_drop,
        // 64 bits: more than a JSON number holds in many programs.
        "generation": format!("{:016x}", info.generation),
    })
}
