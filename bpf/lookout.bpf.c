// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that see every process and every port of the node and tell those that somebody watches. Loaded and
 * pinned once a node; see src/observe/source/bpf/mod.rs for the whole story. Linux 6.1 and later.
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
#include "tcp.h"
#include "udp.h"

/* Several helpers (bpf_probe_read_kernel, bpf_ringbuf_output's kin) are for GPL programs only. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
