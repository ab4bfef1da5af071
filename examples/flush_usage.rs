//! How long flushes of usage take: `flush_usage postgresql://…/scratch [TENANTS]`. Brings the schema up to date, then flushes the
//! counts of that many tenants (10,000) again and again, as a router does every ten seconds, and prints each flush's time and
//! at the end the most memory the process had.

use std::time::Duration;

use ogelnates::store::{Meters, Store};
use ogelnates::tenancy::{Metered, Minute, Secret, Usage};
use tokio::time::Instant;
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = Secret::new(arguments.next().ok_or("give the URL of a scratch database")?);
    let tenants: u64 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let deadline = Duration::from_secs(30);
    Store::connect(&url, deadline).await?.migrate().await?;
    let mut meters = Meters::connect(&url, deadline).await?;
    while meters.upkeep().await? {}
    let writer = Uuid::new_v4();
    meters.begin(writer, "bench", None).await?;
    for seq in 1..=12 {
        let now = chrono::Utc::now();
        let minute = Minute::of_unix_ms(now.timestamp_millis());
        let line = |n: u64| Metered {
            minute,
            tenant: format!("tenant-{n}").into(),
            instance: format!("shared-{}", n % 20).into(),
            usage: Usage {
                sessions: 1,
                queries: 20 + n % 50,
                reads: 15,
                writes: 5,
                other: 2,
                rows: 100 + n,
                transactions: 10,
                bytes_in: 4_000 + n,
                bytes_out: 90_000 + n,
                server_micros: 40_000 + n,
                connection_ms: 10_000,
                ..Usage::default()
            },
        };
        let counted: Vec<Metered> = (0..tenants).map(line).collect();
        let begun = Instant::now();
        let flushed = meters.flush(writer, seq, now, &counted).await?;
        println!("batch {seq}: {tenants} tenants in {:?}: {flushed:?}", begun.elapsed());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}
