//! The price tables of docs/OGELNATES-ARCHITECTURE.md, recomputed in integers: a figure there that the arithmetic does
//! not give fails here. List prices and assumptions are those of the document's sections 1.1 and 1.5.

/// Millionths of a unit (GB, vCPU), averaged over the month, so that every assumption is a whole number.
#[derive(Clone, Copy)]
struct Load {
    ram: i128,
    cpu: i128,
    data: i128,
    egress: i128,
}

const fn load(ram: i128, cpu: i128, data: i128, egress: i128) -> Load {
    Load { ram, cpu, data, egress }
}

const FREE: Load = load(80_000, 4_000, 100_000, 50_000);
const STARTER: Load = load(250_000, 50_000, 1_000_000, 2_000_000);
const PRO: Load = load(750_000, 250_000, 10_000_000, 20_000_000);
/// What a tenant adds to a shared server; its data and egress are those of its own server.
const FREE_SHARED: Load = load(12_000, 2_000, FREE.data, FREE.egress);
const STARTER_SHARED: Load = load(140_000, 45_000, STARTER.data, STARTER.egress);
const SERVER_FLOOR: Load = load(120_000, 4_000, 0, 0);
const ROUTER: Load = load(100_000, 50_000, 0, 0);
const OPERATOR: Load = load(80_000, 20_000, 0, 0);
const CONTROL: Load = load(100_000, 10_000, 500_000, 0);
const REPLICA: Load = load(700_000, 120_000, PRO.data, 0);
const ETCD: Load = load(50_000, 15_000, 100_000, 0);
const HAPROXY: Load = load(30_000, 10_000, 0, 0);

/// Nano-dollars for a millionth of a unit: RAM $10, CPU $20, volume $0.15, egress $0.05.
const PRICE: Load = load(10_000, 20_000, 150, 50);
/// A file system takes 2.5 % of a volume's size: of 50 GB on Pro, of 5 GB on Hobby.
const FILE_SYSTEM_PRO: i128 = 1_250_000;
const FILE_SYSTEM_HOBBY: i128 = 125_000;

#[derive(Clone, Copy)]
struct Bill {
    sum: Load,
    volumes: i128,
    file_system: i128,
}

impl Bill {
    fn new(file_system: i128) -> Bill {
        Bill { sum: load(0, 0, 0, 0), volumes: 0, file_system }
    }

    fn add(mut self, times: i128, l: Load) -> Bill {
        let sum = &mut self.sum;
        (sum.ram, sum.cpu) = (sum.ram + times * l.ram, sum.cpu + times * l.cpu);
        (sum.data, sum.egress) = (sum.data + times * l.data, sum.egress + times * l.egress);
        self
    }

    /// `times` services, each with a volume of its own.
    fn add_stored(mut self, times: i128, l: Load) -> Bill {
        self.volumes += times;
        self.sum.data += times * self.file_system;
        self.add(times, l)
    }

    fn control(self) -> Bill {
        self.add(1, ROUTER).add(1, OPERATOR).add_stored(1, CONTROL)
    }

    fn high_availability(self, times: i128) -> Bill {
        self.add_stored(2 * times, REPLICA).add_stored(3 * times, ETCD).add(3 * times, HAPROXY)
    }

    /// RAM, CPU, volume, egress in nano-dollars.
    fn parts(&self) -> [i128; 4] {
        let s = &self.sum;
        [s.ram * PRICE.ram, s.cpu * PRICE.cpu, s.data * PRICE.data, s.egress * PRICE.egress]
    }

    fn total(&self) -> i128 {
        self.parts().iter().sum()
    }
}

fn rounded(nanos: i128, unit: i128) -> i128 {
    (nanos + unit / 2) / unit
}

fn cents(nanos: i128) -> String {
    let cents = rounded(nanos, 10_000_000);
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// Exact: no assumption yields more than four decimals.
fn exact(nanos: i128) -> String {
    assert_eq!(nanos % 100_000, 0, "{nanos} has more than four decimals");
    format!("${}.{:04}", nanos / 1_000_000_000, nanos / 100_000 % 10_000)
}

fn dollars(nanos: i128) -> String {
    let text = rounded(nanos, 1_000_000_000).to_string();
    if text.len() <= 3 {
        format!("${text}")
    } else {
        format!("${},{}", &text[..text.len() - 3], &text[text.len() - 3..])
    }
}

fn unit_rows() -> Vec<String> {
    let one = |l| Bill::new(FILE_SYSTEM_PRO).add_stored(1, l);
    let bills = [
        ("FREE", one(FREE)),
        ("STARTER", one(STARTER)),
        ("PRO", one(PRO)),
        ("HA, added to one PRO", Bill::new(FILE_SYSTEM_PRO).high_availability(1)),
        ("control plane", Bill::new(FILE_SYSTEM_PRO).control()),
    ];
    let row = |(name, bill): (&str, Bill)| {
        format!("| {name} | {} | {} |", bill.parts().map(exact).join(" | "), exact(bill.total()))
    };
    bills.into_iter().map(row).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Dedicated,
    Asleep,
    Shared,
}

/// The profile of 10 FREE, 5 STARTER, 2 PRO.
fn scenario(file_system: i128, free: Place, starter: Place, ha: bool) -> Bill {
    let mut bill = Bill::new(file_system).control().add_stored(2, PRO);
    bill = match free {
        Place::Dedicated => bill.add_stored(10, FREE),
        // Awake 3 % of the month; the volume stays.
        Place::Asleep => bill.add_stored(10, load(FREE.ram * 3 / 100, FREE.cpu * 3 / 100, FREE.data, FREE.egress)),
        Place::Shared => bill.add_stored(1, SERVER_FLOOR).add(10, FREE_SHARED),
    };
    bill = match (starter, free) {
        (Place::Shared, Place::Shared) => bill.add(5, STARTER_SHARED),
        _ => bill.add_stored(5, STARTER),
    };
    if ha { bill.high_availability(2) } else { bill }
}

fn scenario_rows() -> Vec<String> {
    use Place::{Asleep, Dedicated, Shared};
    let all = [
        ("A all dedicated", Dedicated, Dedicated, false),
        ("B FREE and STARTER share one server", Shared, Shared, false),
        ("C all dedicated, FREE asleep", Asleep, Dedicated, false),
        ("D all dedicated, PRO HA", Dedicated, Dedicated, true),
        ("E as B, PRO HA", Shared, Shared, true),
        ("F FREE share, STARTER dedicated", Shared, Dedicated, false),
    ];
    let row = |(name, free, starter, ha): (&str, Place, Place, bool)| {
        let pro = scenario(FILE_SYSTEM_PRO, free, starter, ha);
        let hobby = scenario(FILE_SYSTEM_HOBBY, free, starter, ha);
        let parts = pro.parts().map(cents).join(" | ");
        format!("| {name} | {parts} | {} | {} | {} |", cents(pro.total()), cents(hobby.total()), pro.volumes)
    };
    all.into_iter().map(row).collect()
}

fn growth_rows() -> Vec<String> {
    let row = |n: i128| {
        let (free, starter) = (rounded(n * 6, 10), rounded_even(n * 3, 10));
        let pro = n - free - starter;
        let servers = (free + 99) / 100 + (starter + 19) / 20;
        let routers = ((n + 499) / 500 - 1).max(0);
        let base = || Bill::new(FILE_SYSTEM_PRO).control().add(routers, ROUTER).add_stored(pro, PRO);
        let own = base().add_stored(free, FREE).add_stored(starter, STARTER);
        let shared = base().add_stored(servers, SERVER_FLOOR).add(free, FREE_SHARED).add(starter, STARTER_SHARED);
        let projects = (shared.volumes + 19) / 20;
        let each = cents(shared.total() / n);
        let (own_sum, shared_sum) = (dollars(own.total()), dollars(shared.total()));
        let (own_volumes, volumes) = (own.volumes, shared.volumes);
        format!(
            "| {n} | {free} / {starter} / {pro} | {own_sum} | {own_volumes} | {shared_sum} | {servers} | {volumes} | {projects} | {each} |"
        )
    };
    [10, 17, 25, 50, 100, 250, 500, 1000, 2500, 5000].into_iter().map(row).collect()
}

/// Ties go to the even number: 7.5 STARTER tenants are 8, as in the table's source.
fn rounded_even(n: i128, unit: i128) -> i128 {
    let down = n / unit;
    down + i128::from(2 * (n % unit) > unit || (2 * (n % unit) == unit && down % 2 == 1))
}

fn sensitivity_rows() -> Vec<String> {
    let usage = |free, starter, pro| {
        let base = Bill::new(FILE_SYSTEM_PRO).control();
        cents(base.add_stored(10, free).add_stored(5, starter).add_stored(2, pro).total())
    };
    let rows = [
        ("none", usage(FREE, STARTER, PRO)),
        ("FREE RAM 0.08 to 0.16 GB", usage(Load { ram: 2 * FREE.ram, ..FREE }, STARTER, PRO)),
        ("STARTER RAM 0.25 to 0.5 GB", usage(FREE, Load { ram: 2 * STARTER.ram, ..STARTER }, PRO)),
        ("PRO RAM 0.75 to 3 GB", usage(FREE, STARTER, Load { ram: 4 * PRO.ram, ..PRO })),
        ("PRO CPU 0.25 to 1 vCPU", usage(FREE, STARTER, Load { cpu: 4 * PRO.cpu, ..PRO })),
        ("PRO egress 20 to 200 GB", usage(FREE, STARTER, Load { egress: 10 * PRO.egress, ..PRO })),
        ("PRO data 10 to 100 GB", usage(FREE, STARTER, Load { data: 10 * PRO.data, ..PRO })),
    ];
    rows.into_iter().map(|(change, sum)| format!("| {change} | {sum} |")).collect()
}

/// Section 5.4: what a tenant costs, alone and with a seventeenth of the control plane, against a price in dollars.
fn margin_rows() -> Vec<String> {
    let one = |l| Bill::new(FILE_SYSTEM_PRO).add_stored(1, l);
    let crowd = one(SERVER_FLOOR).add(60, FREE_SHARED).total() / 60;
    let heavy = one(Load { ram: 4 * PRO.ram, cpu: 4 * PRO.cpu, ..PRO }).total();
    // A full volume: the file system's share is part of the 50 GB.
    let capped = Bill::new(0).add_stored(1, load(4_000_000, 4_000_000, 50_000_000, PRO.egress)).total();
    let ha = one(PRO).high_availability(1).total();
    let share = Bill::new(FILE_SYSTEM_PRO).control().total() / 17;
    let cases = [
        ("FREE | shared, 60 on a server", crowd, 0),
        ("FREE | own server", one(FREE).total(), 0),
        ("STARTER | own server", one(STARTER).total(), 9),
        ("PRO | own server", one(PRO).total(), 79),
        ("PRO at four times the load | own server", heavy, 79),
        ("PRO at its pool's caps (4 vCPU, 4 GB, 50 GB) | own server", capped, 79),
        ("PRO with HA | own server, replicas", ha, 79),
    ];
    let row = |(name, cost, price): (&str, i128, i128)| {
        let (full, price_nanos) = (cost + share, price * 1_000_000_000);
        let price = if price == 0 { "$0".to_owned() } else { format!("${price}.00") };
        let margin = match price_nanos - full {
            loss if loss < 0 => format!("−{}", cents(-loss)),
            gain => format!("{} ({} %)", cents(gain), rounded(gain * 100, price_nanos)),
        };
        format!("| {name} | {} | {} | {price} | {margin} |", cents(cost), cents(full))
    };
    cases.into_iter().map(row).collect()
}

#[test]
fn the_price_tables_of_the_architecture_document_are_what_the_arithmetic_gives() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OGELNATES-ARCHITECTURE.md");
    let document = std::fs::read_to_string(path).expect("the document is in the tree");
    let rows = [unit_rows(), scenario_rows(), growth_rows(), sensitivity_rows(), margin_rows()].concat();
    let missing: Vec<String> = rows.into_iter().filter(|row| !document.contains(row)).collect();
    assert!(
        missing.is_empty(),
        "{path} lacks these rows; correct the document or its assumptions:\n{}",
        missing.join("\n")
    );
}
