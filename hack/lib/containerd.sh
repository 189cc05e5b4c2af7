# A private containerd: its own root, state and socket, below a folder of the caller's.
#
#   start_containerd VERSION FOLDER   sets CONTAINERD_PID and CTR (a command line); waits until it serves
#   stop_containerd                   ends it, by pid
#
# The shim under test is found by the PATH of the caller.

start_containerd() { # VERSION FOLDER
	local bin=$LOOKOUT_TOOLS/containerd-$1/bin folder=$2
	cat >"$folder/config.toml" <<-END
		version = 2
		root = "$folder/root"
		state = "$folder/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
		[grpc]
		  address = "$folder/containerd.sock"
	END
	PATH="${SHIM_DIR:+$SHIM_DIR:}$LOOKOUT_TOOLS/${RUNTIME_DIR:-runc-1.1}/bin:$PATH" \
		"$bin/containerd" --config "$folder/config.toml" ${CONTAINERD_LOG_LEVEL:+--log-level $CONTAINERD_LOG_LEVEL} >"$folder/containerd.log" 2>&1 &
	CONTAINERD_PID=$!
	CTR="$bin/ctr --address $folder/containerd.sock"
	local tries
	for tries in $(seq 100); do
		$CTR version >/dev/null 2>&1 && return 0
		kill -0 "$CONTAINERD_PID" 2>/dev/null || break
		sleep 0.1
	done
	echo "containerd $1 did not come up:" >&2
	tail -n 20 "$folder/containerd.log" >&2
	return 1
}

stop_containerd() {
	kill "$CONTAINERD_PID" 2>/dev/null || true
	wait "$CONTAINERD_PID" 2>/dev/null || true
}
