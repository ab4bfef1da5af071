//! Ceilings that several replicas keep together: what one of them may admit without asking. Pure; `now` is milliseconds of
//! the replica's own monotonic clock, from any origin.
//!
//! The control database holds one bucket for each tenant and meter, and grants from it (`o7s.exchange`). With each request a
//! replica says how much it has spent since it began and how much it keeps; the answer adds to what it keeps. The sum
//! admitted never passes the ceiling, because at every moment the bucket counts a token once: among what its replica may
//! hold, until a minute after the last moment at which it can have been spent, or among what was reported as spent, for
//! a minute after the report, which is later than the spending. A lost answer, a lost request or a dead replica only makes the
//! bucket count what was never spent.

/// A replica spends nothing that was granted longer ago, counted from when it sent its request.
pub const RATE_LEASE_MS: u64 = 10_000;
/// Of slots and of bytes of a month: long, because sessions and months outlast a control database that is away.
pub const LONG_LEASE_MS: u64 = 6 * 3600 * 1000;
/// Slots that nobody used for so long go back, those that a larger ceiling can spare.
const SPARE_MS: u64 = 60_000;
/// The window of a rate.
pub const WINDOW_MS: u64 = 60_000;
/// Between two requests of one replica; at most one a second, whatever the number of tenants.
pub const EXCHANGE_MS: u64 = 1_000;

/// What is counted against a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meter {
    /// Client sessions past authentication, at one time.
    Connections,
    /// In any 60 seconds.
    Queries,
    /// Of `/v1/authorize`, in any 60 seconds.
    Requests,
    /// Bytes to clients, in a calendar month (UTC).
    Egress,
}

impl Meter {
    /// As the control database has it.
    pub fn number(self) -> i16 {
        self as i16
    }

    pub fn lease_ms(self) -> u64 {
        match self {
            Meter::Queries | Meter::Requests => RATE_LEASE_MS,
            Meter::Connections | Meter::Egress => LONG_LEASE_MS,
        }
    }
}

/// What a replica says of one tenant and meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Since the replica began; slots are not spent.
    pub spent: u64,
    /// Of what it was granted it goes on holding this much; the rest goes back.
    pub keep: u64,
    /// How much more it could use.
    pub want: u64,
}

/// What the bucket answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer {
    /// On top of what the replica keeps.
    pub granted: u64,
    /// Counted at this moment against the ceiling: what is held, what was spent, and what all replicas may spend unasked.
    pub used: u64,
    /// When `granted` is less than was wanted: milliseconds until something frees. `None`: nothing will by itself.
    pub frees_in: Option<u64>,
}

/// What becomes of one that would be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// The bucket must be asked first; the answer is at most about a second away while the control database answers.
    Ask,
    /// The ceiling is reached.
    Over(Full),
}

/// Four fifths of the ceiling are used: time to warn.
pub fn is_near(used: u64, limit: u64) -> bool {
    used > 0 && used / 4 >= limit / 5
}

/// How the bucket was when it last refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub used: u64,
    /// Milliseconds from now; `None`: nobody knows.
    pub frees_in: Option<u64>,
}

/// A refusal, and when it was learned.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    full: Full,
    learned: u64,
}

impl Refusal {
    /// `None`: something may have been freed since.
    fn at(&self, now: u64) -> Option<Full> {
        let passed = now.saturating_sub(self.learned);
        // Without a time for it, any exchange may bring it.
        let left = self.full.frees_in.unwrap_or(EXCHANGE_MS).checked_sub(passed).filter(|left| *left > 0)?;
        Some(Full { frees_in: self.full.frees_in.map(|_| left), ..self.full })
    }
}

/// A replica's part of a bucket of what is spent: queries, requests, bytes.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    /// May be spent until `valid_until`; below zero it is owed for what could not be stopped.
    left: i64,
    valid_until: u64,
    spent: u64,
    /// As last reported.
    reported: u64,
    own: Own,
    full: Option<Refusal>,
    /// All replicas together, as last heard.
    used: u64,
    /// The ceiling that was asked of.
    limit: u64,
    /// Until then another replica is thought to want some too.
    rivals_until: u64,
    /// What the answer under way grants is not to be spent.
    void: bool,
    /// Asked, and not answered yet.
    asked: bool,
    asked_last: Option<u64>,
    spent_last: u64,
    /// In a second, smoothed; in thousandths.
    rate: u64,
    /// Of those that wait for a grant, since the last request.
    waiting: u64,
}

/// The share of a replica: spent whole, it is whole again when the last of it was spent a window ago.
#[derive(Debug, Clone, Copy, Default)]
struct Own {
    spent: u64,
    last: u64,
}

impl Own {
    fn left(&self, now: u64, share: u64) -> u64 {
        let whole = now.saturating_sub(self.last) > WINDOW_MS;
        if whole { share } else { share.saturating_sub(self.spent) }
    }

    fn take(&mut self, now: u64, share: u64) -> bool {
        let left = self.left(now, share);
        if left > 0 {
            (self.spent, self.last) = (share - left + 1, now);
        }
        left > 0
    }
}

impl Lease {
    /// One token, if there is one. `share` is what the replica may spend of its own in a window, 0 without a share.
    pub fn spend(&mut self, now: u64, share: u64) -> Admission {
        if self.open(now) {
            self.left -= 1;
            self.spent += 1;
            return Admission::Admitted;
        }
        self.left = self.left.min(0);
        if self.left == 0 && self.own.take(now, share) {
            return Admission::Admitted;
        }
        self.refused(now)
    }

    /// For what is counted when it has happened: whether more of it may begin.
    pub fn check(&mut self, now: u64) -> Admission {
        if self.open(now) { Admission::Admitted } else { self.refused(now) }
    }

    fn refused(&mut self, now: u64) -> Admission {
        self.waiting += 1;
        self.full.as_ref().and_then(|full| full.at(now)).map_or(Admission::Ask, Admission::Over)
    }

    /// Somebody is about to need it.
    pub fn expect(&mut self) {
        self.waiting += u64::from(self.left <= 0);
    }

    /// How many could be spent at once.
    pub fn available(&self, now: u64, share: u64) -> u64 {
        match self.left {
            left if left > 0 && now < self.valid_until => left.unsigned_abs(),
            left if left < 0 => 0,
            _ => self.own.left(now, share),
        }
    }

    /// As many as [`Lease::available`] said, or fewer.
    pub fn take(&mut self, now: u64, share: u64, amount: u64) {
        for _ in 0..amount {
            self.spend(now, share);
        }
    }

    /// Spent without leave: the rest of a query of several statements, a result under way, what is let through slowly. It is
    /// paid from the next grants, and nothing is admitted before; more than `most` nobody has to pay.
    pub fn owe(&mut self, amount: u64, most: u64) {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        let paid = self.left.clamp(0, amount);
        self.spent += paid.unsigned_abs();
        let least = (-i64::try_from(most).unwrap_or(i64::MAX)).min(self.left);
        self.left = self.left.saturating_sub(amount).max(least);
    }

    /// All replicas together, as last heard.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Anything may be spent now.
    pub fn open(&self, now: u64) -> bool {
        self.left > 0 && now < self.valid_until
    }

    /// Tokens owed.
    pub fn debt(&self) -> u64 {
        u64::try_from(-self.left.min(0)).unwrap_or(0)
    }

    /// Less is wanted before it runs out, and a request is worth while.
    pub fn is_low(&self, now: u64) -> bool {
        !self.asked && (self.waiting > 0 || now < self.valid_until && self.left < self.in_a_tick())
    }

    /// What is spent until the next answer, at the pace of late.
    fn in_a_tick(&self) -> i64 {
        i64::try_from(self.rate * 3 / 2 / 1000).unwrap_or(i64::MAX)
    }

    /// What to say at `now`, if anything. A quarter of the ceiling is asked for at least, so that a burst waits for nobody; a
    /// tenth, and no more is kept, while another replica gets less than it wants. A token that goes back is not spent any
    /// more from here on. Of a month a sixteenth of `limit` is kept, so that who comes back after a while waits for nobody.
    pub fn ask(&mut self, now: u64, meter: Meter, limit: u64) -> Option<Ask> {
        let since = self.asked_last.map_or(EXCHANGE_MS, |at| now.saturating_sub(at)).max(1);
        let fresh = self.spent - self.spent_last;
        if now >= self.valid_until {
            self.left = self.left.min(0);
        }
        let idle = fresh == 0 && self.waiting == 0 && self.left >= 0;
        let due = since >= RATE_LEASE_MS / 2;
        let rest = if meter == Meter::Egress { i64::try_from(limit / 16).unwrap_or(i64::MAX) } else { 0 };
        let late = self.left > 0 && now + meter.lease_ms() / 2 > self.valid_until;
        if !self.asked && !late && (idle && self.left <= rest && self.reported == self.spent) {
            return None;
        }
        let enough = self.waiting == 0 && self.left >= self.in_a_tick().max(1);
        if !self.asked && !due && (idle || enough) {
            return None;
        }
        let rate = (fresh + self.waiting) * 1000 * 1000 / since;
        self.rate = if self.asked_last.is_none() { rate } else { (self.rate + rate) / 2 };
        let back = idle && due;
        let part = if now < self.rivals_until { limit / 10 } else { limit / 4 };
        if back {
            self.left = self.left.min(rest);
        } else if now < self.rivals_until {
            self.left = self.left.min(i64::try_from(part).unwrap_or(i64::MAX).max(self.in_a_tick()));
        }
        let keep = u64::try_from(self.left.max(0)).unwrap_or(0);
        let useful = (self.rate * 3 / 2000).max(self.waiting).max(fresh * 2).max(part).max(1) + self.debt();
        let want = if back { 0 } else { useful.saturating_sub(keep) };
        (self.asked, self.asked_last, self.spent_last) = (true, Some(now), self.spent);
        self.limit = limit;
        self.waiting = 0;
        Some(Ask { spent: self.spent, keep, want })
    }

    /// The answer to what was said at `sent`. Answers to earlier requests must not come here.
    pub fn answered(&mut self, sent: u64, now: u64, meter: Meter, wanted: u64, answer: Answer) {
        self.asked = false;
        let answer = if std::mem::take(&mut self.void) { Answer { granted: 0, ..answer } } else { answer };
        self.reported = self.spent_last;
        self.spent += answer.granted.min(self.debt());
        self.left = self.left.saturating_add(i64::try_from(answer.granted).unwrap_or(i64::MAX));
        self.valid_until = valid_until(sent, meter);
        self.used = answer.used + answer.granted;
        // There was more, and not for this one alone.
        if answer.granted < wanted && self.used < self.limit {
            self.rivals_until = now + RATE_LEASE_MS;
        }
        // Short of what is wanted because others want it too is not full.
        let all = self.used >= self.limit;
        self.full = refusal(now, wanted, answer).filter(|_| all);
    }

    /// Nobody knows whether the bucket has heard it: the next request says it again.
    pub fn unanswered(&mut self) {
        (self.asked, self.void) = (false, false);
    }

    /// Everything goes back.
    pub fn end(&mut self) -> Ask {
        self.left = self.left.min(0);
        Ask { spent: self.spent, keep: 0, want: 0 }
    }

    /// The ceiling is another one: nothing is spent that was granted below the old one, or will be by an answer under way, and
    /// a refusal is none any more.
    pub fn cut(&mut self) {
        self.void = self.asked;
        self.left = self.left.min(0);
        self.full = None;
    }
}

/// A twentieth early, for clocks that do not run alike.
fn valid_until(sent: u64, meter: Meter) -> u64 {
    sent + meter.lease_ms() / 20 * 19
}

fn refusal(now: u64, wanted: u64, answer: Answer) -> Option<Refusal> {
    // Whoever is refused finds all of it spent.
    let full = Full { used: answer.used + answer.granted, frees_in: answer.frees_in };
    (answer.granted < wanted).then_some(Refusal { full, learned: now })
}

/// A replica's part of a bucket of slots: taken, and given back.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    granted: u64,
    valid_until: u64,
    in_use: u64,
    /// When one was last taken or given.
    busy: Option<u64>,
    /// All replicas together, as last heard.
    used: u64,
    full: Option<Refusal>,
    /// What the answer under way grants is not to be used.
    void: bool,
    asked: bool,
    asked_last: Option<u64>,
    waiting: u64,
}

impl Slots {
    pub fn used(&self) -> u64 {
        self.used
    }

    /// A slot, if there is one. `share` is how many the replica may use beside those that were granted.
    pub fn take(&mut self, now: u64, share: u64) -> Admission {
        let granted = if now < self.valid_until { self.granted } else { 0 };
        if self.in_use < granted + share {
            self.in_use += 1;
            self.busy = Some(now);
            return Admission::Admitted;
        }
        self.waiting += 1;
        self.full.as_ref().and_then(|full| full.at(now)).map_or(Admission::Ask, Admission::Over)
    }

    /// For a session that came from elsewhere in this process, where it was admitted.
    pub fn force(&mut self) {
        self.in_use += 1;
    }

    pub fn give(&mut self, now: u64) {
        self.in_use = self.in_use.saturating_sub(1);
        self.busy = Some(now);
    }

    /// How the bucket was when it refused, a few seconds ago at most.
    pub fn full_lately(&self, now: u64) -> Option<Full> {
        self.full.filter(|full| now.saturating_sub(full.learned) < RATE_LEASE_MS).map(|full| full.full)
    }

    fn is_low(&self) -> bool {
        !self.asked && self.waiting > 0
    }

    /// A few more than are in use, as long as there are plenty for everybody. Of a small ceiling none is kept for nobody:
    /// another replica would be refused it.
    fn useful(&self, now: u64, limit: u64) -> u64 {
        let lately = self.busy.is_some_and(|at| now.saturating_sub(at) < SPARE_MS);
        let least = match self.in_use + self.waiting {
            0 if lately => 0,
            0 => return 0,
            _ => 1,
        };
        let spare = if self.used <= limit / 2 { (limit / 8).clamp(least, 64) } else { 0 };
        self.in_use + spare
    }

    /// What to say at `now`, if anything. A slot that goes back is not taken any more from here on.
    pub fn ask(&mut self, now: u64, limit: u64) -> Option<Ask> {
        if now >= self.valid_until {
            self.granted = 0;
        }
        let useful = self.useful(now, limit) + self.waiting;
        let since = self.asked_last.map_or(u64::MAX, |at| now.saturating_sub(at));
        let too_many = self.granted > useful && since >= RATE_LEASE_MS / 2;
        let too_few = self.is_low() || (self.granted < self.in_use && since >= RATE_LEASE_MS / 2);
        let late = self.granted > 0 && since >= LONG_LEASE_MS / 2;
        if !(self.asked || too_many || too_few || late) {
            return None;
        }
        self.granted = self.granted.min(useful);
        (self.asked, self.asked_last, self.waiting) = (true, Some(now), 0);
        Some(Ask { spent: 0, keep: self.granted, want: useful - self.granted })
    }

    pub fn answered(&mut self, sent: u64, now: u64, wanted: u64, answer: Answer) {
        self.asked = false;
        self.granted += if std::mem::take(&mut self.void) { 0 } else { answer.granted };
        self.used = answer.used;
        self.valid_until = valid_until(sent, Meter::Connections);
        self.full = refusal(now, wanted, answer);
    }

    pub fn unanswered(&mut self) {
        (self.asked, self.void) = (false, false);
    }

    /// Everything goes back.
    pub fn end(&mut self) -> Ask {
        self.granted = 0;
        Ask { spent: 0, keep: 0, want: 0 }
    }

    /// The ceiling is another one; who is in stays in.
    pub fn cut(&mut self, limit: u64) {
        self.void = self.asked;
        self.granted = self.granted.min(limit);
        self.full = None;
    }
}

#[cfg(test)]
#[path = "escrow_tests.rs"]
mod tests;
