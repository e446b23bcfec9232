# Shared by the scripts beside it: `. "$(dirname "$0")/common.sh"`. Defines names, runs nothing.
# shellcheck shell=sh
# After it: $root is the checkout, and the working directory is there.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1

# packages USE...: the Debian packages that a use needs (build, run, demo, bench, kills, test, vm, lint).
packages() {
  for use in "$@"; do
    case $use in
      build)
        echo gcc libc6-dev cmake ninja-build pkgconf libuv1-dev libjansson-dev libnl-route-3-dev liblua5.4-dev lua5.4
        echo lua-luv lua-luv-dev lua-cjson lua-cjson-dev lua-argparse
        ;;
      run) echo crun e2fsprogs mount util-linux ;;
      demo) echo busybox-static ;;
      bench) echo runc ;;
      kills) echo strace ;;
      test) echo lua-busted libcmocka-dev erofs-utils iproute2 procps ;;
      vm) echo qemu-system-x86 busybox-static ;;
      lint) echo clang-format clang-tidy lua-check shellcheck libcmocka-dev luarocks ;;
      *) die "packages: no such use: $use" ;;
    esac
  done
}

# say TEXT: progress, for a person who watches; a log or a pipe sees only results and failures.
say() {
  if [ -t 2 ]; then printf '\033[2m%s\033[0m\n' "$*" >&2; fi
}

die() {
  printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
  exit 1
}

# need USE...: installs the Debian packages of these uses that are missing.
need() {
  missing=
  installed=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^.i //p' | tr '\n' ' ') "
  for package in $(packages "$@"); do
    case $installed in
      *" $package "*) ;;
      *) missing="$missing $package" ;;
    esac
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 || die "these Debian packages are missing, and there is no apt-get to install them:$missing"
  [ "$(id -u)" = 0 ] || die "run as root, or install these packages first:$missing"
  say "installing:$missing"
  mkdir -p build
  # A package index that is there may be too old to install from, so one failure is answered by fetching it anew.
  # shellcheck disable=SC2086 # a list of names
  if ! install_packages $missing; then
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >build/packages.log 2>&1 || { cat build/packages.log >&2; die 'apt-get update failed'; }
    # shellcheck disable=SC2086
    install_packages $missing || { cat build/packages.log >&2; die "could not install:$missing"; }
  fi
}

install_packages() {
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >build/packages.log 2>&1 </dev/null
}

# build PRESET: configures build/PRESET when that has not been done, and builds what changed. One build at a time.
build() {
  mkdir -p build
  (
    flock 9
    if [ ! -f "build/$1/build.ninja" ] || [ -n "$(find CMakePresets.json -newer "build/$1/build.ninja")" ]; then
      say "configuring $1"
      cmake --preset "$1" >"build/$1.log" 2>&1 || { cat "build/$1.log" >&2; exit 1; }
    fi
    say "building $1"
    cmake --build "build/$1" >"build/$1.log" 2>&1 || { tail -n 60 "build/$1.log" >&2; exit 1; }
  ) 9>build/.lock || die "the $1 build failed; the whole output is in build/$1.log"
}
