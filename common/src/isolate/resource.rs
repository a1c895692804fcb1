//! Resource isolators: how much of the machine an app or a pod may use.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::quantity::Quantity;
use crate::appc::Isolator;
use crate::appc::isolator::{
    BLOCK_BANDWIDTH, BLOCK_IOPS, CPU, CPU_SHARES, MEMORY, NETWORK_BANDWIDTH, OOM_SCORE_ADJ,
    PIDS_MAX, isolator,
};

/// The isolators of this module.
pub const NAMES: [&str; 8] = [
    CPU,
    CPU_SHARES,
    MEMORY,
    OOM_SCORE_ADJ,
    PIDS_MAX,
    BLOCK_BANDWIDTH,
    BLOCK_IOPS,
    NETWORK_BANDWIDTH,
];

/// The kernel's bounds of `cpu.shares`.
const SHARES: std::ops::RangeInclusive<i64> = 2..=262_144;
/// The kernel's bounds of `oom_score_adj` (proc(5)).
const OOM_SCORES: std::ops::RangeInclusive<i64> = -1000..=1000;
/// The kernel's bounds of `pids.max` (`PID_MAX_LIMIT` on 64 bits).
const PIDS: std::ops::RangeInclusive<i64> = 1..=4_194_304;

/// What resource isolators ask for. Network bandwidth is checked and not kept: it is not limited by cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Resources {
    /// Processor time in thousandths of a processor, never more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<u64>,
    /// Processor time in thousandths of a processor when there is too little for all; the weight of who has no shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_request: Option<u64>,
    /// The weight in the sharing of processors; 1024 is that of who has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Bytes of memory, never more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Bytes of memory that are taken away last when memory is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<u64>,
    /// How readily the kernel kills the app when memory is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
    /// Bytes a second read, and as many written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_bandwidth: Option<u64>,
    /// Read operations a second, and as many written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_iops: Option<u64>,
}

impl Resources {
    /// What `isolators` ask for.
    ///
    /// # Errors
    /// The first value that is none; the message names the isolator and the field.
    pub fn parse(isolators: &[Isolator]) -> Result<Self> {
        let value = |name: &str| isolator(isolators, name).map(|i| &i.value);
        let number =
            |name: &str, range| value(name).map(|v| integer(v, &range).context(name.to_owned()));
        let amounts = |name: &str, unit| {
            value(name).map(|v| Amounts::parse(v, unit).context(name.to_owned()))
        };
        let bandwidth = |name: &str| value(name).map(|v| of_devices(v).context(name.to_owned()));

        let cpu = amounts(CPU, Quantity::milli as Unit)
            .transpose()?
            .unwrap_or_default();
        let memory = amounts(MEMORY, Quantity::units as Unit)
            .transpose()?
            .unwrap_or_default();
        let shares = number(CPU_SHARES, SHARES).transpose()?;
        crate::net::network_bandwidth(isolators)?;
        Ok(Resources {
            cpu_limit: cpu.limit,
            cpu_request: cpu.request,
            cpu_shares: shares.map(i64::unsigned_abs),
            memory_limit: memory.limit,
            memory_request: memory.request,
            oom_score_adj: number(OOM_SCORE_ADJ, OOM_SCORES)
                .transpose()?
                .map(i32::try_from)
                .transpose()?,
            pids_max: number(PIDS_MAX, PIDS).transpose()?.map(i64::unsigned_abs),
            block_bandwidth: bandwidth(BLOCK_BANDWIDTH).transpose()?,
            block_iops: bandwidth(BLOCK_IOPS).transpose()?,
        })
    }

    /// The same with no limit above the pod's own: in a cgroup below another the kernel would refuse some and quietly
    /// not reach others.
    pub fn within(&self, pod: &Resources) -> Self {
        let least =
            |own: Option<u64>, of_pod: Option<u64>| own.map(|own| own.min(of_pod.unwrap_or(own)));
        Resources {
            cpu_limit: least(self.cpu_limit, pod.cpu_limit),
            memory_limit: least(self.memory_limit, pod.memory_limit),
            memory_request: least(self.memory_request, pod.memory_limit),
            pids_max: least(self.pids_max, pod.pids_max),
            block_bandwidth: least(self.block_bandwidth, pod.block_bandwidth),
            block_iops: least(self.block_iops, pod.block_iops),
            oom_score_adj: self.oom_score_adj.or(pod.oom_score_adj),
            ..self.clone()
        }
    }

    /// Whether anything is asked of block devices.
    pub fn of_blocks(&self) -> bool {
        self.block_bandwidth.is_some() || self.block_iops.is_some()
    }

    /// Whether an isolator called `name` has another effect here than in `other`.
    pub fn differs(&self, other: &Resources, name: &str) -> bool {
        match name {
            CPU => self.cpu_limit != other.cpu_limit,
            MEMORY => {
                (self.memory_limit, self.memory_request)
                    != (other.memory_limit, other.memory_request)
            }
            PIDS_MAX => self.pids_max != other.pids_max,
            BLOCK_BANDWIDTH => self.block_bandwidth != other.block_bandwidth,
            BLOCK_IOPS => self.block_iops != other.block_iops,
            _ => false,
        }
    }

    /// The weight in the sharing of processors: the shares that are asked for, else what the request comes to.
    pub fn shares(&self) -> Option<u64> {
        self.cpu_shares.or(self.cpu_request.map(shares_of))
    }

    /// The weight of [`Resources::shares`] on a unified host: the same proportion to who has none (1024 shares, or
    /// the weight 100), within the kernel's bounds. So does systemd; the formula that Kubernetes uses would give an app
    /// that asks for the default less than half of what an app gets that asks for nothing.
    pub fn cpu_weight(&self) -> Option<u64> {
        self.shares()
            .map(|shares| (shares * 100 / 1024).clamp(1, 10_000))
    }
}

/// A request for processor time as shares: a whole processor is who asks for nothing.
fn shares_of(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// How an amount is counted.
type Unit = fn(Quantity) -> u64;

/// The value of `resource/cpu` or `resource/memory`.
#[derive(Default)]
struct Amounts {
    limit: Option<u64>,
    request: Option<u64>,
}

impl Amounts {
    fn parse(value: &Value, unit: Unit) -> Result<Self> {
        object(value, &["default", "limit", "request"])?;
        ensure!(
            matches!(
                value.get("default"),
                None | Some(Value::Null | Value::Bool(false))
            ),
            "default: must not be true"
        );
        let amounts = Amounts {
            limit: amount(value, "limit", unit)?,
            request: amount(value, "request", unit)?,
        };
        match (amounts.limit, amounts.request) {
            (None, None) => bail!("must have a limit or a request"),
            (Some(0), _) => bail!("limit: must be more than 0"),
            (Some(limit), Some(request)) if request > limit => {
                bail!("request: must not be more than the limit")
            }
            _ => Ok(amounts),
        }
    }
}

/// The value of an isolator of devices, all of them (appc specification: `default` must be true, and there is no
/// request).
pub(crate) fn of_devices(value: &Value) -> Result<u64> {
    object(value, &["default", "limit", "request"])?;
    ensure!(
        value.get("default") == Some(&Value::Bool(true)),
        "default: must be true"
    );
    ensure!(
        amount(value, "request", Quantity::units)?.is_none(),
        "request: must not be given"
    );
    match amount(value, "limit", Quantity::units)? {
        None => bail!("limit: must be given"),
        Some(0) => bail!("limit: must be more than 0"),
        Some(limit) => Ok(limit),
    }
}

fn object(value: &Value, known: &[&str]) -> Result<()> {
    let Some(object) = value.as_object() else {
        bail!("{value} must be an object");
    };
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => bail!("{key}: there is no such field"),
        None => Ok(()),
    }
}

fn amount(value: &Value, field: &str, unit: Unit) -> Result<Option<u64>> {
    let text = match value.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => bail!("{field}: {other} must be an amount"),
    };
    let quantity: Quantity = text.parse().with_context(|| format!("{field}: {text:?}"))?;
    Ok(Some(unit(quantity)))
}

fn integer(value: &Value, range: &std::ops::RangeInclusive<i64>) -> Result<i64> {
    value
        .as_i64()
        .filter(|number| range.contains(number))
        .with_context(|| {
            format!(
                "{value} must be a number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(name: &str, value: Value) -> Result<Resources, String> {
        let isolators: Vec<Isolator> =
            serde_json::from_value(json!([{"name": name, "value": value}])).unwrap();
        Resources::parse(&isolators).map_err(|err| format!("{err:#}"))
    }

    #[test]
    fn amounts() {
        let cpu = asked(CPU, json!({"limit": "1m"})).unwrap();
        assert_eq!((cpu.cpu_limit, cpu.cpu_shares), (Some(1), None));
        let cpu = asked(CPU, json!({"limit": 1.5, "request": "500m"})).unwrap();
        assert_eq!(
            (cpu.cpu_limit, cpu.cpu_shares, cpu.shares()),
            (Some(1500), None, Some(512))
        );
        let memory = asked(MEMORY, json!({"limit": "64Mi", "request": "1M"})).unwrap();
        assert_eq!(
            (memory.memory_limit, memory.memory_request),
            (Some(64 << 20), Some(1_000_000))
        );
        let block = asked(BLOCK_BANDWIDTH, json!({"default": true, "limit": "2M"})).unwrap();
        assert_eq!(block.block_bandwidth, Some(2_000_000));
        assert_eq!(
            asked(BLOCK_IOPS, json!({"default": true, "limit": 50}))
                .unwrap()
                .block_iops,
            Some(50)
        );
        assert_eq!(asked(PIDS_MAX, json!(12)).unwrap().pids_max, Some(12));
        assert_eq!(
            asked(OOM_SCORE_ADJ, json!(-1000)).unwrap().oom_score_adj,
            Some(-1000)
        );
        assert_eq!(asked(CPU_SHARES, json!(2)).unwrap().cpu_shares, Some(2));
    }

    #[test]
    fn weights_keep_the_proportion() {
        for (shares, weight) in [(2, 1), (1024, 100), (512, 50), (262_144, 10_000)] {
            let resources = Resources {
                cpu_shares: Some(shares),
                ..Resources::default()
            };
            assert_eq!(resources.cpu_weight(), Some(weight));
        }
    }

    #[test]
    fn the_pod_bounds_its_apps() {
        let pod = Resources {
            cpu_limit: Some(500),
            memory_limit: Some(100),
            oom_score_adj: Some(7),
            ..Resources::default()
        };
        let app = Resources {
            cpu_limit: Some(900),
            memory_limit: Some(50),
            pids_max: Some(3),
            ..Resources::default()
        };
        let bounded = app.within(&pod);
        assert_eq!(
            (bounded.cpu_limit, bounded.memory_limit, bounded.pids_max),
            (Some(500), Some(50), Some(3))
        );
        assert_eq!(bounded.oom_score_adj, Some(7));
        assert!(bounded.differs(&app, CPU) && !bounded.differs(&app, MEMORY));
        assert_eq!(Resources::default().within(&pod).memory_limit, None);
    }

    #[test]
    fn errors_name_isolator_and_field() {
        for (name, value, error) in [
            (CPU, json!("1"), "resource/cpu: \"1\" must be an object"),
            (
                CPU,
                json!({}),
                "resource/cpu: must have a limit or a request",
            ),
            (
                CPU,
                json!({"limit": "0"}),
                "resource/cpu: limit: must be more than 0",
            ),
            (
                CPU,
                json!({"limit": "-1"}),
                "resource/cpu: limit: \"-1\": must not be negative",
            ),
            (
                CPU,
                json!({"limit": true}),
                "resource/cpu: limit: true must be an amount",
            ),
            (
                CPU,
                json!({"limits": 1}),
                "resource/cpu: limits: there is no such field",
            ),
            (
                CPU,
                json!({"default": true, "limit": 1}),
                "resource/cpu: default: must not be true",
            ),
            (
                MEMORY,
                json!({"limit": "1M", "request": "1Mi"}),
                "resource/memory: request: must not be more than the limit",
            ),
            (
                BLOCK_IOPS,
                json!({"limit": 1}),
                "resource/block-iops: default: must be true",
            ),
            (
                NETWORK_BANDWIDTH,
                json!({"default": true}),
                "resource/network-bandwidth: limit: must be given",
            ),
            (
                CPU_SHARES,
                json!(1),
                "os/linux/cpu-shares: 1 must be a number from 2 to 262144",
            ),
            (
                OOM_SCORE_ADJ,
                json!("5"),
                "os/linux/oom-score-adj: \"5\" must be a number from -1000 to 1000",
            ),
            (
                PIDS_MAX,
                json!(0),
                "stage1/pids-max: 0 must be a number from 1 to 4194304",
            ),
        ] {
            assert_eq!(asked(name, value).unwrap_err(), error);
        }
    }
}
