# shellcheck shell=bash
# The container image and the root file system for tests. They contain only busybox.
#
# Sourced by hack/setup. No registry is needed; the image is built with sh, tar and sha256sum only.
# The same busybox always gives the same bytes, so digests can be compared between runs.
#
#   image_rootfs DIR BUSYBOX       make the tree in DIR (for bundles that bypass containerd)
#   image_archive TAR DIR          pack the tree in DIR as an OCI layout for `ctr image import`

image_name=docker.io/library/lookout-test:latest

image_rootfs() {
  local dir=$1 busybox=$2 applet
  # proc, sys and dev exist so that a read-only root file system has its mount points.
  mkdir -p "$dir"/{bin,dev,etc,home/user,proc,root,run,sys,tmp,usr,var/log}
  cp --dereference "$busybox" "$dir/bin/busybox"
  for applet in $("$busybox" --list); do
    [[ $applet == busybox ]] || ln -s busybox "$dir/bin/$applet"
  done
  ln -s bin "$dir/sbin"
  ln -s ../bin "$dir/usr/bin"
  ln -s ../bin "$dir/usr/sbin"
  printf '%s\n' root:x:0:0:root:/root:/bin/sh user:x:1000:1000:user:/home/user:/bin/sh \
    nobody:x:65534:65534:nobody:/:/bin/false >"$dir/etc/passwd"
  printf '%s\n' root:x:0: user:x:1000: nogroup:x:65534: >"$dir/etc/group"
  printf '%s\n' '127.0.0.1 localhost' '::1 localhost' >"$dir/etc/hosts"
  chmod 0755 "$dir" "$dir/bin/busybox"
  chmod 0700 "$dir/root"
  chmod 1777 "$dir/tmp"
}

# tar with an output that depends only on names, modes and contents.
image_tar() { tar --create --sort=name --format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner "$@"; }

# Store stdin as a blob of the layout in $1 and print its descriptor, of media type $2.
image_blob() {
  local layout=$1 type=$2 digest
  cat >"$layout/blob"
  digest=$(sha256sum <"$layout/blob")
  digest=${digest%% *}
  printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d' \
    "$type" "$digest" "$(stat --format=%s "$layout/blob")"
  mv "$layout/blob" "$layout/blobs/sha256/$digest"
}

image_archive() {
  local archive=$1 tree=$2 layout architecture layer config manifest
  layout=$(mktemp -d "$archive.XXXXXX")
  mkdir -p "$layout/blobs/sha256"
  architecture=$(dpkg --print-architecture)
  # Uncompressed, so the digest of the layer is also the diff_id that the config must name. All files
  # are owned by root in the archive, regardless of the user who runs this.
  layer=$(image_tar --directory="$tree" . | image_blob "$layout" layer.v1.tar)
  local diff_id=${layer#*\"digest\":\"}
  diff_id=${diff_id%%\"*}
  config=$(printf '%s' "{\"architecture\":\"$architecture\",\"os\":\"linux\",\"config\":{\"Env\":[\"PATH=/bin\"],\"Cmd\":[\"/bin/sh\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"$diff_id\"]}}" |
    image_blob "$layout" config.v1+json)
  manifest=$(printf '%s' "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":$config},\"layers\":[$layer}]}" |
    image_blob "$layout" manifest.v1+json)
  # `ctr image import` reads the full name from the annotation io.containerd.image.name.
  printf '%s' "{\"schemaVersion\":2,\"manifests\":[$manifest,\"platform\":{\"architecture\":\"$architecture\",\"os\":\"linux\"},\"annotations\":{\"io.containerd.image.name\":\"$image_name\",\"org.opencontainers.image.ref.name\":\"${image_name##*:}\"}}]}" >"$layout/index.json"
  printf '%s' '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  image_tar --directory="$layout" --file="$layout.tar" oci-layout index.json blobs
  rm -r "$layout"
  mv "$layout.tar" "$archive"
}
