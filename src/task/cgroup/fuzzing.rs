//! The fuzz target of the files of a cgroup.

use std::hint::black_box;
use std::path::Component;

use containerd_shim_protos::{cgroups, cgroups_v2};

use super::{
    blkio, file_format, hugepages, leftover::Location, mount, pids, pressure, rdma, stats_v1,
    stats_v2,
};

/// Parses a file. The first byte chooses the format.
pub(crate) fn files(bytes: &[u8]) {
    let Some((format, text)) = bytes.split_first() else { return };
    match format {
        b'm' => {
            let mut of_v2 = cgroups_v2::metrics::MemoryStat::default();
            file_format::fill(&mut of_v2, stats_v2::MEMORY_STAT_FIELDS, text);
            let mut of_v1 = cgroups::metrics::MemoryStat::default();
            file_format::fill(&mut of_v1, stats_v1::MEMORY_STAT_FIELDS, text);
            assert!(of_v1.rss == 0 || file_format::value(text, "rss").is_some());
        }
        b'n' => {
            let unlimited = [0, u64::MAX].map(|value| file_format::number(text, value));
            let is_max = str::from_utf8(text).is_ok_and(|text| text.trim() == "max");
            assert!(unlimited[0] == unlimited[1] || is_max);
        }
        b'i' => assert!(stats_v2::io_entries(text).len() <= text.len()),
        b'c' => assert!(stats_v1::per_cpu(text).len() <= text.len()),
        b'b' => assert!(blkio::entries(text).count() <= text.len()),
        b'p' => assert!(pids::parse(text).all(|pid| pid != 0)),
        b's' => {
            black_box(pressure::parse(text));
        }
        b'r' => assert!(rdma::parse(text).all(|usage| !usage.device.is_empty())),
        b'h' => {
            let kilobytes = str::from_utf8(text).ok().and_then(hugepages::kilobytes);
            black_box(kilobytes.map(hugepages::name));
        }
        b'g' => {
            black_box(mount::version(&mount::cgroup_mounts(text)));
        }
        b'l' => leftover(&String::from_utf8_lossy(text)),
        _ => {}
    }
}

/// A path that is removed must not lead out of the hierarchy, nor be its root.
fn leftover(cgroups_path: &str) {
    for systemd in [false, true] {
        let path = match Location::parse(cgroups_path, systemd) {
            Some(Location::Absolute(path)) => path,
            Some(Location::BelowOwn(path)) => std::path::Path::new("/").join(path),
            None => continue,
        };
        assert!(path.components().count() > 1 && path.is_absolute());
        assert!(path.components().all(|part| part != Component::ParentDir), "{}", path.display());
    }
}
