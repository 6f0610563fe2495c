//! Kafka's default partitioner for records with a key.
//!
//! Responsible for: murmur2 as the Java client computes it (`org.apache.kafka.common.utils.Utils`),
//! so that the embedded log, librdkafka (`murmur2_random`) and any Java producer put one key on
//! one partition, and so that the engine can tell the shard of a key by itself.
//! Not responsible for: records without a key; their producer spreads them.

/// The 32-bit murmur2 hash of `key` with Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ key.len() as u32;
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = chunks.remainder();
    for (shift, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * shift);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `partitions`.
///
/// # Panics
/// If `partitions` is not positive: a topic has at least one.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from Kafka's own unit test of `Utils.murmur2`.
    #[test]
    fn hashes_as_the_java_client_does() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key) as i32, expected, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_partition_lies_within_the_topic() {
        for number in 0..1000_u32 {
            let partition = partition_of(&number.to_le_bytes(), 7);
            assert!((0..7).contains(&partition));
        }
    }
}
