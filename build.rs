//! Generates the messages, services and field numbers from `proto/`, compiles the eBPF programs in
//! `bpf/`, and finds the C libraries that are linked statically.

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
        static_libraries(&out.join("static"));
    }
    messages(&out.join("api"));
    field_numbers(&out.join("field_numbers.rs"));
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

/// Makes the linker take libelf and zlib, which libbpf needs, from their archives.
///
/// libbpf-sys passes `-lelf` and `-lz`. The linker takes the library from the first directory that
/// has it, and from a directory that has both it takes the shared one. So it gets a directory with
/// nothing but the archives, which it searches before those of the system.
#[expect(clippy::disallowed_methods, reason = "a build script has no reaper")]
fn static_libraries(directory: &Path) {
    // An archive can be in a directory that only this variable names.
    println!("cargo::rerun-if-env-changed=LIBRARY_PATH");
    std::fs::create_dir_all(directory).expect("the output directory is writable");
    for (archive, package) in [("libelf.a", "libelf-dev"), ("libz.a", "zlib1g-dev")] {
        let found = cc::Build::new()
            .get_compiler()
            .to_command()
            .arg(format!("-print-file-name={archive}"))
            .output()
            .unwrap_or_else(|error| panic!("failed to run the C compiler: {error}"));
        let found = String::from_utf8_lossy(&found.stdout);
        // A compiler that does not find the file prints the name as it was given.
        let path = Path::new(found.trim_end());
        assert!(path.is_absolute(), "{archive} is missing; on Debian it is in {package}");
        println!("cargo::rerun-if-changed={}", path.display());
        let link = directory.join(archive);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(path, &link).expect("the output directory is writable");
    }
    println!("cargo::rustc-link-search=native={}", directory.display());
}

const PROTOS: [&str; 2] = ["proto/lookout/v1/observer.proto", "proto/lookout/v1/registry.proto"];

/// Writes the number of each field of each message, for the code that encodes messages by hand.
fn field_numbers(file: &Path) {
    let mut text = String::new();
    let mut parser = protobuf_parse::Parser::new();
    parser.pure().include("proto").inputs(PROTOS);
    let set = parser.file_descriptor_set().expect("the files in proto/ are valid");
    for message in set.file.iter().flat_map(|file| &file.message_type) {
        let name = message.name();
        text += &format!("/// The fields of `{name}`.\npub mod {} {{\n", snake_case(name));
        for field in &message.field {
            let (name, number) = (field.name(), field.number());
            let constant = name.to_ascii_uppercase();
            text += &format!("/// The field `{name}`.\npub const {constant}: u32 = {number};\n");
        }
        text += "}\n";
    }
    std::fs::write(file, text).expect("the output directory is writable");
}

/// `event_batch` for `EventBatch`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Generates the messages and services into the directory `out`.
fn messages(out: &Path) {
    std::fs::create_dir_all(out).expect("the output directory can be created");
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    Codegen::new()
        .inputs(PROTOS)
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
