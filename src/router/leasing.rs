//! Parts of the ceilings from the control database, for all workers in one statement: one a second while somebody needs
//! more, and else one in [`LOOK`]. Events and the sizes of databases travel with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::{Escrow, Exchanged, LeaseAsk, News};
use crate::tenancy::escrow::EXCHANGE_MS;

use super::identify::Rules;
use super::requests::Requests;
use super::worker::{Leased, Team};

const EXCHANGE: Duration = Duration::from_millis(EXCHANGE_MS);
/// Workers are asked at least this often: what is idle goes back, and the control database hears that this router is alive.
const LOOK: Duration = Duration::from_secs(5);
/// A worker that does not answer in time is asked again the next time.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// In one statement; the others have their turn in the next.
const ASKS_MAX: usize = 5_000;
/// Events until the next exchange.
const NEWS_MAX: usize = 1_000;
/// Sizes of databases change slowly.
const SIZES: Duration = Duration::from_secs(5);

/// What the rest of the router has to do with it.
#[derive(Default)]
pub struct LeaseBook {
    wanted: Notify,
    /// What workers that have ended had to say.
    last_words: Mutex<Vec<LeaseAsk>>,
    /// What happened to tenants at their ceilings, for people.
    news: Mutex<Vec<News>>,
}

impl LeaseBook {
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    pub fn last_words(&self, asks: Vec<LeaseAsk>) {
        self.words().extend(asks);
    }

    /// Over [`NEWS_MAX`] the newest are not told; the meters count all.
    pub fn news(&self, news: News) {
        let mut all = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < NEWS_MAX {
            all.push(news);
        }
    }

    pub(super) fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn words(&self) -> MutexGuard<'_, Vec<LeaseAsk>> {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Leasing {
    pub escrow: Escrow,
    pub team: Team,
    pub book: Arc<LeaseBook>,
    pub requests: Arc<Requests>,
    pub rules: watch::Receiver<Arc<Rules>>,
}

impl Leasing {
    /// Until `stop`, when the workers have ended: then everything goes back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last: Option<Instant> = None;
        let (mut sizes_at, mut silent, mut reached) = (Instant::now(), false, 0);
        while stop.run_until_cancelled(self.wait(last)).await.is_some() {
            // Before anything is said: what is granted then lasts from here.
            let sent = Instant::now();
            last = Some(sent);
            let mut asks = self.asks().await;
            let later = in_turn(&mut asks, &mut reached);
            let sizes = sizes_at <= sent;
            if sizes {
                sizes_at = sent + SIZES;
            }
            let heard = self.escrow.exchange(&asks, &self.book.take_news(), sizes).await;
            let failed = heard.as_ref().err().map(ToString::to_string);
            asks.extend(later);
            self.heard(sent, &asks, heard.ok());
            match (failed, silent) {
                (Some(error), false) => {
                    warn!(error, "no parts of the ceilings can be leased; shares and what is held are spent");
                }
                (None, true) => info!("parts of the ceilings are leased again"),
                _ => continue,
            }
            silent = !silent;
        }
        let mut words = std::mem::take(&mut *self.book.words());
        words.extend(self.requests.end());
        for part in words.chunks(ASKS_MAX) {
            if self.escrow.exchange(part, &[], false).await.is_err() {
                return;
            }
        }
        let _ = self.escrow.leave().await;
    }

    /// For somebody who wants something, not sooner than a second after the last request.
    async fn wait(&self, last: Option<Instant>) {
        let Some(last) = last else { return };
        let _ = timeout(LOOK, self.book.wanted.notified()).await;
        sleep_until(last + EXCHANGE).await;
    }

    async fn asks(&self) -> Vec<LeaseAsk> {
        let (give, mut given) = mpsc::channel(self.team.size().max(1));
        self.team.asks(&move |asks| drop(give.try_send(asks)));
        let mut all = self.requests.asks();
        while let Ok(Some(asks)) = timeout(ANSWER_MAX, given.recv()).await {
            all.extend(asks);
        }
        all
    }

    /// To everybody who has asked; who got no answer asks again.
    fn heard(&self, sent: Instant, asks: &[LeaseAsk], heard: Option<Exchanged>) {
        let (share, answers, sizes) = match heard {
            Some(heard) => (Some(heard.share), heard.answers.into_iter().collect::<HashMap<_, _>>(), heard.sizes),
            None => (None, HashMap::new(), HashMap::new()),
        };
        if !sizes.is_empty() {
            self.team.stored(&Arc::new(sizes));
        }
        let answer = |ask: &LeaseAsk| (ask.lease, ask.ask.want, answers.get(&ask.lease).copied());
        let answers = asks.iter().map(answer).collect();
        let leased = Leased { sent: sent.into_std(), share, notices: self.rules.borrow().notices, answers };
        self.requests.leased(&leased);
        self.team.leased(&leased);
    }
}

/// Leaves [`ASKS_MAX`] of `asks`, those after the lease that was `reached` the last time, and returns the others.
fn in_turn(asks: &mut Vec<LeaseAsk>, reached: &mut u64) -> Vec<LeaseAsk> {
    if asks.len() <= ASKS_MAX {
        return Vec::new();
    }
    asks.sort_unstable_by_key(|ask| (ask.lease <= *reached, ask.lease));
    let later = asks.split_off(ASKS_MAX);
    *reached = asks.last().map_or(0, |ask| ask.lease);
    later
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::escrow::{Ask, Meter};

    #[test]
    fn of_too_many_each_has_its_turn() {
        let ask = |lease: usize| LeaseAsk {
            tenant: "acme".into(),
            meter: Meter::Queries,
            lease: lease as u64,
            ask: Ask { spent: 0, keep: 0, want: 1 },
        };
        let all = 2 * ASKS_MAX + 7;
        let (mut reached, mut times) = (0, vec![0; all + 1]);
        for _ in 0..5 {
            let mut asks: Vec<LeaseAsk> = (1..=all).map(ask).collect();
            let later = in_turn(&mut asks, &mut reached);
            assert_eq!((asks.len(), asks.len() + later.len()), (ASKS_MAX, all));
            asks.iter().for_each(|ask| times[usize::try_from(ask.lease).unwrap()] += 1);
        }
        assert!(
            times[1..].iter().all(|times| (2..=3).contains(times)),
            "five rounds serve each twice, or three times"
        );
    }
}
