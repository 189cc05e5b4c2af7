//! All targets in one program, because each program would have to be linked with all dependencies.
//! `LOOKOUT_FUZZ_TARGET` names the target.

#![no_main]

use std::{env, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use lookout::fuzzing::{TARGETS, Target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| (CHOSEN.get_or_init(chosen))(bytes));

fn chosen() -> Target {
    let name = env::var("LOOKOUT_FUZZ_TARGET").expect("LOOKOUT_FUZZ_TARGET is set");
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
}
