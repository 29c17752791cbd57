#!/usr/bin/env bash
# Run a command with MUSTER_MYSQLD: MySQL's own server, as Debian unstable packages it (no stable release does), with all libraries
# that it needs, in a folder of its own that goes afterwards. Nothing is installed.
#
#   tests/with_mysql.sh COMMAND…
set -euo pipefail
umask 022  # tests that run as root begin the server as nobody

keys=/usr/share/keyrings/debian-archive-keyring.gpg
[[ $# -gt 0 ]] || { echo "usage: $0 COMMAND…" >&2; exit 2; }
[[ $(dpkg --print-architecture) = amd64 && -e $keys ]] || { echo "$0 needs Debian on amd64, and $keys" >&2; exit 2; }

root=$(mktemp -d /tmp/muster-mysql-XXXXXX)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root"/apt/{state/lists/partial,cache/archives/partial} "$root/system"
echo "deb [signed-by=$keys] http://deb.debian.org/debian sid main" > "$root/apt/sources.list"
touch "$root/apt/nothing-is-installed"
cat > "$root/apt/apt.conf" << END
Dir::State "$root/apt/state";
Dir::State::status "$root/apt/nothing-is-installed";
Dir::Cache "$root/apt/cache";
Dir::Etc::sourcelist "$root/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
END

export APT_CONFIG="$root/apt/apt.conf"
apt-get --quiet=2 update
apt-get --quiet=2 install --yes --no-install-recommends --download-only mysql-server-core > /dev/null
unset APT_CONFIG
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
