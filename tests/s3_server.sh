#!/bin/bash
# A real S3 server on loopback: Ceph RGW over one monitor, one manager and one in-memory OSD (1 GiB).
#
#   s3_server.sh DIR S3_PORT MONITOR_PORT     with S3_ACCESS_KEY and S3_SECRET_KEY in the environment
#
# It encrypts what asks for it under the key "testkey" of a key service of its own, also over plain http.
# DIR is made, and must not exist. Prints "ready" when the server answers and its user is there; runs until standard input ends
# or SIGTERM comes, then ends every daemon. So it does not outlive whoever started it, however they ended.
# Needs the Debian packages ceph-mon, ceph-mgr, ceph-osd, radosgw and ceph-common.
set -eu -o pipefail

dir=$1 port=$2 monitor=$3
: "${S3_ACCESS_KEY:?}" "${S3_SECRET_KEY:?}"

for program in ceph-mon ceph-mgr ceph-osd radosgw radosgw-admin ceph-authtool monmaptool; do
    command -v "$program" >/dev/null || {
        echo "$program is missing: apt-get install ceph-mon ceph-mgr ceph-osd radosgw ceph-common" >&2
        exit 1
    }
done

daemons=()
stop() {
    trap - EXIT TERM INT
    # The gateway first: it waits long for a cluster that went away under it.
    for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do kill "${daemons[i]}" 2>/dev/null || true; done
    for ((tenths = 0; tenths < 100; tenths++)); do
        kill -0 "${daemons[@]}" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "${daemons[@]}" 2>/dev/null || true
    wait
}
trap 'stop; exit 1' EXIT
trap 'stop; exit 0' TERM INT

start() {
    "$@" >>"$dir/log/output.log" 2>&1 </dev/null &
    daemons+=($!)
}

mkdir -p "$(dirname "$dir")"
mkdir "$dir" "$dir"/{mon,mgr,osd,run,log}
cd "$dir"
fsid=$(cat /proc/sys/kernel/random/uuid)

# cephx, since the gateway hangs without it; tcp_nodelay, or each small answer waits 40 ms for a delayed acknowledgement.
cat >ceph.conf <<CONF
[global]
fsid=$fsid
mon_host=v2:127.0.0.1:$monitor
mon_initial_members=a
auth_cluster_required=cephx
auth_service_required=cephx
auth_client_required=cephx
auth_allow_insecure_global_id_reclaim=true
osd_pool_default_size=1
osd_pool_default_min_size=1
mon_allow_pool_size_one=true
mon_warn_on_pool_no_redundancy=false
osd_crush_chooseleaf_type=0
osd_pool_default_pg_num=1
osd_pool_default_pgp_num=1
osd_pool_default_pg_autoscale_mode=off
mon_max_pg_per_osd=1000
run_dir=$dir/run
log_file=$dir/log/\$name.log
admin_socket=$dir/run/\$name.asok
pid_file=$dir/run/\$name.pid
mon_data=$dir/mon
mgr_data=$dir/mgr
osd_data=$dir/osd
keyring=$dir/keyring
osd_objectstore=memstore
memstore_device_bytes=${S3_SERVER_BYTES:-1073741824}
ms_bind_ipv6=false
ms_bind_port_min=20100
ms_bind_port_max=20899
public_network=127.0.0.0/8
cluster_network=127.0.0.0/8
mon_data_avail_crit=1
mon_data_avail_warn=2
rgw_frontends=beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_enable_ops_log=false
rgw_crypt_require_ssl=false
rgw_crypt_s3_kms_backend=testing
rgw_crypt_s3_kms_encryption_keys=testkey=$(head -c 32 /dev/urandom | base64)
CONF
export CEPH_CONF=$dir/ceph.conf CEPH_ARGS="-c $dir/ceph.conf"

ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
monmaptool --create --addv a "[v2:127.0.0.1:$monitor]" --fsid "$fsid" monmap >/dev/null
ceph-mon --mkfs -i a --monmap monmap --keyring keyring
start ceph-mon -f -i a
ceph --connect-timeout 30 auth get-or-create mgr.x mon 'allow profile mgr' osd 'allow *' mds 'allow *' >>keyring
start ceph-mgr -f -i x

osd=$(cat /proc/sys/kernel/random/uuid)
key=$(ceph-authtool --gen-print-key)
echo "{\"cephx_secret\": \"$key\"}" | ceph osd new "$osd" -i - >/dev/null
ceph-authtool keyring -n osd.0 --add-key "$key" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$osd" >>log/output.log 2>&1
start ceph-osd -f -i 0

ceph auth get-or-create client.rgw mon 'allow rwx' osd 'allow rwx' >>keyring
start radosgw -f -n client.rgw -k "$dir/keyring"
for ((tenths = 0; tenths < 600; tenths++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
radosgw-admin user create --uid=muster --display-name=muster \
    --access-key="$S3_ACCESS_KEY" --secret-key="$S3_SECRET_KEY" >/dev/null 2>>log/output.log
echo ready

exec 4<&0 # a background command would read from /dev/null
cat <&4 >/dev/null &
daemons+=($!)
wait $! || true
stop
exit 0
