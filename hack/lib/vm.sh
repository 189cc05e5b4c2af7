# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # shared with the scripts that source this
# Guests with Debian's kernels 6.1 and 6.12 that have only cgroup v2, on any machine. They are emulated,
# so they do not need KVM and are about ten times slower than the machine.
#
# A guest sees this machine's root file system, read-only under a tmpfs overlay: every program and
# every built test has the same path as outside, and changes that a test makes are lost. Only the
# output is returned.
#
#   vm_setup              called by `hack/setup --vm`; uses the tool functions of hack/setup
#   vm_run KERNEL COMMAND called by hack/test-vm: run a shell command in a guest, show its output while
#                         it runs, return its exit code, or 125 if the guest ended without one
#
# LOOKOUT_VM_MEMORY (MiB), LOOKOUT_VM_CPUS and LOOKOUT_VM_TIMEOUT (seconds) override the defaults.

: "${tools:?set it before sourcing vm.sh}"

vm_kernels=(6.1 6.12)

# ---- setup ----------------------------------------------------------------------------------------

vm_setup() {
  [[ $(uname -m) == x86_64 ]] || { echo "vm: only x86_64 guests are supported" >&2; return 1; }
  tool_with_libraries vm/qemu qemu-system-x86 trixie usr/bin/qemu-system-x86_64 usr/share/qemu usr/share/seabios
  tool_with_libraries vm/virtiofsd virtiofsd trixie usr/libexec/virtiofsd
  tool_with_libraries vm/kmod kmod trixie usr/bin/kmod
  ln -sf kmod "$tools/vm/kmod/bin/modprobe"
  ln -sf kmod "$tools/vm/kmod/bin/depmod"
  vm_kernel 6.1 bookworm
  vm_kernel 6.12 trixie
}

# vm_kernel KERNEL SUITE: make vm/KERNEL/{vmlinuz,initrd,lib/modules/RELEASE}. The cloud flavour has
# everything that a container needs, and a tenth of the drivers.
vm_kernel() {
  local kernel=$1 suite=$2 package release
  [[ ! -e $tools/vm/$kernel/initrd || $hack/lib/vm.sh -nt $tools/vm/$kernel/initrd ]] || return 0
  if [[ ! -e $tools/vm/$kernel ]]; then
    begin "vm/$kernel"
    # The package with the flavour's name is empty and depends on the current kernel.
    suites_update
    package=$(suites_apt apt-cache depends "linux-image-cloud-amd64/$suite" | awk '$1 == "Depends:" && !seen++ { print $2 }')
    [[ $package == linux-image-"$kernel".* ]] || { echo "vm: $suite has $package, expected kernel $kernel" >&2; return 1; }
    release=${package#linux-image-}
    suites_unpack "$building/unpacked" "$package/$suite"
    mkdir "$building/lib"
    mv "$building/unpacked/boot/vmlinuz-$release" "$building/vmlinuz"
    if [[ -d $building/unpacked/lib/modules ]]; then
      mv "$building/unpacked/lib/modules" "$building/lib/"
    else
      mv "$building/unpacked/usr/lib/modules" "$building/lib/"
    fi
    "$tools/vm/kmod/bin/depmod" --basedir "$building" "$release"
    rmdir "$building/bin"
    finish "vm/$kernel"
  fi
  vm_initrd "$tools/vm/$kernel"
}

# The initrd contains busybox, the modules that mounting the root needs, and vm_init.
vm_initrd() {
  local directory=$1 release tree module path
  release=$(ls "$directory/lib/modules")
  tree=$(mktemp -d "$directory/initrd.XXXXXX")
  mkdir "$tree"/{bin,modules}
  cp "$tools/busybox/bin/busybox" "$tree/bin/"
  vm_init >"$tree/init"
  chmod 0755 "$tree/init"
  # In 6.12 the first two are built in. modprobe knows that, and the order in which the others are loaded.
  for module in virtio_pci virtiofs overlay; do
    "$tools/vm/kmod/bin/modprobe" --dirname "$directory" --set-version "$release" --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
    module=$(basename "${path%.xz}")
    if [[ $path == *.xz ]]; then "$tools/busybox/bin/busybox" xzcat "$path"; else cat "$path"; fi >"$tree/modules/$module"
    echo "$module" >>"$tree/modules/order"
  done
  (cd "$tree" && find . | "$tools/busybox/bin/busybox" cpio -o -H newc 2>/dev/null) >"$directory/initrd.new"
  mv "$directory/initrd.new" "$directory/initrd"
  rm -r "$tree"
}

# /init of the initrd: mounts the root and switches to it.
vm_init() {
  cat <<'GUEST'
#!/bin/busybox sh
PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /lower /upper /root /share
/bin/busybox --install -s /bin
fail() { echo "guest: $*"; poweroff -f; }
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
[ ! -e /modules/order ] || while read -r module; do insmod "/modules/$module" || fail "no $module"; done </modules/order
mount -t virtiofs -o ro root /lower || fail 'no root'
mount -t tmpfs -o size=75% none /upper && mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work none /root || fail 'no overlay'
mount -t virtiofs share /share || fail 'no share'
for directory in proc sys dev; do mount --move /$directory /root/$directory; done
mkdir -p /root/mnt/share && mount --move /share /root/mnt/share
exec switch_root /root /mnt/share/boot
GUEST
}

# The guest's first process after the initrd: does the work of an init system, then runs the command.
# $1: directories that must stay visible even if a tmpfs is mounted over them.
vm_boot() {
  printf '#!%s sh\nkeep="%s" directory="%s" LOOKOUT_TOOLS="%s"\n' "$tools/busybox/bin/busybox" "$1" "$2" "$tools"
  cat <<'GUEST'
export LOOKOUT_TOOLS HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /mnt/root && mount --bind / /mnt/root
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 none /dev/pts
mount -t tmpfs none /dev/shm
mount -t mqueue none /dev/mqueue
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
# An overlay cannot be the upper layer of another, so containerd's state and temporary bundles are on tmpfs.
for place in /run:755 /tmp:1777 /var/lib/containerd:711; do
  mkdir -p "${place%:*}" && mount -t tmpfs -o "mode=${place#*:}" none "${place%:*}"
done
mkdir -p /run/lock
for place in $keep; do
  [ -e "$place" ] || { mkdir -p "$place" && mount --bind "/mnt/root$place" "$place"; }
done
# As under systemd, the root delegates every controller and has no process of its own.
mount -t cgroup2 -o nsdelegate,memory_recursiveprot none /sys/fs/cgroup
mkdir /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
mount -t securityfs none /sys/kernel/security
mount -t bpf none /sys/fs/bpf
mount -t debugfs none /sys/kernel/debug
mount -t tracefs none /sys/kernel/tracing
# The machine has modules only for its own kernel, and perhaps no modprobe.
release=$(uname -r)
mkdir -p "/lib/modules/$release"
for modules in "$LOOKOUT_TOOLS"/vm/*/lib/modules/"$release"; do mount --bind "$modules" "/lib/modules/$release"; done
echo "$LOOKOUT_TOOLS/vm/kmod/bin/modprobe" >/proc/sys/kernel/modprobe
hostname guest
"$LOOKOUT_TOOLS/busybox/bin/busybox" ip link set lo up
ulimit -n 65536
(cd "$directory" && exec setsid sh /mnt/share/command) </dev/null >/mnt/share/output 2>&1
echo $? >/mnt/share/code
"$LOOKOUT_TOOLS/busybox/bin/busybox" poweroff -f
GUEST
}

# ---- running --------------------------------------------------------------------------------------

vm_run() {
  local kernel=$1 command=$2 share state code memory=${LOOKOUT_VM_MEMORY:-2048} helpers=()
  [[ -e $tools/vm/$kernel/initrd ]] || { echo "vm: no kernel $kernel; run hack/setup --vm" >&2; return 125; }
  state=$(mktemp -d /tmp/lookout-vm.XXXXXX)
  share=$state/share
  mkdir "$share"
  printf '%s\n' "$command" >"$share/command"
  # The tests' binaries are in cargo's target directory, which can be below /tmp.
  vm_boot "$tools $PWD $(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")" "$PWD" >"$share/boot"
  chmod 0755 "$share/boot"
  : >"$share/output"

  # The root is cached without limit, because no process writes the files that a guest reads while it runs.
  vm_serve "$state/root.sock" --shared-dir=/ --readonly --cache=always --no-announce-submounts 2>"$state/virtiofsd.log" &
  helpers+=($!)
  vm_serve "$state/share.sock" --shared-dir="$share" --cache=auto 2>>"$state/virtiofsd.log" &
  helpers+=($!)
  for _ in {1..250}; do
    [[ ! -S $state/root.sock || ! -S $state/share.sock ]] || break
    sleep 0.02
  done
  # la57=off, because five-level page tables only make each emulated page walk longer. The memory is
  # shared, because the virtiofsd processes read and write the guest's memory directly.
  timeout --kill-after=5 "${LOOKOUT_VM_TIMEOUT:-900}" "$tools/vm/qemu/bin/qemu-system-x86_64" \
    -L "$tools/vm/qemu/share/qemu" -L "$tools/vm/qemu/share/seabios" \
    -accel tcg,thread=multi,tb-size=512 -cpu max,la57=off -M q35,graphics=off \
    -m "$memory" -smp "${LOOKOUT_VM_CPUS:-2}" \
    -object "memory-backend-memfd,id=memory,size=${memory}M,share=on" -numa node,memdev=memory \
    -nodefaults -no-user-config -display none -no-reboot -net none -serial "file:$state/console" \
    -chardev "socket,id=root,path=$state/root.sock" -device vhost-user-fs-pci,chardev=root,tag=root \
    -chardev "socket,id=share,path=$state/share.sock" -device vhost-user-fs-pci,chardev=share,tag=share \
    -kernel "$tools/vm/$kernel/vmlinuz" -initrd "$tools/vm/$kernel/initrd" \
    -append 'console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off' </dev/null >"$state/qemu.log" 2>&1 &
  helpers+=($!)
  tail --quiet --lines=+1 --follow --sleep-interval=0.2 --pid="${helpers[2]}" "$share/output" &
  helpers+=($!)
  # All run in the background, because bash runs a trap during `wait`, but not during a command.
  # shellcheck disable=SC2064  # expanded now, because the variables no longer exist when the trap runs
  trap "kill ${helpers[*]} 2>/dev/null; wait; rm -rf $state; exit 130" INT TERM
  wait "${helpers[@]}" || true
  trap - INT TERM
  if ! code=$(cat "$share/code" 2>/dev/null) || [[ -z $code ]]; then
    code=125
    echo "vm: the guest ended without an exit code; the end of its logs, which are kept in $state:" >&2
    tail --lines=20 "$state/console" "$state/qemu.log" "$state/virtiofsd.log" >&2
  else
    rm -r "$state"
  fi
  return "$code"
}

# No sandbox: it would need namespaces, and the guest is trusted. The process ends with the guest.
vm_serve() {
  exec "$tools/vm/virtiofsd/bin/virtiofsd" --socket-path="$1" --sandbox=none --seccomp=none --inode-file-handles=never "${@:2}"
}
