# shellcheck shell=bash
# Packages of newer Debian suites, downloaded and unpacked without touching the machine's own apt.
#
# Sourced by hack/setup and hack/lib/vm.sh. Nothing is ever installed: apt uses separate sources, lists,
# pins and caches under $SUITES_HOME, so a trixie or sid line never affects the packages that
# `apt-get install` chooses on this machine. PACKAGE is NAME, NAME/SUITE or NAME=VERSION.
#
#   suites_update                  update the package lists, unless they are less than a day old; the functions
#                                  below do so
#   suites_version NAME SUITE      print the version in SUITE, nothing if SUITE does not have NAME
#   suites_unpack DIR PACKAGE...   download and unpack into DIR
#   suites_closure NAME SUITE      print NAME and all its dependencies, as NAME=VERSION lines
#   suites_apt COMMAND ARG...      run any other apt command on the separate state

: "${SUITES_HOME:?set it before sourcing suites.sh}"

# Prints the archive that this machine uses for a suite, by code name. Asking apt instead of parsing
# its files covers both notations of a source, mirrors and local proxies.
suites_archive() {
  # shellcheck disable=SC2016  # apt expands these
  apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$1" '$1 == suite && !seen++ { print $2 }'
}

suites_apt() {
  local command=$1
  shift
  # The machine's apt.conf stays in effect, because a proxy may be set there; only the state is separate.
  # Sandbox::User is root, because the user _apt may have no access to this directory.
  "$command" \
    -o Dir::Etc::SourceList="$SUITES_HOME/sources.list" -o Dir::Etc::SourceParts="$SUITES_HOME/none" \
    -o Dir::Etc::Preferences="$SUITES_HOME/pins" -o Dir::Etc::PreferencesParts="$SUITES_HOME/none" \
    -o Dir::State::Lists="$SUITES_HOME/lists" -o Dir::Cache="$SUITES_HOME/cache" \
    -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root "$@"
}

suites_update() {
  [[ -z $(find "$SUITES_HOME/updated" -mtime -1 2>/dev/null) ]] || return 0
  mkdir -p "$SUITES_HOME"/{none,lists/partial,cache/archives/partial}
  local main suite
  main=$(suites_archive bookworm)
  [[ -n $main ]] || { echo "suites: apt has no bookworm archive; is this Debian 12, and has apt-get update run?" >&2; return 1; }
  {
    for suite in bookworm trixie sid; do echo "deb $main $suite main"; done
  } >"$SUITES_HOME/sources.list"
  # A plain NAME is bookworm's: the newer suites are used only for packages that name them.
  for suite in trixie:50 sid:40; do
    printf 'Package: *\nPin: release n=%s\nPin-Priority: %s\n\n' "${suite%:*}" "${suite#*:}"
  done >"$SUITES_HOME/pins"
  suites_apt apt-get -qq update
  touch "$SUITES_HOME/updated"
}

suites_version() {
  suites_update
  suites_apt apt-cache madison "$1" |
    awk -F'|' -v suite="$2" '$3 ~ " " suite "/" && !seen++ { gsub(/ /, "", $2); print $2 }'
}

# The packages of this machine's own suite come from its own apt, so that its lists are enough for them.
suites_unpack() {
  local dir=$1 fetched package apt=suites_apt
  shift
  if [[ $# == 1 && $1 == */bookworm ]]; then apt=; else suites_update; fi
  mkdir -p "$dir" "$SUITES_HOME"
  # A new directory for each call, so that it contains only the requested packages.
  fetched=$(mktemp -d "$SUITES_HOME/fetch.XXXXXX")
  (cd "$fetched" && $apt apt-get -qq -o APT::Sandbox::User=root download "$@") || { rm -r "$fetched"; echo "suites: cannot download $*" >&2; return 1; }
  for package in "$fetched"/*.deb; do dpkg-deb --extract "$package" "$dir" || return 1; done
  rm -r "$fetched"
}

# With an empty dpkg status apt assumes that nothing is installed, so the answer is the same on every machine.
suites_closure() {
  suites_update
  suites_apt apt-get install --simulate --no-install-recommends -o Dir::State::status=/dev/null -t "$2" "$1" |
    awk '/^Inst/ { sub(/^\(/, "", $3); print $2 "=" $3 }'
}
