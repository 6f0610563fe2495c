//! Records to work on.
//!
//! Responsible for: the JSON documents of 1 KB, the same in every run.
//! Not responsible for: where they are sent.

use bytes::Bytes;
use serde_json::json;

use super::Tried;

/// Records of one batch, as the engine's default has it.
pub const BATCH: usize = 256;
/// Size of a record's value.
pub const RECORD_BYTES: usize = 1024;
/// Different values; more of them would only fill the caches.
const DISTINCT: usize = 4096;
/// Different keys.
const KEYS: usize = 1000;

/// Numbers that look random and are the same in every run: SplitMix64 (Steele, Lea, Flood, "Fast
/// splittable pseudorandom number generators").
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// Words of `length` characters altogether.
    pub fn words(&mut self, length: usize) -> String {
        let mut words = String::with_capacity(length + 16);
        while words.len() < length {
            words.push_str(&format!("{:x} ", self.draw() & 0xff_ffff));
        }
        words.truncate(length);
        words
    }
}

/// Orders of 1 KB. Four of five have the status `ok`, which is what programs filter by.
pub struct Records {
    values: Vec<Bytes>,
    keys: Vec<Bytes>,
}

impl Records {
    /// Makes them.
    pub fn new() -> Tried<Self> {
        let mut random = Random::new(1);
        let mut values = Vec::with_capacity(DISTINCT);
        for number in 0..DISTINCT {
            values.push(Bytes::from(order(number, &mut random)?));
        }
        let keys = (0..KEYS).map(|number| Bytes::from(format!("customer-{number}")));
        Ok(Self { values, keys: keys.collect() })
    }

    /// Value of record number `index`; shares its bytes.
    pub fn value(&self, index: u64) -> Bytes {
        self.values[index as usize % DISTINCT].clone()
    }

    /// Its key; shares its bytes.
    pub fn key(&self, index: u64) -> Bytes {
        self.keys[index as usize % KEYS].clone()
    }
}

fn order(number: usize, random: &mut Random) -> Tried<Vec<u8>> {
    let status = if random.below(5) == 0 { "cancelled" } else { "ok" };
    let mut items = Vec::new();
    for _ in 0..4 {
        items.push(json!({
            "sku": format!("sku-{:06}", random.below(1_000_000)),
            "quantity": random.below(9) + 1,
            "price": random.below(100_000) as f64 / 100.0,
        }));
    }
    let mut order = json!({
        "id": format!("order-{number:08}"),
        "status": status,
        "qty": random.below(100).to_string(),
        "currency": "EUR",
        "created": "2026-03-10T11:58:03Z",
        "customer": {
            "id": format!("customer-{}", number % KEYS),
            "name": random.words(20),
            "country": "DE",
            "tier": random.below(4),
        },
        "items": items,
        "express": random.below(2) == 0,
        "discount": null,
        "tags": ["web", "spring", "returning"],
        "note": "",
    });
    let missing = RECORD_BYTES.saturating_sub(serde_json::to_vec(&order)?.len());
    order["note"] = random.words(missing).into();
    Ok(serde_json::to_vec(&order)?)
}
