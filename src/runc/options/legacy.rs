//! The options of containerd's first shim for runc, package `containerd.linux.runc`. The clients of
//! containerd 1.6 and 1.7 send them to every runtime that is not named `io.containerd.runc.*`: `ctr
//! run` for `--no-pivot`, `--uidmap` and `--gidmap`, and a checkpoint for its image path.
//!
//! They are decoded by hand, because containerd-shim-protos lacks them.

use containerd_shim_protos::{
    protobuf::{self, CodedInputStream, Message as _, rt::skip_field_for_tag},
    shim::oci,
};

use super::Options;

pub(super) const CREATE_OPTIONS: &str = "containerd.linux.runc.CreateOptions";
pub(super) const RUNC_OPTIONS: &str = "containerd.linux.runc.RuncOptions";
pub(super) const CHECKPOINT_OPTIONS: &str = "containerd.linux.runc.CheckpointOptions";

/// The tag of a field that is a boolean or a number.
const fn number(field: u32) -> u32 {
    field << 3
}

/// The tag of a field that is a string.
const fn string(field: u32) -> u32 {
    field << 3 | 2
}

pub(super) fn create_options(bytes: &[u8]) -> protobuf::Result<Options> {
    const NO_PIVOT_ROOT: u32 = number(1);
    const NO_NEW_KEYRING: u32 = number(8);
    const SHIM_CGROUP: u32 = string(9);
    const IO_UID: u32 = number(10);
    const IO_GID: u32 = number(11);
    const CRIU_WORK_PATH: u32 = string(12);
    const CRIU_IMAGE_PATH: u32 = string(13);
    let mut options = Options::default();
    let mut stream = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = stream.read_raw_tag_or_eof()? {
        match tag {
            NO_PIVOT_ROOT => options.no_pivot_root = stream.read_bool()?,
            NO_NEW_KEYRING => options.no_new_keyring = stream.read_bool()?,
            SHIM_CGROUP => options.shim_cgroup = stream.read_string()?,
            IO_UID => options.io_uid = stream.read_uint32()?,
            IO_GID => options.io_gid = stream.read_uint32()?,
            CRIU_WORK_PATH => options.criu_work_path = stream.read_string()?,
            CRIU_IMAGE_PATH => options.criu_image_path = stream.read_string()?,
            // Fields 2 to 7 concern CRIU. They had no effect on a create or a restore in that shim
            // either.
            _ => skip_field_for_tag(tag, &mut stream)?,
        }
    }
    Ok(options)
}

pub(super) fn runc_options(bytes: &[u8]) -> protobuf::Result<Options> {
    const RUNTIME: u32 = string(1);
    const RUNTIME_ROOT: u32 = string(2);
    const SYSTEMD_CGROUP: u32 = number(4);
    let mut options = Options::default();
    let mut stream = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = stream.read_raw_tag_or_eof()? {
        match tag {
            RUNTIME => options.binary_name = stream.read_string()?,
            RUNTIME_ROOT => options.root = stream.read_string()?,
            SYSTEMD_CGROUP => options.systemd_cgroup = stream.read_bool()?,
            // Field 3 is the path of CRIU, which runtimes find by themselves.
            _ => skip_field_for_tag(tag, &mut stream)?,
        }
    }
    Ok(options)
}

/// The message has the fields of its successor, but the two paths have each other's numbers.
pub(super) fn checkpoint_options(bytes: &[u8]) -> protobuf::Result<oci::CheckpointOptions> {
    let mut options = oci::CheckpointOptions::parse_from_bytes(bytes)?;
    std::mem::swap(&mut options.image_path, &mut options.work_path);
    Ok(options)
}
