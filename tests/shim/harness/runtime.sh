#!/bin/sh
# An OCI runtime for tests: takes the argv forms of go-runc and pretends to run containers, without
# root. Its processes are real, its containers are not: no namespaces, no cgroups.
#
# It is called through a symbolic link, and the directory of that link is its home:
#
#   calls          one line a call: its pid and argv, separated by tabs
#   hold.VERB      a fifo: calls of VERB wait here, before they do anything, until it is opened for writing
#   before.VERB    shell to run first; `exit` in it ends the call
#   after.VERB     shell to run last
#   payload.NAME   shell that container or exec NAME runs as its process; without it, one that sleeps
#   details        a directory: each call records here what it inherited, as VERB.PID/{cwd,environ,fds,stat,oom}
#
# Shell that is run sees $root $id $state $bundle $pid_file $log $process $signal, and fail TEXT.
# shellcheck disable=SC2034 # some variables are for scripts of tests only
set -u
home=${0%/*}

line=$$
for word; do line="$line	$word"; done
printf '%s\n' "$line" >>"$home/calls"

root='' log=/dev/null
while :; do
	case $1 in
		--root) root=$2 && shift 2 ;;
		--log) log=$2 && shift 2 ;;
		--log-format) shift 2 ;;
		--systemd-cgroup) shift ;;
		*) break ;;
	esac
done
verb=$1
shift

bundle=$PWD pid_file='' process='' image='' force='' all='' leave_running='' id='' signal=''
while [ $# -gt 0 ]; do
	case $1 in
		--bundle) bundle=$2 && shift 2 ;;
		--pid-file) pid_file=$2 && shift 2 ;;
		--process) process=$2 && shift 2 ;;
		--image-path) image=$2 && shift 2 ;;
		--console-socket | --work-path | --parent-path | --manage-cgroups-mode | --empty-ns | --resources) shift 2 ;;
		--force) force=1 && shift ;;
		--all) all=1 && shift ;;
		--leave-running) leave_running=1 && shift ;;
		--*) shift ;;
		*)
			if [ -z "$id" ]; then id=$1; else signal=$1; fi
			shift
			;;
	esac
done
state=$root/$id

fail() {
	printf '{"level":"error","msg":"%s","time":"2026-01-01T00:00:00Z"}\n' "$1" >>"$log"
	exit 1
}

alive() { read -r pid <"$state/pid" && kill -0 "$pid" 2>/dev/null; }

# Starts payload.$1 with this call's stdio, as a process that is no child of this shell: the shell would
# reap it, and runc does not. It waits for a line on descriptor 8, if that is open.
spawn() {
	exec 6>&1 9<&0
	spawned=$(
		read -r self _ </proc/self/stat
		# shellcheck disable=SC2016
		setsid sh -c '
			while read -r _ _ _ parent _ </proc/$$/stat && [ "$parent" = "$1" ]; do :; done
			[ ! -e /proc/self/fd/8 ] || { read -r _ <&8; exec 8<&-; }
			if [ -e "$0" ]; then exec sh "$0"; else exec sleep 600; fi' \
			"$home/payload.$1" "$self" <&9 >&6 6>&- 9<&- &
		echo $!
	)
	exec 6>&- 9<&-
}

kill_execs() {
	[ ! -e "$state/execs" ] || while read -r exec; do kill -9 "$exec" 2>/dev/null; done <"$state/execs"
}

if [ -e "$home/details" ]; then
	details=$home/details/$verb.$$
	mkdir "$home/details/.$verb.$$"
	cd "$home/details/.$verb.$$" || exit 70
	# In a subshell, because a redirection here would add descriptors of this shell.
	(
		echo "$OLDPWD" >cwd
		cp "/proc/$$/environ" environ
		cp "/proc/$$/stat" stat
		cp "/proc/$$/oom_score_adj" oom
		ls -l "/proc/$$/fd" >fds
	)
	cd "$OLDPWD" || exit 70
	mv "$home/details/.$verb.$$" "$details"
fi

if [ -p "$home/hold.$verb" ]; then
	{ read -r _ <"$home/hold.$verb"; } 2>/dev/null
fi

# shellcheck disable=SC1090
[ ! -e "$home/before.$verb" ] || . "$home/before.$verb"

case $verb in
	create | restore)
		mkdir -p "$root"
		mkdir "$state" 2>/dev/null || fail "container with given ID already exists"
		if [ "$verb" = create ]; then
			mkfifo "$state/start"
			exec 8<>"$state/start"
			echo created >"$state/status"
		else
			[ -d "$image" ] || fail "no image"
			echo running >"$state/status"
		fi
		spawn "$id"
		echo "$spawned" >"$state/pid"
		[ -z "$pid_file" ] || printf %s "$spawned" >"$pid_file"
		;;
	start)
		[ -d "$state" ] || fail "container does not exist"
		alive || fail "cannot start a container that has stopped"
		echo running >"$state/status"
		echo go 1<>"$state/start"
		;;
	exec)
		[ -d "$state" ] || fail "container does not exist"
		alive || fail "cannot exec in a stopped container"
		exec_id=${pid_file##*/}
		spawn "${exec_id%.pid}"
		echo "$spawned" >>"$state/execs"
		printf %s "$spawned" >"$pid_file"
		;;
	kill)
		[ -d "$state" ] || fail "container does not exist"
		# In a real pid namespace, the end of init kills all other processes.
		if [ -n "$all" ] || [ "$signal" = 9 ]; then kill_execs; fi
		if alive; then
			kill -"$signal" "$pid" 2>>"$log"
		else
			[ -n "$all" ] || fail "container not running"
		fi
		;;
	pause | resume)
		[ -d "$state" ] || fail "container does not exist"
		alive || fail "container not running"
		case $verb in pause) kill -STOP "$pid" ;; resume) kill -CONT "$pid" ;; esac
		;;
	update)
		cat >"$home/resources"
		;;
	checkpoint)
		mkdir -p "$image" && echo image >"$image/image"
		[ -n "$leave_running" ] || { alive && kill -9 "$pid"; }
		;;
	delete)
		[ -d "$state" ] || { [ -n "$force" ] && exit 0; fail "container does not exist"; }
		read -r status <"$state/status"
		if alive; then
			[ -n "$force" ] || [ "$status" = created ] || fail "cannot delete container $id that is not stopped: running"
			kill -9 "$pid"
		fi
		kill_execs
		rm -rf "$state"
		;;
	features)
		echo '{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0"}'
		;;
	*)
		echo "no such verb: $verb" >&2
		exit 64
		;;
esac

# shellcheck disable=SC1090
[ ! -e "$home/after.$verb" ] || . "$home/after.$verb"
