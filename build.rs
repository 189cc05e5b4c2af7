//! Generates the messages and services of `proto/`, and compiles the programs of `bpf/`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a folder"));
    // Others have no eBPF, and need no clang.
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|system| system == "linux") {
        programs(&out.join("lookout.bpf.o"));
    }
    messages(&out.join("api"));
}

/// Compiles the eBPF programs. clang is all that it takes; `CLANG` names another one.
#[expect(clippy::disallowed_methods, reason = "a build has no reaper")]
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
        // The same object wherever the source lies.
        .args(["-fdebug-compilation-dir=.", "-c", "bpf/lookout.bpf.c", "-o"])
        .arg(object)
        .status();
    let status =
        status.unwrap_or_else(|error| panic!("{} 14 or later is needed: {error}", clang.display()));
    assert!(status.success(), "bpf/ compiles");
}

fn messages(out: &Path) {
    std::fs::create_dir_all(out).expect("a folder for generated code");
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
        .expect("proto/ is valid");
    // The generator lists the messages only.
    let list = out.join("mod.rs");
    let modules = std::fs::read_to_string(&list).expect("a list of modules");
    std::fs::write(&list, format!("{modules}\npub mod observer_ttrpc;\npub mod registry_ttrpc;\n"))
        .expect("a list of modules");
}
