//! nginx: workers that open the token for themselves after the fork, as another user, across reloads and across a daemon's death.

use std::path::Path;

use acceptance::daemon::binary;

use acceptance::page;

const PROGRAMS: [&str; 4] = ["nginx", "openssl", "pkcs11-tool", "curl"];

#[test]
fn page() {
    if page::engine("nginx::page") && page::all_available("nginx::page", &PROGRAMS) {
        page::run_in(&page::world_for_servers(""), "nginx", &[]);
    }
}

/// After the page's server has begun to serve: its daemon is killed, and another one takes its place.
const DEATH_OF_THE_DAEMON: &str = r#"
```sh
kill -9 "$(cat ../daemon.pid)"
while grep -q "State:.[^Z]" "/proc/$(cat ../daemon.pid)/status" 2>/dev/null; do sleep 0.05; done
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

/// The same with `session_resume`: neither nginx nor its workers are touched, and requests that come too early wait.
const DEATH_UNNOTICED: &str = r#"
```sh
workers=$(pgrep -P "$(cat nginx.pid)" | sort | tr '\n' ' ')
for _ in 1 2 3 4 5 6; do get; done
kill -9 "$(cat ../daemon.pid)"
while grep -q "State:.[^Z]" "/proc/$(cat ../daemon.pid)/status" 2>/dev/null; do sleep 0.05; done
( sleep 0.5; exec "$DAEMON" --config "$CRATON_HSM_CONFIG" > ../second.log 2>&1 ) &
for _ in 1 2 3 4 5 6; do get; done
get --tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256
nginx -p "$PWD" -c nginx.conf -s reload
sleep 1
for _ in 1 2 3 4 5 6; do get; done
! grep -q "SSL_do_handshake() failed" error.log
echo "workers before the reload: $workers"
```

```output
worker
```
"#;

/// The page as far as a server that serves, and then a story.
fn page_and(test: &str, shim: &str, story: &str) {
    if !(page::engine(test) && page::all_available(test, &PROGRAMS)) {
        return;
    }
    let text = page::text("nginx");
    let (beginning, _) = text.split_once("\nA reload starts").expect("the page speaks of a reload");
    let (daemon, admin) = (binary("craton-hsm-daemon"), binary("craton-hsm-admin"));
    let variables: [(&str, &Path); 2] = [("DAEMON", &daemon), ("ADMIN", &admin)];
    page::run_text(&page::world_for_servers(shim), test, &format!("{beginning}\n{story}"), &variables);
}

#[test]
fn a_restart_of_nginx_is_enough_after_the_daemon_died() {
    page_and("nginx::a_restart_of_nginx_is_enough_after_the_daemon_died", "", DEATH_OF_THE_DAEMON);
}

#[test]
fn with_session_resume_nginx_goes_on_after_the_daemon_died() {
    let shim = "session_resume = true\npin_cache = true";
    page_and("nginx::with_session_resume_nginx_goes_on_after_the_daemon_died", shim, DEATH_UNNOTICED);
}
