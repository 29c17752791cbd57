#!/usr/bin/env bash
# Run a command with MUSTER_MYSQLD: MySQL's own server, as Debian unstable packages it (no stable release does), with all libraries
# that it needs, in a folder of its own. Nothing is installed, and the folder goes afterwards.
#
#   tests/with_mysql.sh COMMAND…
set -euo pipefail

root=$(mktemp -d /tmp/muster-mysql-XXXXXX)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"  # tests that run as root begin the server as nobody
mkdir -p "$root"/apt/{state/lists/partial,cache/archives/partial} "$root/system"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main" > "$root/apt/sources.list"
touch "$root/apt/nothing-is-installed"

apt() {
    apt-get --quiet=2 -o Dir::State="$root/apt/state" -o Dir::State::status="$root/apt/nothing-is-installed" \
        -o Dir::Cache="$root/apt/cache" -o Dir::Etc::sourcelist="$root/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o APT::Sandbox::User= "$@"
}
apt update
apt install --yes --no-install-recommends --download-only mysql-server-core > /dev/null
for package in "$root"/apt/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$root/system"
done

cat > "$root/mysqld" << END
#!/bin/sh
exec $root/system/usr/lib64/ld-linux-x86-64.so.2 --library-path $root/system/usr/lib/x86_64-linux-gnu $root/system/usr/sbin/mysqld "\$@"
END
chmod 755 "$root/mysqld"
"$root/mysqld" --no-defaults --version
MUSTER_MYSQLD="$root/mysqld" "$@"
