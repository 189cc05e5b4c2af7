// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs run for every process and every port of the node, and report those of watched
 * containers and trees. They are loaded and pinned once per node; src/observe/source/bpf/mod.rs
 * describes the design. Linux 6.1 and later.
 */
#include "helpers.h"
#include "kernel.h"
#include "record.h"
#include "maps.h"
#include "target.h"
#include "output.h"
#include "path.h"
#include "fork.h"
#include "exec.h"
#include "exit.h"
#include "call.h"
#include "tcp.h"
#include "udp.h"

/* The kernel offers bpf_probe_read_kernel() and the ring buffer helpers to GPL programs only. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
