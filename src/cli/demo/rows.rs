//! The CSV files of a cost report.
//!
//! Responsible for: six kinds of files with the columns, number formats and oddities of the real
//! ones: CRLF, time stamps with a zone twice, labels as `label_a:b|label_c:d`, leading zeros; and
//! in the files of pods a few flaws: rows with fields too many (to be rejected), with one too few
//! (to be filled) and with a value over the cap (to be left out).
//! Not responsible for: how rows are spread over files (`generator`).

use std::io::{self, Write};

use jiff::civil::Date;

use crate::cli::demo::generator::{Counts, HOURS};
use crate::cli::demo::random::{mix, pick, unit};

const PERIOD: &str = "report_period_start,report_period_end,interval_start,interval_end";
const POD: &str = "pod,namespace,node,resource_id,pod_usage_cpu_core_seconds,\
    pod_request_cpu_core_seconds,pod_limit_cpu_core_seconds,pod_usage_memory_byte_seconds,\
    pod_request_memory_byte_seconds,pod_limit_memory_byte_seconds,node_capacity_cpu_cores,\
    node_capacity_cpu_core_seconds,node_capacity_memory_bytes,node_capacity_memory_byte_seconds,\
    pod_labels";
const STORAGE: &str = "namespace,pod,node,persistentvolumeclaim,persistentvolume,storageclass,\
    csi_driver,csi_volume_handle,persistentvolumeclaim_capacity_bytes,\
    persistentvolumeclaim_capacity_byte_seconds,volume_request_storage_byte_seconds,\
    persistentvolumeclaim_usage_byte_seconds,persistentvolume_labels,persistentvolumeclaim_labels";
const NODE: &str = "node,node_labels";
const NAMESPACE: &str = "namespace,namespace_labels";
const VM: &str = "node,resource_id,namespace,vm_name,vm_instance_type,vm_os,vm_guest_os_arch,\
    vm_guest_os_name,vm_guest_os_version,vm_uptime_total_seconds,vm_cpu_limit_cores,\
    vm_cpu_limit_core_seconds,vm_cpu_request_cores,vm_cpu_request_core_seconds,\
    vm_cpu_request_sockets,vm_cpu_request_socket_seconds,vm_cpu_request_threads,\
    vm_cpu_request_thread_seconds,vm_cpu_usage_total_seconds,vm_memory_limit_bytes,\
    vm_memory_limit_byte_seconds,vm_memory_request_bytes,vm_memory_request_byte_seconds,\
    vm_memory_usage_byte_seconds,vm_device,vm_volume_mode,vm_persistentvolumeclaim_name,\
    vm_disk_allocated_size_byte_seconds,vm_labels";
const GPU: &str = "node,namespace,pod,gpu_uuid,gpu_model_name,gpu_vendor_name,\
    gpu_memory_capacity_mib,gpu_pod_uptime,mig_instance_id,mig_profile,mig_strategy";

const NAMESPACES: [&str; 12] = [
    "shop", "billing", "search", "mail", "edge", "media", "ledger", "risk", "batch", "auth",
    "catalog", "reports",
];
const APPS: [&str; 8] = ["proxy", "worker", "cron", "cache", "ingest", "front", "index", "queue"];
const SECONDS: u64 = 3600;
const GIB: u64 = 1 << 30;
/// Bytes of memory of every node.
const NODE_MEMORY: u64 = 128 * GIB;
/// A value that no real usage reaches.
const OVER_CAP: &str = "2000000000000000000";

/// A kind of report file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Storage,
    Node,
    Namespace,
    Vm,
    Gpu,
}

impl Kind {
    /// All of them, in the order of a report's files.
    pub(super) const ALL: [Self; 6] =
        [Self::Pod, Self::Storage, Self::Node, Self::Namespace, Self::Vm, Self::Gpu];

    fn header(self) -> &'static str {
        match self {
            Self::Pod => POD,
            Self::Storage => STORAGE,
            Self::Node => NODE,
            Self::Namespace => NAMESPACE,
            Self::Vm => VM,
            Self::Gpu => GPU,
        }
    }
}

/// How many things a cluster has; each has a row an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pods: u64,
    volumes: u64,
    nodes: u64,
    namespaces: u64,
    vms: u64,
    gpus: u64,
}

impl Shape {
    /// A cluster whose report of a day has about so many rows.
    pub(super) fn of(rows: u64) -> Self {
        let things = (rows / HOURS).max(8);
        let nodes = (things / 30).clamp(1, 500);
        let namespaces = (things / 20).clamp(2, NAMESPACES.len() as u64);
        let (vms, gpus) = ((nodes / 8).max(1), (nodes / 12).max(1));
        let rest = things.saturating_sub(nodes + namespaces + vms + gpus);
        let pods = (rest * 3 / 4).max(1);
        Self { pods, volumes: rest.saturating_sub(pods).max(1), nodes, namespaces, vms, gpus }
    }

    /// Rows of a day.
    pub(super) fn rows(self, kind: Kind) -> u64 {
        let things = match kind {
            Kind::Pod => self.pods,
            Kind::Storage => self.volumes,
            Kind::Node => self.nodes,
            Kind::Namespace => self.namespaces,
            Kind::Vm => self.vms,
            Kind::Gpu => self.gpus,
        };
        things * HOURS
    }
}

/// What is odd about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    Long,
    Short,
    OverCap,
}

/// A cluster on a day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Seed of the cluster.
    pub(super) seed: u64,
    pub(super) shape: Shape,
    pub(super) day: Date,
    pub(super) month: Date,
    pub(super) next_month: Date,
}

impl Context {
    /// The file with rows `first..first + rows` of a kind, and what is in it.
    pub(super) fn csv(&self, kind: Kind, first: u64, rows: u64) -> io::Result<(Vec<u8>, Counts)> {
        let mut csv = Vec::with_capacity((rows as usize + 1) * 400);
        let mut counts = Counts { rows, ..Counts::default() };
        write!(csv, "{PERIOD},{}\r\n", kind.header())?;
        for row in first..first + rows {
            let (thing, hour) = (row / HOURS, row % HOURS);
            self.period(&mut csv, hour)?;
            match kind {
                Kind::Pod => self.pod(&mut csv, thing, hour, &mut counts)?,
                Kind::Storage => self.storage(&mut csv, thing, hour)?,
                Kind::Node => self.node(&mut csv, thing)?,
                Kind::Namespace => self.namespace(&mut csv, thing)?,
                Kind::Vm => self.vm(&mut csv, thing, hour)?,
                Kind::Gpu => self.gpu(&mut csv, thing)?,
            }
            csv.extend_from_slice(b"\r\n");
        }
        counts.csv_bytes = csv.len() as u64;
        Ok((csv, counts))
    }

    fn period(&self, csv: &mut Vec<u8>, hour: u64) -> io::Result<()> {
        let Self { day, month, next_month, .. } = self;
        write!(
            csv,
            "{month} 00:00:00 +0000 UTC,{next_month} 00:00:00 +0000 UTC,\
             {day} {hour:02}:00:00 +0000 UTC,{day} {hour:02}:59:59 +0000 UTC,"
        )
    }

    fn pod(&self, csv: &mut Vec<u8>, pod: u64, hour: u64, counts: &mut Counts) -> io::Result<()> {
        let (fixed, now) = (self.of("pod", pod), self.at("pod", pod, hour));
        let node = pod % self.shape.nodes;
        let cpu_request = pick(fixed, &[225_u64, 450, 900, 1800, 3600, 7200]);
        let cpu_usage = hundredths(cpu_request as f64 * (0.05 + 1.3 * unit(now)));
        let memory_request = pick(fixed >> 8, &[1_u64, 2, 4, 8, 16]) * (GIB / 4) * SECONDS;
        let memory_usage = hundredths(memory_request as f64 * (0.1 + unit(mix(&[now]))));
        let sums = [
            cpu_usage,
            cpu_request as f64,
            (cpu_request * 2) as f64,
            memory_usage,
            memory_request as f64,
            (memory_request * 2) as f64,
        ];
        let flaw = flaw(now);
        let usage =
            if flaw == Flaw::OverCap { OVER_CAP.to_owned() } else { memory_usage.to_string() };
        let (cores, memory) = (self.cores(node), NODE_MEMORY);
        write!(
            csv,
            "{},{},{},{},{cpu_usage},{cpu_request},{},{usage},{memory_request},{},{cores},{},\
             {memory},{}",
            self.pod_name(pod),
            self.namespace_name(pod % self.shape.namespaces),
            self.node_name(node),
            self.resource_id(node),
            cpu_request * 2,
            memory_request * 2,
            cores * SECONDS,
            memory * SECONDS,
        )?;
        if flaw != Flaw::Short {
            self.pod_labels(csv, pod)?;
        }
        count(flaw, sums, counts);
        if flaw == Flaw::Long { csv.write_all(b",surplus,surplus") } else { Ok(()) }
    }

    fn pod_labels(&self, csv: &mut Vec<u8>, pod: u64) -> io::Result<()> {
        let fixed = self.of("pod labels", pod);
        // Every eighth pod has none, and its last field is empty.
        if fixed.is_multiple_of(8) {
            return csv.write_all(b",");
        }
        let app = self.app(pod);
        write!(csv, ",label_app:{app}|label_version:1.{}|label_team:{:04}", fixed % 30, fixed % 97)
    }

    fn storage(&self, csv: &mut Vec<u8>, volume: u64, hour: u64) -> io::Result<()> {
        let fixed = self.of("volume", volume);
        let pod = volume % self.shape.pods;
        let capacity = pick(fixed, &[5_u64, 10, 20, 50, 100]) * GIB;
        let used = hundredths(
            (capacity * SECONDS) as f64 * (0.2 + 0.7 * unit(self.at("volume", volume, hour))),
        );
        let class = pick(fixed >> 8, &["thin-csi", "standard-csi", "gp3-csi"]);
        write!(
            csv,
            "{},{},{},data-{volume}-{},pvc-{fixed:016x},{class},disk.csi.example.net,\
             vol-{:012x},{capacity}.0,{}.0,{},{used},label_disk:ssd|label_zone:eu-1a,\
             label_backup:daily",
            self.namespace_name(pod % self.shape.namespaces),
            self.pod_name(pod),
            self.node_name(pod % self.shape.nodes),
            self.pod_name(pod),
            fixed >> 16,
            capacity * SECONDS,
            capacity * SECONDS,
        )
    }

    fn node(&self, csv: &mut Vec<u8>, node: u64) -> io::Result<()> {
        let zone = pick(self.of("node", node), &["a", "b", "c"]);
        write!(
            csv,
            "{},label_node_role_kubernetes_io_worker:|label_zone:eu-1{zone}|\
             label_cost_centre:{node:04}",
            self.node_name(node)
        )
    }

    fn namespace(&self, csv: &mut Vec<u8>, namespace: u64) -> io::Result<()> {
        let name = self.namespace_name(namespace);
        write!(csv, "{name},label_team:{name}|label_environment:prod|label_empty:")
    }

    fn vm(&self, csv: &mut Vec<u8>, vm: u64, hour: u64) -> io::Result<()> {
        let node = vm % self.shape.nodes;
        let cpu = hundredths(14_400.0 * (0.1 + 0.8 * unit(self.at("vm", vm, hour))));
        let memory = hundredths((4 * GIB * SECONDS) as f64 * unit(self.at("vm memory", vm, hour)));
        write!(
            csv,
            "{},{},{},vm-{vm}-{:04x},u1.large,linux.server,amd64,Linux,9.4,3600,4,14400,2,7200,\
             0.5,1800,2,7200,{cpu},{},{},{},{},{memory},rootdisk,Block,disk-{vm},{},\
             label_os:linux|label_team:vm",
            self.node_name(node),
            self.resource_id(node),
            self.namespace_name(vm % self.shape.namespaces),
            self.of("vm", vm) & 0xffff,
            8 * GIB,
            8 * GIB * SECONDS,
            4 * GIB,
            4 * GIB * SECONDS,
            40 * GIB * SECONDS,
        )
    }

    fn gpu(&self, csv: &mut Vec<u8>, gpu: u64) -> io::Result<()> {
        let pod = gpu % self.shape.pods;
        write!(
            csv,
            "{},{},{},GPU-{:016x},A100,nvidia_com_gpu,40960,3600,,,",
            self.node_name(pod % self.shape.nodes),
            self.namespace_name(pod % self.shape.namespaces),
            self.pod_name(pod),
            self.of("gpu", gpu),
        )
    }

    /// What stays the same of a thing.
    fn of(&self, what: &str, thing: u64) -> u64 {
        let what = what
            .bytes()
            .fold(0_u64, |name, byte| name.wrapping_mul(31).wrapping_add(u64::from(byte)));
        mix(&[self.seed, what, thing])
    }

    /// What changes from hour to hour.
    fn at(&self, what: &str, thing: u64, hour: u64) -> u64 {
        let day = self.day.day() as u64 + 100 * self.day.month() as u64;
        let year = self.day.year() as u64;
        mix(&[self.of(what, thing), year, day, hour])
    }

    fn app(&self, pod: u64) -> &'static str {
        pick(self.of("app", pod), &APPS)
    }

    fn pod_name(&self, pod: u64) -> String {
        format!("{}-{pod}-{:05x}", self.app(pod), self.of("pod name", pod) & 0xf_ffff)
    }

    fn namespace_name(&self, namespace: u64) -> &'static str {
        NAMESPACES[(namespace % NAMESPACES.len() as u64) as usize]
    }

    fn node_name(&self, node: u64) -> String {
        format!("worker-{node:03}.example.net")
    }

    /// Eight digits, with zeros in front.
    fn resource_id(&self, node: u64) -> String {
        format!("{:08}", self.of("resource", node) % 1_000_000)
    }

    fn cores(&self, node: u64) -> u64 {
        pick(self.of("cores", node), &[8_u64, 16, 32])
    }
}

/// A few rows in ten thousand are odd.
fn flaw(number: u64) -> Flaw {
    match mix(&[number, 9]) % 10_000 {
        0..4 => Flaw::Long,
        4..7 => Flaw::Short,
        7..10 => Flaw::OverCap,
        _ => Flaw::None,
    }
}

fn count(flaw: Flaw, sums: [f64; 6], counts: &mut Counts) {
    let reason = match flaw {
        Flaw::Long => "long_row",
        Flaw::OverCap => "over_cap",
        Flaw::None | Flaw::Short => {
            counts.sums.iter_mut().zip(sums).for_each(|(sum, value)| *sum += value);
            return;
        }
    };
    *counts.rejected.entry(reason.to_owned()).or_default() += 1;
}

/// Two places after the point, as measured values have.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
