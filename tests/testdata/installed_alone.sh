#!/bin/bash
# The Debian package where no systemd runs, as in a container: what packaging/README.md says for that. Run by boot.sh.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND"; exit 1' ERR
export PIN=a-user-pin SO_PIN=an-so-pin-1
rm -f /var/lib/man-db/auto-update
dpkg --force-unsafe-io -i /given/old.deb
for page in craton-hsm-admin.1 craton-hsm-daemon.8 craton-pki.8 craton-pki-client.1; do
    MANROFFSEQ='' man --warnings -l "/usr/share/man/man${page##*.}/$page.gz" >/tmp/page 2>/tmp/warnings
    cat /tmp/warnings
    [ ! -s /tmp/warnings ] && grep -q '^NAME' /tmp/page
done
cp /usr/share/doc/craton-hsm/examples/craton_hsm.toml /etc/craton-hsm/
install -d -m 0750 -o craton-hsm -g craton-hsm /run/craton-hsm
setpriv --reuid craton-hsm --regid craton-hsm --init-groups craton-hsm-daemon --config /etc/craton-hsm/craton_hsm.toml 2>/tmp/log &
for _ in $(seq 600); do ! craton-hsm-admin status >/dev/null 2>&1 || break; sleep 0.1; done
craton-hsm-admin token init --label main --so-pin env:SO_PIN --user-pin env:PIN
craton-hsm-admin backup --pin env:SO_PIN --output /tmp/a.backup --bundle
[ "$(stat -c %U /var/lib/craton-hsm/store)" = craton-hsm ]
kill %1
wait %1
dpkg -r craton-hsm
[ -d /var/lib/craton-hsm/store ]
echo "== done"
