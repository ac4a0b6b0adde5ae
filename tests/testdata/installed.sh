#!/bin/bash
# The life of the Debian package on a machine with systemd, whose commands are those of packaging/README.md: installation, first start,
# backup, drill, a PKI, a crash, an upgrade, a removal. Run by boot.sh; /given holds old.deb and new.deb, which is one version later.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND"; journalctl --sync; journalctl --no-pager -n 60; exit 1' ERR
export PIN=a-user-pin SO_PIN=an-so-pin-1 PHRASE=six-words-of-the-pki
export CRATON_HSM_CONFIG=/etc/craton-hsm/craton_hsm.toml CRATON_PKI_CONFIG=/etc/craton-pki/craton_pki.toml
pki_user="runuser -u craton-pki -- env CRATON_HSM_CONFIG=$CRATON_HSM_CONFIG"
waits() { # until a command succeeds
    for _ in $(seq 600); do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.1; done
    "$@"
}
install_package() { dpkg --force-unsafe-io -i "$1"; }
token() { $pki_user pkcs11-tool --module "$module" --login --pin "$PIN" "$@"; }
# Its index of pages takes longer than all the rest.
rm -f /var/lib/man-db/auto-update

echo "== installation"
install_package /given/old.deb
sh /var/lib/dpkg/info/craton-hsm.postinst configure
[ "$(id -nG craton-pki)" = "craton-pki craton-hsm" ]
[ "$(stat -c '%a %U %G' /etc/craton-hsm /etc/craton-pki)" = $'750 root craton-hsm\n750 root craton-pki' ]
[ "$(stat -c '%a %U' /var/lib/craton-hsm /var/lib/craton-pki)" = $'700 craton-hsm\n700 craton-pki' ]
[ "$(dpkg-query -W -f '${Conffiles}' craton-hsm | grep -c /etc/)" = 1 ]
[ -z "$(find /etc/systemd -lname '*craton*')" ]
systemd-analyze verify /lib/systemd/system/craton-*.service /lib/systemd/system/craton-*.timer >/tmp/verified 2>&1
cat /tmp/verified
[ ! -s /tmp/verified ]
module=$(find /usr/lib -name libcraton_pkcs11.so)

echo "== the first start"
cp /usr/share/doc/craton-hsm/examples/craton_hsm.toml /etc/craton-hsm/
sed -i 's/^# socket_group/socket_group/' $CRATON_HSM_CONFIG
systemctl enable --now craton-hsm
# It is started when it serves.
craton-hsm-admin status >/dev/null
[ "$(systemctl show -P StatusText craton-hsm)" = ok ]
journalctl --sync
journalctl --no-pager -o cat -u craton-hsm >/tmp/log
grep -i self-test /tmp/log
grep 'secrets lie in locked memory' /tmp/log
grep 'system calls are filtered' /tmp/log
[ ! -d /sys/kernel/security/landlock ] || grep 'held to its files by Landlock' /tmp/log
craton-hsm-admin token init --label main --so-pin env:SO_PIN --user-pin env:PIN
token --keypairgen --key-type EC:prime256v1 --label kept
printf %s "$SO_PIN" | systemd-creds encrypt --name=so-pin - /etc/craton-hsm/so-pin.cred
systemctl enable --now craton-backup.timer craton-drill.timer

echo "== the backup and the drill"
systemctl start craton-backup.service
systemctl start craton-drill.service
[ "$(find /var/lib/craton-backup -name '*.backup.files' | wc -l)" = 1 ]
report=$(find /var/lib/craton-backup/drills -name '*.json')
grep -q '"passed": true' "$report"
[ -z "$(grep '"passed": false' "$report" || :)" ]
craton-hsm-admin backup status /var/lib/craton-backup --max-age 2
# Nothing but the clock, which nobody sets on this copy of a machine.
found=$(runuser -u craton-hsm -- env CRATON_HSM_CONFIG=$CRATON_HSM_CONFIG craton-hsm-admin doctor || :)
echo "$found"
echo "$found" | grep -q '^doctor: '
[ -z "$(echo "$found" | grep -E '^(warning|critical) ' | grep -v '\[clock\]' || :)" ]

echo "== a PKI on it"
install -m 0640 -g craton-pki /dev/null $CRATON_PKI_CONFIG
install -m 0600 -o craton-pki -g craton-pki /dev/null /etc/craton-pki/pin
printf %s "$PIN" >/etc/craton-pki/pin
cat >$CRATON_PKI_CONFIG <<TOML
[token]
module = "$module"
label = "main"
pin = "file:/etc/craton-pki/pin"
[store]
state_dir = "/var/lib/craton-pki"
[ca.root]
subject = "CN=Root"
key = "ec:P-256"
validity_days = 3650
[ca.issuing]
subject = "CN=Issuing"
key = "ec:P-256"
validity_days = 1825
[profiles.device]
validity_days = 90
[est]
listen = "127.0.0.1:8443"
host_names = ["localhost"]
[crl]
listen = "127.0.0.1:8080"
base_url = "http://127.0.0.1:8080"
TOML
$pki_user craton-pki --config $CRATON_PKI_CONFIG init
systemctl enable --now craton-pki
waits craton-pki health
printf %s "$PHRASE" | systemd-creds encrypt --name=pki-backup - /etc/craton-pki/backup.cred
systemctl enable --now craton-pki-backup.timer
systemctl start craton-pki-backup.service
[ "$(find /var/lib/craton-pki-backup -name '*.backup' | wc -l)" = 1 ]

echo "== a killed daemon comes back, and the PKI goes on"
before=$(systemctl show -P MainPID craton-hsm)
kill -KILL "$before"
waits craton-hsm-admin status
[ "$(systemctl show -P MainPID craton-hsm)" != "$before" ]
waits craton-pki health

echo "== a hung daemon is ended by the watchdog, a wrong configuration is not tried again"
mkdir -p /run/systemd/system/craton-hsm.service.d
printf '[Service]\nWatchdogSec=1\n' >/run/systemd/system/craton-hsm.service.d/soon.conf
systemctl daemon-reload
systemctl restart craton-hsm
before=$(systemctl show -P MainPID craton-hsm)
kill -STOP "$before"
waits sh -c "! kill -0 $before"
waits craton-hsm-admin status
rm -r /run/systemd/system/craton-hsm.service.d
systemctl daemon-reload
echo 'unknown_key = 1' >/tmp/wrong
cat $CRATON_HSM_CONFIG >/tmp/right
cat /tmp/wrong /tmp/right >$CRATON_HSM_CONFIG
! systemctl restart craton-hsm
[ "$(systemctl show -P ExecMainStatus craton-hsm) $(systemctl is-failed craton-hsm)" = "78 failed" ]
cat /tmp/right >$CRATON_HSM_CONFIG
systemctl start craton-hsm

echo "== an upgrade keeps the configuration and the running daemon"
sha256sum /etc/craton-hsm/* /etc/craton-pki/* >/tmp/configured
install_package /given/new.deb
sha256sum --quiet -c /tmp/configured
craton-hsm-admin status >/dev/null
systemctl restart craton-hsm
craton-hsm-admin status >/dev/null
token --list-objects --type privkey | grep kept

echo "== a removal and a purge leave keys, backups and configuration"
dpkg -r craton-hsm
! systemctl is-active craton-hsm craton-pki craton-backup.timer craton-drill.timer craton-pki-backup.timer
[ -z "$(find /etc/systemd -lname '*craton*')" ]
dpkg -P craton-hsm
sha256sum --quiet -c /tmp/configured
[ -n "$(find /var/lib/craton-backup -name '*.backup')" ]
install_package /given/new.deb
systemctl start craton-hsm
craton-hsm-admin status >/dev/null
token --list-objects --type privkey | grep kept
echo "== done"
