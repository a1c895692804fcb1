//! How much traffic a pod may have: `resource/network-bandwidth`, by a plugin on the cables of the pod. Loopback is none.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::appc::Isolator;
use crate::appc::isolator::{NETWORK_BANDWIDTH, isolator};
use crate::isolate::resource::of_devices;
use crate::load::Pod;

/// The bytes a second that isolators let in, and as many out.
///
/// # Errors
/// A value that is none; the message names the isolator and the field.
pub(crate) fn network_bandwidth(isolators: &[Isolator]) -> Result<Option<u64>> {
    let isolator = isolator(isolators, NETWORK_BANDWIDTH);
    let limit = isolator.map(|i| of_devices(&i.value).context(NETWORK_BANDWIDTH));
    limit.transpose()
}

/// The smallest burst, in bits: what a single big packet is (64 KiB).
const LEAST_BURST: u64 = 8 << 16;

/// What a plugin takes for a burst at most, in bits.
const MOST: u64 = u32::MAX as u64;

/// The app whose isolator is the pod's as well: the only one that it will ever have.
pub(crate) fn sole_app(pod: &Pod) -> Option<&crate::load::PodApp> {
    match pod.apps.as_slice() {
        [app] if !pod.mutable => Some(app),
        _ => None,
    }
}

/// The bytes a second of the pod, each way: what its isolator says, or that of its only app; the lower of both.
///
/// # Errors
/// A value that is none; the message names the isolator.
pub fn bandwidth(pod: &Pod) -> Result<Option<u64>> {
    let own = network_bandwidth(&pod.manifest.isolators)?;
    let app = sole_app(pod).map(|app| network_bandwidth(&app.app.isolators));
    let app = app.transpose()?.flatten();
    Ok(own.into_iter().chain(app).min())
}

/// As plugins with the capability `bandwidth` take it, in bits a second and bits: a tenth of a second's at once.
pub fn shaping(bytes: u64) -> Value {
    let rate = bytes.saturating_mul(8);
    let burst = (rate / 10).clamp(LEAST_BURST, MOST);
    json!({ "ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_bursts() {
        let expected = |rate: u64, burst: u64| json!({ "ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst });
        assert_eq!(shaping(1_000_000), expected(8_000_000, 800_000));
        assert_eq!(shaping(1), expected(8, LEAST_BURST));
        assert_eq!(shaping(u64::MAX), expected(u64::MAX, MOST));
    }
}
