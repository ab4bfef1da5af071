//! Which routes are in force here. Pure.

use std::collections::HashMap;
use std::sync::Arc;

/// Every worker says once of each changed route that it is in force with it; the route is when all have.
#[derive(Debug)]
pub struct Acks {
    workers: usize,
    /// The newest version handed out as a whole.
    version: u64,
    /// By tenant: the version that is awaited, and of how many workers still.
    pending: HashMap<Arc<str>, (u64, usize)>,
    /// In force, while others of their version are awaited.
    early: HashMap<Arc<str>, u64>,
}

impl Acks {
    pub fn new(workers: usize, version: u64) -> Acks {
        Acks { workers, version, pending: HashMap::new(), early: HashMap::new() }
    }

    /// Before the changes of `version` are handed out: tenants with the version of their own route, removed ones without.
    pub fn expect<'a>(&mut self, version: u64, changed: impl Iterator<Item = (&'a Arc<str>, Option<u64>)>) {
        for (tenant, version) in changed {
            self.early.remove(tenant);
            match version {
                Some(version) => drop(self.pending.insert(Arc::clone(tenant), (version, self.workers))),
                // A worker does not speak of what is gone.
                None => drop(self.pending.remove(tenant)),
            }
        }
        self.version = version;
    }

    /// A worker has it in force. Answers whether all have now.
    pub fn applied(&mut self, tenant: &Arc<str>, version: u64) -> bool {
        let Some((awaited, left)) = self.pending.get_mut(tenant) else { return false };
        if *awaited != version {
            return false;
        }
        *left = left.saturating_sub(1);
        if *left > 0 {
            return false;
        }
        self.pending.remove(tenant);
        self.early.insert(Arc::clone(tenant), version);
        true
    }

    /// The version that is in force with all its routes, and the routes that are ahead of it.
    pub fn state(&mut self) -> (u64, Vec<(String, u64)>) {
        let oldest = self.pending.values().map(|(version, _)| version.saturating_sub(1)).min();
        let whole = oldest.map_or(self.version, |oldest| oldest.min(self.version));
        self.early.retain(|_, version| *version > whole);
        (whole, self.early.iter().map(|(tenant, version)| (tenant.to_string(), *version)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_in_force_when_every_worker_has_every_route_of_it() {
        let [acme, beta, gone]: [Arc<str>; 3] = ["acme".into(), "beta".into(), "gone".into()];
        let mut acks = Acks::new(2, 4);
        assert_eq!(acks.state(), (4, vec![]));
        acks.expect(6, [(&acme, Some(5)), (&beta, Some(6)), (&gone, None)].into_iter());
        assert_eq!(acks.state(), (4, vec![]));
        assert!(!acks.applied(&beta, 6));
        assert!(acks.applied(&beta, 6), "both workers have it");
        assert_eq!(acks.state(), (4, vec![("beta".into(), 6)]), "ahead of the whole");
        // A newer route of the same tenant: what is said of the older one counts no more.
        assert!(!acks.applied(&acme, 5));
        acks.expect(7, [(&acme, Some(7))].into_iter());
        assert!(!acks.applied(&acme, 5));
        assert!(!acks.applied(&acme, 7));
        assert_eq!(acks.state(), (6, vec![]));
        assert!(acks.applied(&acme, 7));
        assert_eq!(acks.state(), (7, vec![]));
        assert!(!acks.applied(&acme, 7), "said once more than asked");
        acks.expect(8, [(&acme, Some(8))].into_iter());
        acks.expect(9, [(&acme, None)].into_iter());
        assert_eq!(acks.state(), (9, vec![]), "nothing is awaited of a tenant that is gone");
    }
}
