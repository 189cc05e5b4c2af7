# A private containerd with its own root, state and socket, below a directory of the caller.
#
#   start_containerd VERSION DIRECTORY   start it, set CONTAINERD_PID and CTR (a command line), wait until it serves
#   stop_containerd                      stop it, by pid
#
# containerd finds the shim under test through PATH, which begins with $SHIM_DIR if that is set.

start_containerd() { # VERSION DIRECTORY
	local bin=$LOOKOUT_TOOLS/containerd-$1/bin directory=$2
	cat >"$directory/config.toml" <<-END
		version = 2
		root = "$directory/root"
		state = "$directory/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
		[grpc]
		  address = "$directory/containerd.sock"
	END
	PATH="${SHIM_DIR:+$SHIM_DIR:}$LOOKOUT_TOOLS/${RUNTIME_DIR:-runc-1.1}/bin:$PATH" \
		"$bin/containerd" --config "$directory/config.toml" ${CONTAINERD_LOG_LEVEL:+--log-level $CONTAINERD_LOG_LEVEL} >"$directory/containerd.log" 2>&1 &
	CONTAINERD_PID=$!
	CTR="$bin/ctr --address $directory/containerd.sock"
	local tries
	for tries in $(seq 100); do
		$CTR version >/dev/null 2>&1 && return 0
		kill -0 "$CONTAINERD_PID" 2>/dev/null || break
		sleep 0.1
	done
	echo "containerd $1 does not serve:" >&2
	tail -n 20 "$directory/containerd.log" >&2
	return 1
}

stop_containerd() {
	kill "$CONTAINERD_PID" 2>/dev/null || true
	wait "$CONTAINERD_PID" 2>/dev/null || true
}
