//! What the pools cost, and why: computed before anything is reserved, printed at start.

use std::fmt;

/// One pool's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The pool.
    pub name: &'static str,
    /// Items in it.
    pub count: u64,
    /// Bytes an item takes, headers included.
    pub item_bytes: u64,
    /// Why that many.
    pub reason: &'static str,
}

/// All pools of one core, or of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// In the order in which they were added.
    pub items: Vec<Item>,
}

impl Footprint {
    /// Adds a pool.
    pub fn add(&mut self, name: &'static str, count: u64, item_bytes: u64, reason: &'static str) {
        self.items.push(Item { name, count, item_bytes, reason });
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|i| i.count * i.item_bytes).sum()
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in &self.items {
            writeln!(
                f,
                "  {:<16} {:>9} × {:>6} B = {:>10}  {}",
                i.name,
                i.count,
                i.item_bytes,
                human_bytes((i.count * i.item_bytes) as usize),
                i.reason
            )?;
        }
        write!(f, "  {:<16} {:>9}   {:>6}     {:>10}", "in all", "", "", human_bytes(self.bytes() as usize))
    }
}

/// `1.5 MiB`, as people read sizes.
pub fn human_bytes(bytes: usize) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_prints() {
        let mut f = Footprint::default();
        f.add("flows", 1024, 512, "one per connection");
        f.add("cells", 10, 2048, "payload");
        assert_eq!(f.bytes(), 1024 * 512 + 20480);
        assert!(f.to_string().contains("512.0 KiB"), "{f}");
        assert_eq!(human_bytes(3), "3 B");
    }
}
