//! Generates the messages and services from `proto/`, and compiles the eBPF programs in `bpf/`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Other systems have no eBPF, so building for them must not need clang.
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|system| system == "linux") {
        programs(&out.join("lookout.bpf.o"));
    }
    messages(&out.join("api"));
}

/// Compiles the eBPF programs. It needs only clang; the variable `CLANG` names another compiler.
#[expect(clippy::disallowed_methods, reason = "a build script has no reaper")]
fn programs(object: &Path) {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let status = Command::new(&clang)
        .args([
            "-target",
            "bpf",
            "-mcpu=v3",
            "-g",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-Werror",
        ])
        // So that the object does not depend on the directory of the source.
        .args(["-fdebug-compilation-dir=.", "-c", "bpf/lookout.bpf.c", "-o"])
        .arg(object)
        .status();
    let status = status.unwrap_or_else(|error| {
        panic!("failed to run {}; version 14 or later is needed: {error}", clang.display())
    });
    assert!(status.success(), "failed to compile bpf/lookout.bpf.c: {status}");
}

/// Generates the messages and services into the directory `out`.
fn messages(out: &Path) {
    std::fs::create_dir_all(out).expect("the output directory can be created");
    let protos = ["proto/lookout/v1/observer.proto", "proto/lookout/v1/registry.proto"];
    for proto in protos {
        println!("cargo::rerun-if-changed={proto}");
    }
    Codegen::new()
        .inputs(protos)
        .include("proto")
        .out_dir(out)
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(true))
        .customize(Customize { async_all: true, ..Customize::default() })
        .run()
        .expect("the files in proto/ are valid");
    // The generator lists only the modules of the messages, not those of the services.
    let list = out.join("mod.rs");
    let modules = std::fs::read_to_string(&list).expect("the generator writes mod.rs");
    std::fs::write(&list, format!("{modules}\npub mod observer_ttrpc;\npub mod registry_ttrpc;\n"))
        .expect("mod.rs can be written");
}
