#!/usr/bin/env bash
# Builds for 64-bit ARM with a cross compiler and runs the kernels' test and the unit tests under qemu's user mode.
#
#   apt-get install gcc-aarch64-linux-gnu qemu-user; dpkg --add-architecture arm64; apt-get update     once, as root
#   tests/arm64.sh [BUILD_DIR]                                                                        default: build-arm64
#
# The libraries' ARM packages are unpacked into BUILD_DIR-root; nothing is installed on this machine.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build-arm64} root=$(realpath -m "${1:-build-arm64}-root") triple=aarch64-linux-gnu

if [ ! -d "$root" ]; then
    mkdir -p "$root.part/debs"
    dev=$(printf '%s:arm64 ' libjansson-dev libpcre2-dev libutf8proc-dev libcurl4-openssl-dev libgmp-dev libmpfr-dev libmpc-dev zlib1g-dev libcmocka-dev)
    # shellcheck disable=SC2086
    all=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $dev |
        grep -E '^[a-z0-9].*:arm64$' | grep -vE '^(libc6-dev|linux-libc-dev|libcrypt-dev|libnsl-dev|libtirpc-dev):' | sort -u) # the compiler has its own
    # shellcheck disable=SC2086
    (cd "$root.part/debs" && apt-get download -qq $all)
    for deb in "$root.part"/debs/*.deb; do dpkg -x "$deb" "$root.part"; done
    find "$root.part" -lname '/*' | while read -r link; do ln -sfn "$root$(readlink "$link")" "$link"; done
    rm -r "$root.part/debs"
    mv "$root.part" "$root"
fi
lib=$root/usr/lib/$triple
cat >"$root/cross.ini" <<INI
[binaries]
c = '$triple-gcc'
ar = '$triple-ar'
strip = '$triple-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64', '-L', '$root']
[properties]
pkg_config_libdir = '$lib/pkgconfig'
sys_root = '$root'
[built-in options]
c_args = ['-isystem', '$root/usr/include', '-isystem', '$root/usr/include/$triple']
c_link_args = ['-L$lib', '-L$root/lib/$triple', '-Wl,-rpath-link,$lib:$root/lib/$triple']
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'armv8-a'
endian = 'little'
INI
[ -f "$build/build.ninja" ] || meson setup "$build" --cross-file "$root/cross.ini" --buildtype=release -Dwerror=true
ninja -C "$build" -j2
export QEMU_LD_PREFIX="$root"
qemu-aarch64 -L "$root" "$build/tests/test_checkkern" # portable, neon and neon-dot
meson test -C "$build" --timeout-multiplier 20 --no-rebuild
