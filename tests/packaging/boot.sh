#!/bin/bash
# Runs systemd as the first process of a machine of its own: with no unit but these few, those of
# the package, and one that does what $1 says; its output goes to $2.
UNITS=/run/units
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
mkdir -p $UNITS
cd $UNITS || exit 1

for target in sysinit basic network network-online multi-user timers shutdown umount final; do
    printf '[Unit]\nDefaultDependencies=no\n' >$target.target
done
cp /lib/systemd/system/{exit.target,systemd-exit.service} .
cat >story.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash $1
ExecStopPost=/bin/systemctl --no-block exit
StandardOutput=append:$2
StandardError=inherit
END
# There is no journal: what services say can be read here.
mkdir exuvia-.service.d
printf '[Service]\nStandardOutput=append:/run/said\nStandardError=inherit\n' >exuvia-.service.d/said.conf

# So that the package's units are found, but none of this machine's own.
for unit in serve.service gateway@.service guard@.service client.service; do
    ln -s /lib/systemd/system/exuvia-$unit .
done
export SYSTEMD_UNIT_PATH=$UNITS:/etc/systemd/system.control container=test
exec /lib/systemd/systemd --unit=story.service --log-target=null --show-status=no
