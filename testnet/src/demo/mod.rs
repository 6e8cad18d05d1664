//! The demo: four hospitals, one ledger, one record shared, refused after withdrawal, and audited.
//!
//! ```text
//! observe/*    does a step and gathers what was seen      observed    those values
//! claims       judges them, without looking at a node     report      tells
//! story        the steps in order                         tamper      changes bits instead, each of which must be found
//! ```

pub mod claim;
pub mod claims;
mod commands;
mod observe;
pub mod observed;
mod patient;
pub mod report;
mod stage;
mod story;
pub mod tamper;

use std::path::PathBuf;

use crate::error::{Error, While};
use crate::net::up::{interrupted, Claimed};

/// How to print the claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table.
    Text,
    /// One object.
    Json,
}

/// What the demo was told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder, kept; a temporary one when none is named.
    pub dir: Option<PathBuf>,
    /// How to print.
    pub output: Output,
    /// Rates over 5 s instead of 15 s.
    pub quick: bool,
    /// Change single bits instead, chosen by this seed.
    pub tamper: Option<u64>,
}

/// Runs the story and prints the claims; true when all hold. Everything that it starts has ended when it returns.
pub async fn run(options: Options) -> Result<bool, Error> {
    let temporary = options.dir.is_none();
    let dir = options
        .dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("assent-demo-{:08x}", rand::random::<u32>())));
    let mut claimed = Claimed::new(&dir)?;
    if claimed.holds_network() {
        return Err(Error::Failed(format!(
            "{} holds the network of an earlier run: the demo needs a new or empty folder",
            dir.display()
        )));
    }
    let told = async {
        let Some(seed) = options.tamper else {
            let claims = story::tell(&claimed, options.quick).await?;
            return Ok((report::table(&claims), report::json(&claims), claims));
        };
        let seen = tamper::tell(&claimed, seed).await?;
        let claims: Vec<_> = seen.objects.iter().map(tamper::judge::found).collect();
        Ok::<_, Error>((tamper::report::table(&seen, &claims), tamper::report::json(&seen, &claims), claims))
    };
    let (table, json, claims) = tokio::select! {
        told = told => told?,
        interrupted = interrupted() => return Err(interrupted),
    };
    let ok = report::all_hold(&claims);
    match options.output {
        Output::Text => println!("{table}"),
        Output::Json => println!("{json}"),
    }
    if options.output == Output::Json {
        for claim in &claims {
            claim.faults.iter().for_each(|fault| eprintln!("{}: {fault}", claim.id));
        }
    }
    if !(temporary && ok) {
        claimed.keep();
        eprintln!("The folder is kept: {}", claimed.dir.display());
    }
    Ok(ok)
}

/// Today in UTC, YYYY-MM-DD.
fn today() -> Result<String, Error> {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    time::OffsetDateTime::now_utc().format(&format).during(|| "telling the date".into())
}
