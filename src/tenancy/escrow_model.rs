//! The bucket of `o7s.exchange` (migration 0005) as values, to test both halves against: the replicas' against it, and the
//! function in the control database against it.

use super::escrow::{Answer, Ask, Meter, WINDOW_MS};

/// A second, and the report that came in it.
const GRAIN_MS: u64 = 1000;

#[derive(Debug, Clone, Default)]
pub struct Bucket {
    held: Vec<Held>,
    /// Reported in this second (milliseconds, rounded down), and how much.
    spent: Vec<(u64, u64)>,
    /// Egress: of the month.
    total: u64,
}

#[derive(Debug, Clone)]
struct Held {
    replica: u32,
    amount: u64,
    until: u64,
    reported: u64,
    /// It got less than it wanted.
    short: bool,
}

impl Bucket {
    /// `parts` is what all replicas together may spend without asking; `dead` says of a replica that it is known to be gone.
    pub fn exchange(
        &mut self,
        now: u64,
        (replica, ask): (u32, Ask),
        meter: Meter,
        (limit, parts): (u64, u64),
        dead: impl Fn(u32) -> bool,
    ) -> Answer {
        let rate = matches!(meter, Meter::Queries | Meter::Requests);
        let reported = self.held.iter().find(|held| held.replica == replica).map_or(0, |held| held.reported);
        let fresh = ask.spent - reported;
        self.held.retain(|held| held.replica != replica);
        match meter {
            Meter::Connections => self.held.retain(|held| held.until > now && !dead(held.replica)),
            // Whatever was not given back may have been spent.
            Meter::Egress => {
                self.total += fresh;
                let gone = |held: &Held| held.until <= now || dead(held.replica);
                self.total += self.held.iter().filter(|held| gone(held)).map(|held| held.amount).sum::<u64>();
                self.held.retain(|held| !gone(held));
            }
            Meter::Queries | Meter::Requests => {
                self.held.retain(|held| held.until + WINDOW_MS > now);
                self.spent.retain(|(at, _)| at + GRAIN_MS + WINDOW_MS > now);
                let second = now / GRAIN_MS * GRAIN_MS;
                match self.spent.iter_mut().find(|(at, _)| *at == second) {
                    Some((_, amount)) => *amount += fresh,
                    None if fresh > 0 => self.spent.push((second, fresh)),
                    None => {}
                }
            }
        }
        let others: u64 = self.held.iter().map(|held| held.amount).sum();
        let spent: u64 = self.spent.iter().map(|(_, amount)| amount).sum::<u64>() + self.total;
        let used = others + spent + ask.keep;
        let free = limit.saturating_sub(parts).saturating_sub(used);
        let rivals =
            self.held.iter().filter(|held| (held.amount > 0 || held.short) && held.until > now).count() as u64;
        // None may hold much while another runs out, and of the last tokens only a few.
        let part = if free < limit / 4 { free / (2 * (rivals + 1)) } else { free };
        let fair = if rate && rivals > 0 { part.min((limit / 10).saturating_sub(ask.keep)).max(1) } else { free };
        let granted = ask.want.min(free).min(fair);
        let frees_at = self.spent.iter().map(|(at, _)| at + GRAIN_MS + WINDOW_MS);
        let frees_at = frees_at.chain(self.held.iter().filter(|_| rate).map(|held| held.until + WINDOW_MS)).min();
        let until = now + meter.lease_ms();
        let short = granted < ask.want;
        self.held.push(Held { replica, amount: ask.keep + granted, until, reported: ask.spent, short });
        Answer { granted, used: used + parts, frees_in: frees_at.filter(|_| short).map(|at| at.saturating_sub(now)) }
    }
}
