#!/bin/sh
# Installs the program `avp` from a release, after checking its SHA-256:
#
#     curl -sSfL https://github.com/avp-rs/avp/releases/latest/download/install.sh | sh
#
# AVP_INSTALL_DIR   folder for the program (default: ~/.local/bin)
# AVP_DOWNLOAD_URL  folder of a release's files (default: the latest release)
set -eu

url=${AVP_DOWNLOAD_URL:-https://github.com/avp-rs/avp/releases/latest/download}
folder=${AVP_INSTALL_DIR:-$HOME/.local/bin}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

case $(uname -m) in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) fail "no program for the processor $(uname -m); build it with \`cargo install avp-cli\`" ;;
esac
case $(uname -s) in
    Darwin) target=$arch-apple-darwin ;;
    Linux)
        # musl's loader prints its own name; glibc's knows --version.
        if ldd --version 2>&1 | grep -qi musl; then target=$arch-unknown-linux-musl; else target=$arch-unknown-linux-gnu; fi
        ;;
    *) fail "no program for $(uname -s); on Windows, unpack the .zip file of the release" ;;
esac

work=$(mktemp -d)
new=$folder/.avp-$$
trap 'rm -rf "$work" "$new"' EXIT
archive=avp-$target.tar.gz
for file in "$archive" "$archive.sha256"; do
    curl -sSfL --output "$work/$file" "$url/$file" || fail "cannot download $url/$file"
done
# Without --check and --status, which BusyBox does not know.
if command -v sha256sum >/dev/null; then sum=sha256sum; else sum="shasum -a 256"; fi
(cd "$work" && $sum -c "$archive.sha256" >/dev/null 2>&1) || fail "$archive does not have the SHA-256 of $archive.sha256"
tar -xzf "$work/$archive" -C "$work"
mkdir -p "$folder"
# Renamed into place once it has started, so that a running `avp` keeps its file and a working one is not replaced by another.
cp "$work/avp-$target/avp" "$new"
version=$("$new" --version) || fail "the program of $archive does not start on this machine"
mv "$new" "$folder/avp"
echo "installed $version in $folder"
case :$PATH: in
    *:"$folder":*) ;;
    *) echo "$folder is not in PATH" ;;
esac
