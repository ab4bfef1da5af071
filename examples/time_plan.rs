//! How long the pure plan alone takes, without reading or parsing: `time_plan MANIFESTS LIVE`, of what `generate_fleet`
//! wrote. Prints the least and the median of eleven runs, for the plan and for the second opinion on it, in milliseconds.

use std::path::Path;
use std::time::Duration;

use ogelnates::manifest::{Source, load};
use ogelnates::plan::{Consent, Observation, check, plan};
use tokio::time::Instant;

const RUNS: usize = 11;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(manifests), Some(live)) = (arguments.next(), arguments.next()) else {
        return Err("give the folder of manifests and the file of the observation".into());
    };
    let mut sources = Vec::new();
    read(Path::new(&manifests), &mut sources)?;
    let desired = load(&sources).map_err(|problems| problems.render())?;
    let live = Observation::read(&std::fs::read(live)?)?.of(&desired.fleet)?;
    let consent = Consent::default();
    let (mut planning, mut checking) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        let plan = plan(&desired, &live, &consent);
        planning.push(begun.elapsed());
        let begun = Instant::now();
        let found = check(&plan, &desired, &live);
        checking.push(begun.elapsed());
        if !plan.is_empty() || !found.is_empty() {
            return Err("the observation does not fit the manifests".into());
        }
    }
    println!("{} tenants: plan {}, check {}", desired.tenants.len(), summary(planning), summary(checking));
    Ok(())
}

fn read(folder: &Path, sources: &mut Vec<Source>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, sources)?;
        } else {
            sources.push(Source { text: std::fs::read_to_string(&path)?, path: path.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

fn summary(mut runs: Vec<Duration>) -> String {
    runs.sort_unstable();
    let ms = |run: Duration| run.as_secs_f64() * 1000.0;
    format!("{:.2} ms (median {:.2})", ms(runs[0]), ms(runs[runs.len() / 2]))
}
