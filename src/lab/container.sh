# Becomes the container manager of one machine of the lab. Runs in a mount namespace of its own that ends with it, and
# with it every mount and loop device made here: nothing has to be unmounted, not even after a crash.
# Positional: see `container.rs`, which runs this.
set -eu
cd "$1"
image=$2 offset=$3 size=$4 group=$5 network=$6 machine=$7 id=$8
shift 8

# A fresh mount of the unified hierarchy: some hosts have the old ones at /sys/fs/cgroup. A group of its own, else the
# container's systemd would manage the host's only tree.
umount --recursive /sys/fs/cgroup 2>/dev/null || umount --lazy /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
echo $$ >"/sys/fs/cgroup/$group/cgroup.procs"
# What nspawn leaves behind for machines of this name.
mkdir -p /run/systemd
mount -t tmpfs -o mode=0755 none /run/systemd

# The root as `systemd.volatile=overlay` makes it: read-only, with an upper directory in memory that is new at each boot.
# mount(8) finds a loop device that shows the same bytes already, so machines of one role share theirs.
mount -t squashfs -o "ro,loop,offset=$offset,sizelimit=$size" "$image" lower
mount -t tmpfs -o mode=0755 none memory
mkdir memory/upper memory/work
mount -t overlay -o lowerdir=lower,upperdir=memory/upper,workdir=memory/work none root

# State as the image's generator mounts it; the host's kernel outlives the machine, so nothing waits for the disk.
filesystem=loop,noatime,nodev,nosuid,barrier=0
mount -t ext4 -o "$filesystem" state.img root/state
if [ -e database.img ]; then
    mkdir -p root/state/var/lib/postgresql
    mount -t ext4 -o "$filesystem" database.img root/state/var/lib/postgresql
fi
mount -t proc none root/proc
chroot root systemd-tmpfiles --create /usr/lib/rolecast/state.conf
umount root/proc
for path; do
    mount --bind "root/state$path" "root$path"
done

if [ -e seed ]; then
    mkdir -p root/var/lib/cloud/seed/nocloud
    mount --bind -o ro seed root/var/lib/cloud/seed/nocloud
fi

# What an image sets for its network (sysctl.d(5)) is its own namespace's, and takes effect.
exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_LOCK=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network \
    systemd-nspawn --quiet --directory=root --boot \
    --register=no --keep-unit --settings=no --link-journal=no --resolv-conf=off --timezone=off --console=read-only \
    --network-namespace-path="$network" --capability=CAP_NET_ADMIN,CAP_NET_RAW \
    --machine="$machine" --hostname=localhost --uuid="$id"
