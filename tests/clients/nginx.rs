//! nginx: workers that open the token for themselves after the fork, as another user, across reloads and across a daemon's death.

use acceptance::daemon::binary;

use super::page;

const PROGRAMS: [&str; 4] = ["nginx", "openssl", "pkcs11-tool", "curl"];

#[test]
fn page() {
    if page::engine("nginx::page") && page::all_available("nginx::page", &PROGRAMS) {
        page::run_in(&page::world_for_servers(), "nginx", &[]);
    }
}

/// After the page's server has begun to serve: its daemon is killed, and another one takes its place.
const DEATH_OF_THE_DAEMON: &str = r#"
```sh
kill -9 "$(cat ../daemon.pid)"
while kill -0 "$(cat ../daemon.pid)" 2>/dev/null && ! grep -q "State:.Z" "/proc/$(cat ../daemon.pid)/status"; do sleep 0.05; done
```

```sh fails
get
```

```output
alert internal error
```

The workers are alive; with the daemon back, a restart of nginx is all that it takes.

```sh
"$DAEMON" --config "$CRATON_HSM_CONFIG" > ../second.log 2>&1 &
until "$ADMIN" --config "$CRATON_HSM_CONFIG" status > status 2>&1; do sleep 0.1; done
old=$(cat nginx.pid)
nginx -p "$PWD" -c nginx.conf -s stop
while [ -e nginx.pid ]; do sleep 0.05; done
nginx -p "$PWD" -c nginx.conf
[ "$old" != "$(cat nginx.pid)" ]
get
get --tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256
```

```output
worker
```
"#;

#[test]
fn a_restart_of_nginx_is_enough_after_the_daemon_died() {
    let test = "nginx::a_restart_of_nginx_is_enough_after_the_daemon_died";
    if !(page::engine(test) && page::all_available(test, &PROGRAMS)) {
        return;
    }
    let text = page::text("nginx");
    let (beginning, _) = text.split_once("\nA reload starts").expect("the page speaks of a reload");
    let story = format!("{beginning}\n{DEATH_OF_THE_DAEMON}");
    let (daemon, admin) = (binary("craton-hsm-daemon"), binary("craton-hsm-admin"));
    page::run_text(&page::world_for_servers(), test, &story, &[("DAEMON", &daemon), ("ADMIN", &admin)]);
}
