# The first process of the guest. tools/kernel puts a line in front of this text that sets
# RUN (the folder it shares with the guest) and WRITABLE (what was given with --rw).
#
# Root is an overlay: the host's files below, read only, and memory above them.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
ROOT=/mnt/root

mount -t tmpfs tmpfs /mnt
mkdir /mnt/{upper,work,root,run}
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay $ROOT
mount -t hostfs -o "$RUN" none /mnt/run
for folder in ${WRITABLE[@]+"${WRITABLE[@]}"}; do
    mount -t hostfs -o "$folder" none "$ROOT$folder"
done

mount -t sysfs sysfs $ROOT/sys
mount -t devtmpfs dev $ROOT/dev
mkdir -p $ROOT/dev/{pts,shm}
mount -t devpts -o ptmxmode=666 devpts $ROOT/dev/pts
mount -t tmpfs tmpfs $ROOT/dev/shm
mount -t tmpfs tmpfs $ROOT/run
mkdir $ROOT/run/{lock,netns}
ln -s /proc/self/fd $ROOT/dev/fd
for name in stdin:0 stdout:1 stderr:2; do
    ln -s "/proc/self/fd/${name#*:}" "$ROOT/dev/${name%:*}"
done

hostname kernel
ip link set lo up
ulimit -n 65536
stty -F $ROOT/dev/tty1 raw
stty -F $ROOT/dev/tty2 raw
cp /mnt/run/command $ROOT/run/.command

# The command has a pid namespace of its own, so that what it leaves running ends with it.
# The two cats make its output pipes, not terminals.
{
    {
        unshare --pid --fork bash -c "mount -t proc proc $ROOT/proc
            chroot $ROOT bash /run/.command; exit \$?" </dev/null
        echo $? >/mnt/run/status
    } 2>&3 | cat >$ROOT/dev/tty1
} 3>&1 | cat >$ROOT/dev/tty2

sync -f /mnt/run/status
# reboot(2), to power off: no program for it need be installed, and perl-base is Essential.
perl -e 'syscall 169, 0xfee1dead, 0x28121969, 0x4321fedc'
