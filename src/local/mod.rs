//! The local Railway. Read: binaries, cluster (run_as) for the Postgres servers behind its services.

mod binaries;
mod cluster;
mod cluster_error;
mod run_as;

pub use binaries::Binaries;
pub use cluster::{Cluster, ServerProcess, free_port};
pub use cluster_error::ClusterError;
