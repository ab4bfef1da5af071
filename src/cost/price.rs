//! Railway's list prices, the same on every paid plan (docs page pricing/plans, read 2026-11-24).

use super::money::Nanos;

/// Nano-dollars a month for one vCPU.
const VCPU_MONTH: i128 = 20 * Nanos::DOLLAR;
/// Nano-dollars a month for one GB of memory; Railway's GB of memory and disk are taken as GiB.
const MEMORY_GIB_MONTH: i128 = 10 * Nanos::DOLLAR;
/// Nano-dollars a month for one GB on a volume.
const VOLUME_GIB_MONTH: i128 = 15 * Nanos::DOLLAR / 100;
/// A volume's file system takes 2.5 % of its size from the first minute (docs: 2 to 3 %).
const VOLUME_METADATA_PER_MILLE: i128 = 25;

/// What something uses on average over a month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consumption {
    pub vcpu_milli: u64,
    pub memory_mib: u64,
    /// Data on the volume, without the file system's own share.
    pub data_mib: u64,
    /// Provisioned size of the volume.
    pub volume_mib: u64,
}

/// List price of a month. Each part is rounded down to a nano-dollar.
pub fn monthly(use_: Consumption) -> Nanos {
    let cpu = i128::from(use_.vcpu_milli) * VCPU_MONTH / 1_000;
    let memory = i128::from(use_.memory_mib) * MEMORY_GIB_MONTH / 1_024;
    let metadata_milli = i128::from(use_.volume_mib) * VOLUME_METADATA_PER_MILLE;
    let volume = (i128::from(use_.data_mib) * 1_000 + metadata_milli) * VOLUME_GIB_MONTH / 1_024 / 1_000;
    Nanos(cpu + memory + volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_of_two_vcpus_two_gib_and_ten_gib_of_data() {
        let full = Consumption { vcpu_milli: 2_000, memory_mib: 2_048, data_mib: 10 * 1_024, volume_mib: 10 * 1_024 };
        // 40 + 20 + (10 + 0.25) x 0.15
        assert_eq!(monthly(full), Nanos(61_537_500_000));
    }

    #[test]
    fn an_empty_volume_costs_its_metadata() {
        let empty = Consumption { volume_mib: 50 * 1_024, ..Consumption::default() };
        assert_eq!(monthly(empty).to_string(), "$0.19");
    }
}
