//! Crowds at the doors: half-open connections, handshakes that stop, clients that read or write a byte at a time, resets, messages that are
//! far too long, sessions and streams by the ten thousand. Others are served meanwhile, nothing panics, and when the crowd has gone
//! descriptors, threads and memory are where they were. How long others wait is told, not judged. `make chaos` sets CHAOS=long: each
//! crowd stays for a minute then.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod world;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hsm_proto::frame::{self, PREFACE};
use hsm_proto::v1;
use hsm_proto::v1::token_client::TokenClient;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tonic::metadata::MetadataValue;
use world::network::{ANY_CERTIFICATE, TLS13, channel, handshake, health_over_tls, raw_tls, tls};
use world::{World, attach_request, attached, express, http2, init_token, open_session, random, receive};

/// How long the daemon may take until it is as it was.
const SETTLING: Duration = Duration::from_secs(120);

/// A daemon of 30 MiB is small beside the pages in which its allocator has one piece in use. They do not become more from flood to flood.
const SCATTERED_KIB: u64 = 12 * 1024;

/// As `make chaos` sets it.
fn is_long() -> bool {
    std::env::var("CHAOS").is_ok_and(|word| word == "long")
}

/// How long a crowd stays.
fn stay() -> Duration {
    if is_long() { Duration::from_secs(60) } else { Duration::from_secs(2) }
}

/// A daemon with a token, and what it takes to reach it.
struct Stage {
    world: World,
    port: u16,
    config: Arc<ClientConfig>,
}

/// What the daemon holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    memory_kib: u64,
    descriptors: usize,
    threads: usize,
}

impl Stage {
    fn open(test: &str) -> Option<Stage> {
        // A thousand connections have two ends, and some have two handles.
        let most = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: most.map(|most| most.min(65_536)), maximum: most }).unwrap();
        let (mut world, port) = World::on_the_network(test, &["right", "other"], ANY_CERTIFICATE, "")?;
        world.start();
        let config = tls(world.folder.path(), Some("right"), TLS13);
        let (stream, _) = attached(&world);
        init_token(&stream);
        Some(Stage { world, port, config })
    }

    fn held(&self) -> Held {
        let pid = self.world.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Held { memory_kib: number("VmRSS:"), descriptors, threads: usize::try_from(number("Threads:")).unwrap() }
    }

    /// Waits until the daemon holds no more than before, and a tenth more memory; what the allocator keeps in pieces comes on top.
    fn settle(&self, before: Held, what: &str) -> (Duration, Held) {
        let begun = Instant::now();
        loop {
            let now = self.held();
            let most = before.memory_kib + before.memory_kib / 10 + SCATTERED_KIB;
            if now.descriptors <= before.descriptors && now.threads <= before.threads && now.memory_kib <= most {
                return (begun.elapsed(), now);
            }
            assert!(begun.elapsed() < SETTLING, "{what}: {before:?} became {now:?}\n{}", self.world.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).expect("the daemon accepts")
    }

    /// The first message of a handshake.
    fn greeting(&self) -> Vec<u8> {
        let mut greeting = Vec::new();
        handshake(&self.config).write_tls(&mut greeting).unwrap();
        greeting
    }

    /// A gRPC connection with mutual TLS, by hand, whose application has attached; its name as a header has it.
    fn attached_afar(&self, window: u32) -> (StreamOwned<ClientConnection, TcpStream>, String) {
        let mut stream = raw_tls(&self.config, self.port).expect("the daemon shakes hands");
        stream.sock.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let attach = [http2::call(1, "/craton.hsm.v1.Token/Attach", None), http2::message(1, &attach_request())];
        stream.write_all(&[http2::hello(window), attach.concat()].concat()).unwrap();
        let reply: v1::AttachReply = prost::Message::decode(&http2::answer(&mut stream, 1)[..]).unwrap();
        (stream, data_encoding::BASE64_NOPAD.encode(&reply.application))
    }
}

/// Somebody else, who is served: on the express lane, over gRPC, and with a new handshake each time.
struct Bystanders {
    running: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Vec<Duration>>>,
}

impl Bystanders {
    fn begin(stage: &Stage) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let (folder, port) = (stage.world.folder.path().to_owned(), stage.port);
        let (stream, _) = attached(&stage.world);
        let session = open_session(&stream).unwrap();
        let local = repeat(&running, move || assert_eq!(random(&stream, session, 32).len(), 32));
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let afar = runtime();
        let (mut token, name, session) = afar.block_on(begin_afar(folder.clone(), port));
        let over_grpc = repeat(&running, move || {
            let mut request = tonic::Request::new(v1::RandomRequest { session, len: 32 });
            request.metadata_mut().insert_bin("craton-application-bin", MetadataValue::from_bytes(&name));
            assert_eq!(afar.block_on(token.random(request)).expect("served").into_inner().bytes.len(), 32);
        });
        let fresh = runtime();
        let newcomer = repeat(&running, move || {
            // Where hundreds come at once the oldest of those who are not known yet make room, and this one may be among them.
            let deadline = Instant::now() + SETTLING;
            while let Err(why) = fresh.block_on(health_over_tls(&folder, port, Some("other"), TLS13)) {
                assert!(Instant::now() < deadline, "a newcomer is not served: {why}");
            }
        });
        Bystanders { running, threads: vec![local, over_grpc, newcomer] }
    }

    /// How long each of them waited: the median and the longest of 99 of 100, and how often it was served.
    fn end(self) -> Vec<(Duration, Duration, usize)> {
        self.running.store(false, Ordering::Relaxed);
        let waited = self.threads.into_iter().map(|thread| thread.join().expect("a bystander was not served"));
        waited
            .map(|mut waits| {
                waits.sort();
                (waits[waits.len() / 2], waits[waits.len() * 99 / 100], waits.len())
            })
            .collect()
    }
}

fn repeat(running: &Arc<AtomicBool>, mut call: impl FnMut() + Send + 'static) -> thread::JoinHandle<Vec<Duration>> {
    let running = Arc::clone(running);
    thread::spawn(move || {
        let mut waits = Vec::new();
        // At least once, however short the flood was.
        while waits.is_empty() || running.load(Ordering::Relaxed) {
            let begun = Instant::now();
            call();
            waits.push(begun.elapsed());
            thread::sleep(Duration::from_millis(2));
        }
        waits
    })
}

async fn begin_afar(folder: PathBuf, port: u16) -> (TokenClient<tonic::transport::Channel>, Vec<u8>, u64) {
    let mut token = TokenClient::new(channel(&folder, port, Some("other"), TLS13).await.unwrap());
    let name = token.attach(attach_request()).await.unwrap().into_inner().application;
    let mut request = tonic::Request::new(v1::OpenSessionRequest { slot: 0, flags: 6 });
    request.metadata_mut().insert_bin("craton-application-bin", MetadataValue::from_bytes(&name));
    let session = token.open_session(request).await.unwrap().into_inner().session;
    (token, name, session)
}

/// Plays a flood: once to warm up, and once beside others.
fn beside_others(test: &str, flood: impl Fn(&Stage, Duration)) {
    let Some(mut stage) = Stage::open(test) else { return };
    let bystanders = Bystanders::begin(&stage);
    thread::sleep(stay() / 2);
    let alone = bystanders.end();
    stage.settle(Held { memory_kib: u64::MAX / 2, ..quiet(&stage) }, "at the beginning");
    let before = stage.held();
    let bystanders = Bystanders::begin(&stage);
    let begun = Instant::now();
    flood(&stage, stay());
    let (lasted, during) = (begun.elapsed(), stage.held());
    let beside = bystanders.end();
    let (settled, after) = stage.settle(before, test);
    let names = ["express", "gRPC", "handshake and first answer"];
    for ((name, (median, longest, _)), (slow_median, slow_longest, count)) in names.iter().zip(alone).zip(beside) {
        println!(
            "TABLE {test}, {name}: p50 and p99 {median:?} and {longest:?} alone, {slow_median:?} and {slow_longest:?} of {count} beside it"
        );
    }
    println!("TABLE {test}: {lasted:?}; {before:?}, {during:?} at its end, {after:?} {settled:?} later");
    let log = stage.world.log();
    assert!(!log.contains("panicked") && !log.contains("a defect"), "{log}");
    assert_eq!(stage.world.stop().code(), Some(0), "{}", stage.world.log());
}

/// What is held when nobody is connected any more: descriptors and threads do not change for a moment.
fn quiet(stage: &Stage) -> Held {
    let (begun, mut last) = (Instant::now(), stage.held());
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = stage.held();
        if (now.descriptors, now.threads) == (last.descriptors, last.threads) || begun.elapsed() > SETTLING {
            return now;
        }
        last = now;
    }
}

/// Keeps a crowd of connections for a while; whoever is sent away comes back.
fn crowd<S: Read>(count: usize, stay: Duration, mut come: impl FnMut(usize) -> Option<S>) {
    let mut there: Vec<Option<S>> = (0..count).map(&mut come).collect();
    let begun = Instant::now();
    while begun.elapsed() < stay {
        for (index, place) in there.iter_mut().enumerate() {
            let gone = place.as_mut().is_none_or(|stream| match stream.read(&mut [0; 4096]) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            });
            if gone {
                *place = come(index);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn without_waiting(stream: TcpStream) -> TcpStream {
    stream.set_nonblocking(true).unwrap();
    stream
}

#[test]
fn a_thousand_half_open_connections_keep_nobody_out() {
    beside_others("a_thousand_half_open_connections_keep_nobody_out", |stage, stay| {
        crowd(1000, stay, |_| Some(without_waiting(stage.connect())));
    });
}

#[test]
fn a_thousand_handshakes_that_stop_after_the_greeting_keep_nobody_out() {
    beside_others("a_thousand_handshakes_that_stop_after_the_greeting_keep_nobody_out", |stage, stay| {
        let greeting = stage.greeting();
        crowd(1000, stay, |_| {
            let mut stream = stage.connect();
            stream.write_all(&greeting).ok().map(|()| without_waiting(stream))
        });
    });
}

#[test]
fn a_thousand_silent_local_connections_keep_nobody_out() {
    beside_others("a_thousand_silent_local_connections_keep_nobody_out", |stage, stay| {
        crowd(1000, stay, |_| {
            let stream = UnixStream::connect(stage.world.path("hsm.sock")).ok()?;
            stream.set_nonblocking(true).ok().map(|()| stream)
        });
    });
}

/// Whoever closes with SO_LINGER 0 sends a reset: before, in and after the handshake, and in the middle of a request.
#[test]
fn storms_of_resets_leave_nothing_behind() {
    beside_others("storms_of_resets_leave_nothing_behind", |stage, stay| {
        let (greeting, begun) = (stage.greeting(), Instant::now());
        let reset = |stream: &TcpStream| rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
        let mut round = 0;
        while round < 4 || begun.elapsed() < stay {
            round += 1;
            for _ in 0..250 {
                reset(&stage.connect());
                let mut stopped = stage.connect();
                // The daemon may have closed it to make room.
                stopped.write_all(&greeting).unwrap_or_default();
                reset(&stopped);
            }
            for _ in 0..5 {
                reset(&raw_tls(&stage.config, stage.port).expect("shakes hands").sock);
                let (mut stream, name) = stage.attached_afar(1 << 20);
                let half = [http2::call(3, "/craton.hsm.v1.Token/Random", Some(&name)), vec![0, 1, 0, 0]].concat();
                stream.write_all(&half).unwrap();
                reset(&stream.sock);
            }
        }
    });
}

/// They ask for much and read nothing, or a byte now and then. On the express lane the daemon waits half a minute for them, over gRPC too.
#[test]
fn clients_that_do_not_read_are_parted_from() {
    beside_others("clients_that_do_not_read_are_parted_from", |stage, _| {
        let asked = |session| v1::RandomRequest { session, len: 1 << 20 };
        let mut local = Vec::new();
        for _ in 0..32 {
            let (mut stream, _) = attached(&stage.world);
            let session = open_session(&stream).unwrap();
            let mut bytes = Vec::new();
            for id in 0..8 {
                let op = Some(v1::request::Op::Random(asked(session)));
                frame::encode(id, &v1::Request { op, number: 0 }, &mut bytes).unwrap();
            }
            stream.write_all(&bytes).unwrap();
            local.push(stream);
        }
        let mut afar = Vec::new();
        // The one opens no window, the other no more than the first one; the third opens all and leaves the bytes in the socket.
        for window in [0, 65_535, 1 << 30].into_iter().cycle().take(12) {
            let (mut stream, name) = stage.attached_afar(1 << 20);
            let open = http2::call(3, "/craton.hsm.v1.Token/OpenSession", Some(&name));
            let request = http2::message(3, &v1::OpenSessionRequest { slot: 0, flags: 6 });
            stream.write_all(&[open, request].concat()).unwrap();
            let opened: v1::OpenSessionReply = prost::Message::decode(&http2::answer(&mut stream, 3)[..]).unwrap();
            let setting = [&[0, 4][..], &u32::to_be_bytes(window)].concat();
            stream.write_all(&http2::frame(http2::SETTINGS, 0, 0, &setting)).unwrap();
            for number in (5..).step_by(2).take(64) {
                let call = http2::call(number, "/craton.hsm.v1.Token/Random", Some(&name));
                stream.write_all(&[call, http2::message(number, &asked(opened.session))].concat()).unwrap();
            }
            afar.push(stream);
        }
        let begun = Instant::now();
        let mut most = 0;
        // They have sessions, so nothing but their not reading ends their connections.
        loop {
            most = most.max(stage.held().memory_kib);
            let ended =
                |stream: &TcpStream| rustix::net::sockopt::socket_error(stream).is_ok_and(|error| error.is_err());
            local.retain(|stream| {
                rustix::net::send(stream, &[0], rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT)
                    != Err(rustix::io::Errno::PIPE)
            });
            afar.retain_mut(|stream| {
                !ended(&stream.sock) && stream.sock.write(&[]).is_ok() && !has_hung_up(&stream.sock)
            });
            if local.is_empty() && afar.is_empty() {
                break;
            }
            assert!(
                begun.elapsed() < SETTLING,
                "{} and {} are still there\n{}",
                local.len(),
                afar.len(),
                stage.world.log()
            );
            thread::sleep(Duration::from_millis(200));
        }
        println!(
            "TABLE clients that do not read: 32 that ask for 8 MiB each and 12 that ask for 64 are closed after {:?}, with at most {most} KiB held",
            begun.elapsed()
        );
    });
}

/// Whether the other side has ended the connection, without reading what it sent before.
fn has_hung_up(stream: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    polled[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}

/// A byte at a time: of a frame's header and body, of a handshake, of HTTP/2's first words, of a message.
#[test]
fn clients_that_write_a_byte_at_a_time_keep_nobody_out() {
    beside_others("clients_that_write_a_byte_at_a_time_keep_nobody_out", |stage, stay| {
        let mut request = Vec::new();
        let seed = v1::SeedRandomRequest { session: 1, seed: vec![7; 1 << 16] };
        let op = Some(v1::request::Op::SeedRandom(seed.clone()));
        frame::encode(1, &v1::Request { op, number: 0 }, &mut request).unwrap();
        let (greeting, hello) = (stage.greeting(), http2::hello(1 << 20));
        let mut writers: Vec<(Box<dyn Write>, Vec<u8>)> = Vec::new();
        for at in 0..16 {
            let local = || Box::new(UnixStream::connect(stage.world.path("hsm.sock")).unwrap());
            writers.push((local(), [&PREFACE[..], &request].concat()));
            let mut in_the_body = local();
            in_the_body.write_all(&[&PREFACE[..], &request[..5000 + at]].concat()).unwrap();
            writers.push((in_the_body, request[5000 + at..].to_vec()));
            writers.push((Box::new(stage.connect()), greeting.clone()));
            writers.push((Box::new(raw_tls(&stage.config, stage.port).unwrap()), hello.clone()));
            let (mut afar, name) = stage.attached_afar(1 << 20);
            let message = http2::message(3, &seed);
            afar.write_all(
                &[http2::call(3, "/craton.hsm.v1.Token/SeedRandom", Some(&name)), message[..9000].to_vec()].concat(),
            )
            .unwrap();
            writers.push((Box::new(afar), message[9000..].to_vec()));
        }
        let begun = Instant::now();
        let pause = if is_long() { Duration::from_secs(1) } else { Duration::from_millis(100) };
        let mut at = 0;
        while begun.elapsed() < stay {
            // Whoever has been sent away says nothing more.
            writers.retain_mut(|(stream, bytes)| bytes.get(at).is_some_and(|byte| stream.write_all(&[*byte]).is_ok()));
            at += 1;
            thread::sleep(pause);
        }
        println!("TABLE clients that write a byte at a time: of 80 are {} still there after {stay:?}", writers.len());
    });
}

/// Sixty-four mebibytes are refused by what they announce, and nothing is kept for them.
#[test]
fn a_message_of_64_mib_is_refused_with_the_limit_and_takes_no_memory() {
    beside_others("a_message_of_64_mib_is_refused_with_the_limit_and_takes_no_memory", |stage, _| {
        const LEN: usize = 64 << 20;
        let before = stage.held();
        let header = [u32::try_from(LEN).unwrap().to_le_bytes(), [0; 4]].concat();
        for _ in 0..4 {
            let mut stream = express(&stage.world);
            stream.write_all(&header).unwrap();
            // It hangs up in the middle of that.
            stream.write_all(&vec![7; LEN]).unwrap_err();
            let Some(v1::reply::Result::Fault(fault)) = receive(&stream).result else { panic!("no fault") };
            assert_eq!(fault.rv, ck::rv::CKR_DATA_LEN_RANGE.0);
            assert!(fault.detail.contains("67108864 bytes is longer than the"), "{}", fault.detail);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut most = 0;
        for _ in 0..4 {
            let refused = runtime.block_on(async {
                let channel = channel(stage.world.folder.path(), stage.port, Some("right"), TLS13).await.unwrap();
                let message = v1::SeedRandomRequest { session: 1, seed: vec![7; LEN] };
                TokenClient::new(channel).seed_random(message).await.unwrap_err()
            });
            assert!(refused.message().contains("too large"), "{refused:?}");
            most = most.max(stage.held().memory_kib);
        }
        println!("TABLE a message of 64 MiB: {} KiB before, {most} KiB at most afterwards", before.memory_kib);
        assert!(most < before.memory_kib + 32 * 1024, "{before:?} became {most} KiB");
    });
}

#[test]
fn ten_thousand_sessions_come_and_go() {
    beside_others("ten_thousand_sessions_come_and_go", |stage, stay| {
        let begun = Instant::now();
        let mut round = 0;
        // Twice at least: together they are more than there may be at once.
        while round < 2 || begun.elapsed() < stay {
            round += 1;
            let clients: Vec<_> = (0..10).map(|_| attached(&stage.world).0).collect();
            let deadline = Instant::now() + SETTLING;
            for stream in &clients {
                for _ in 0..1000 {
                    // Those of the round before may not all have gone yet.
                    while let Err(why) = open_session(stream) {
                        assert!(why == ck::rv::CKR_SESSION_COUNT.0 && Instant::now() < deadline, "{why:#x}");
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            }
            for stream in &clients {
                assert_eq!(open_session(stream).map(|_| ()), Ok(()), "each may have 1,024");
            }
        }
        println!("TABLE sessions: {round} times ten thousand of ten applications in {:?}", begun.elapsed());
    });
}

/// A hundred and sixty connections with as many requests as each may have, none of which comes to its end; then all that they have left is ended.
#[test]
fn ten_thousand_streams_at_once_are_taken_and_go() {
    beside_others("ten_thousand_streams_at_once_are_taken_and_go", |stage, stay| {
        let configs = ["right", "other"].map(|name| tls(stage.world.folder.path(), Some(name), TLS13));
        let mut crowd = Vec::new();
        for index in 0..160 {
            let mut stream = raw_tls(&configs[index % 2], stage.port).expect("the daemon shakes hands");
            stream.sock.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let calls: Vec<u8> =
                (0..64).flat_map(|number| http2::call(2 * number + 1, "/craton.hsm.v1.Token/Exchange", None)).collect();
            stream.write_all(&[http2::hello(1 << 20), calls].concat()).unwrap();
            crowd.push(stream);
        }
        thread::sleep(stay);
        // One of each is answered, whatever became of the others: without a message it is an error.
        let mut answered = 0;
        for stream in &mut crowd {
            stream.write_all(&http2::frame(http2::DATA, http2::END_STREAM, 1, &[])).unwrap();
            loop {
                let (kind, number, _) = http2::next(&mut *stream).expect("an answer");
                assert_ne!((kind, number), (http2::RST_STREAM, 127), "the 64th was refused");
                if kind == http2::HEADERS && number == 1 {
                    answered += 1;
                    break;
                }
            }
        }
        assert_eq!(answered, 160);
    });
}

/// More requests at once than a connection carries: a library lets the others wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_over_one_connection_are_all_answered() {
    let name = "a_thousand_requests_at_once_over_one_connection_are_all_answered";
    let Some(stage) = Stage::open(name) else { return };
    let (token, application, session) = begin_afar(stage.world.folder.path().to_owned(), stage.port).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (mut token, application) = (token.clone(), application.clone());
        asked.spawn(async move {
            let mut request = tonic::Request::new(v1::RandomRequest { session, len: 4096 });
            request.metadata_mut().insert_bin("craton-application-bin", MetadataValue::from_bytes(&application));
            token.random(request).await.expect("served").into_inner().bytes.len()
        });
    }
    let lengths = asked.join_all().await;
    assert!(lengths.len() == 1000 && lengths.iter().all(|len| *len == 4096));
}
