# What an operator does, from installing to purging. Each step's output stands under its name.
export DEBIAN_FRONTEND=noninteractive
PACKAGE=$(dirname "$0")/exuvia.deb
# Images of Debian often have one that keeps services from being restarted.
rm -f /usr/sbin/policy-rc.d
# dpkg need not read which files the other packages have, nor man-db look at all their pages.
perl -e 'truncate $_, 0 for glob "/var/lib/dpkg/info/*.list /var/lib/dpkg/triggers/File"'
mkdir -p /run/none/partial

step() { printf '\n== %s\n' "$1"; }
# Without lists of packages: what is depended on is installed already.
apt() {
    apt-get --yes -o Dir::State::Lists=/run/none -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--no-triggers "$@" 2>&1
}
unpack() { dpkg --force-unsafe-io --no-triggers "$@"; }
running() { systemctl list-units --plain --no-legend --state=active 'exuvia-*' | cut -d ' ' -f 1; }
peers() { wg show wg0 peers | wc -l; }
main_process() { systemctl show --property MainPID --value "$1"; }

step installs
apt install "$PACKAGE" >/tmp/apt || cat /tmp/apt
dpkg-query --show --showformat '${Status}\n' exuvia

step starts-nothing
running

step owners
exuvia account create >/tmp/first
stat --format '%U %a' /var/lib/exuvia /var/lib/exuvia/exuvia.db /var/lib/exuvia/exuvia.db.key

step serves
systemctl start exuvia-serve && running
exuvia account create >/tmp/number
exuvia account list | wc -l

step gateway
exuvia gateway enroll se1 --endpoint 127.0.0.1:51820 --dns 192.0.2.53 >/etc/exuvia/gateway-wg0.token
echo 'control = "http://127.0.0.1:8080"' >>/etc/exuvia/gateway.toml
echo EXUVIA_LISTEN_PORT=51820 >/etc/exuvia/gateway-wg0.env
ip link add out0 type dummy && ip link set out0 up && echo 'nat = "out0"' >>/etc/exuvia/gateway.toml
systemctl start exuvia-gateway@wg0 && running
wg show wg0 listen-port
nft list tables

step privileges
for process in $(pgrep -f 'exuvia[.]gateway'); do
    echo $(stat --format %U /proc/$process) $(grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/$process/status)
done

step guard
ip link add wg7 type wireguard
systemctl start exuvia-guard@wg7 && sleep 0.5 && running

step client
exuvia client login --control http://127.0.0.1:8080 --account-file /tmp/number
echo 'nameserver 192.0.2.1' >/etc/resolv.conf
systemctl start exuvia-client
for _ in $(seq 50); do grep -q 192.0.2.53 /etc/resolv.conf && break; sleep 0.2; done
grep nameserver /etc/resolv.conf
nft list tables | grep client
running

step client-stops
systemctl stop exuvia-client && cat /etc/resolv.conf
nft list tables | grep client

step wireguard-go
# The client's sandbox, and in it the part that makes an interface where the kernel can't.
mkdir /run/units/exuvia-client.service.d
cat >/run/units/exuvia-client.service.d/go.conf <<END
[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart=/usr/lib/exuvia/bin/python3 -I -c "from exuvia.system import userspace; userspace.start('go0').stop()"
END
systemctl daemon-reload && systemctl start exuvia-client && echo it comes up
rm -r /run/units/exuvia-client.service.d && systemctl daemon-reload

step upgrade
before="$(main_process exuvia-serve) $(main_process exuvia-gateway@wg0)"
peers
wg show wg0 public-key >/tmp/key
systemctl enable exuvia-serve 2>&1
unpack -i "$PACKAGE" >/tmp/apt || cat /tmp/apt
for unit in exuvia-serve exuvia-gateway@wg0; do
    for _ in $(seq 50); do [ "$(systemctl is-active $unit)" = active ] && break; sleep 0.2; done
done
running
[ "$before" = "$(main_process exuvia-serve) $(main_process exuvia-gateway@wg0)" ] || echo restarted
peers
wg show wg0 public-key | cmp - /tmp/key && echo same key
tail -1 /etc/exuvia/gateway.toml

step remove
unpack -r exuvia 2>&1 | grep 'stays as it is'
running
peers
ls /var/lib/exuvia/exuvia.db /etc/exuvia/gateway-wg0.token

step purge
unpack -P exuvia >/tmp/apt 2>&1 || cat /tmp/apt
ls -d /var/lib/exuvia* /etc/exuvia* /usr/lib/exuvia* /etc/systemd/system/*/exuvia* 2>/dev/null
getent passwd exuvia | cut -d : -f 1

step said
cat /run/said
