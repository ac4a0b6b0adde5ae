#!/bin/sh
# Runs one program on a throw-away copy of this machine's files, as root, in namespaces of its own: as a service beside a freshly booted
# systemd, or alone. What it does to files, users and services is gone afterwards; it sees no network and none of this machine's processes.
#
# usage (as root): boot.sh DIRECTORY PROGRAM [alone]
# The program finds DIRECTORY at /given; its output goes to DIRECTORY/said. Exit status: 0 when it succeeded, 77 when this machine does
# not let us do that.
set -eu
inside() {
    mount --make-rprivate /
    mount -t tmpfs -o mode=0755 tmpfs /mnt
    mkdir /mnt/changes /mnt/work /mnt/root
    mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work /mnt/root
    cd /mnt/root
    mkdir -p given .before
    mount --bind "$1" given
    for place in run tmp var/tmp dev; do mount -t tmpfs -o mode=0755 tmpfs "$place"; done
    chmod 1777 tmp var/tmp
    for device in null zero full random urandom tty; do
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mkdir dev/shm dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup2 sys/fs/cgroup
    else
        mount -t tmpfs -o mode=0755 tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
        # So that systemd mounts no other.
        mount -o remount,ro tmpfs sys/fs/cgroup
    fi
    # Nothing that this machine starts for itself.
    rm -rf etc/systemd/system/* etc/fstab
    : >etc/machine-id
    cat >etc/systemd/system/given.target <<UNIT
[Unit]
Requires=basic.target
After=basic.target
Wants=given.service
AllowIsolate=yes
UNIT
    cat >etc/systemd/system/given.service <<UNIT
[Unit]
After=basic.target
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
ExecStart=$2
StandardOutput=file:/given/said
StandardError=file:/given/said
TimeoutStartSec=infinity
UNIT
    # Not chroot: a process in one may make no user namespace, which PrivateUsers= is.
    pivot_root . .before
    cd /
    umount -l .before
    rmdir .before
    # As a machine that boots has it: credentials reach services that way.
    mount --make-rshared /
    clean="env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    [ -z "${3:-}" ] || exec $clean "$2" >given/said 2>&1
    exec $clean container=other /lib/systemd/systemd --system --unit=given.target --log-target=journal
}
if [ "$1" = --inside ]; then
    shift
    inside "$@"
fi

# A group of processes of its own, below that of whoever runs this.
groups=/sys/fs/cgroup
[ -e $groups/cgroup.controllers ] || groups=$groups/systemd
group=$groups$(sed -n 's/^0:://p; s/^[0-9]*:name=systemd://p' /proc/self/cgroup | head -n 1)/craton-test-$$
copy='mount -t tmpfs tmpfs /mnt && mkdir /mnt/c /mnt/w /mnt/r && mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/c,workdir=/mnt/w /mnt/r'
{ [ "$(id -u)" = 0 ] && unshare --mount --pid --fork sh -c "$copy" && mkdir "$group"; } 2>/dev/null || exit 77
trap 'find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true' EXIT
status=0
sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$group" \
    unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child "$0" --inside "$@" || status=$?
exit "$status"
