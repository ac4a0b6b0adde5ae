//! Hostile HTTP/2 (RFC 9113) at the daemon's TCP listener: whatever a client sends there, the daemon lives, its memory stays within
//! bounds, others are served meanwhile and afterwards, and when it is over the processor is left alone.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use acceptance::port::free_port;
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

/// How long a connection is read for an answer; on a busy machine the daemon needs a while.
const PATIENCE: Duration = Duration::from_secs(180);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal header field without indexing (RFC 7541 section 6.2.2).
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    [&[0], &int(name.len())[..], name.as_bytes(), &int(value.len()), value].concat()
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn int(value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).expect("below 127")];
    }
    let (mut rest, mut bytes) = (value - 127, vec![127]);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).expect("a byte"));
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("below 128"));
    bytes
}

/// The header fields of a gRPC request for a method.
fn request(path: &str) -> Vec<u8> {
    [
        field(":method", b"POST"),
        field(":scheme", b"http"),
        field(":path", path.as_bytes()),
        field(":authority", b"localhost"),
        field("content-type", b"application/grpc"),
        field("te", b"trailers"),
    ]
    .concat()
}

const EXCHANGE: &str = "/craton.hsm.v1.Token/Exchange";

fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Headers of stream `stream`, which goes on.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request(EXCHANGE))
}

/// A gRPC message of a length that it says, which need not be true.
fn message(says: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &says.to_be_bytes()[..], body].concat()
}

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(16_384).flat_map(|chunk| frame(DATA, 0, stream, chunk)).collect()
}

fn many(count: u32, piece: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(piece).collect()
}

/// Odd stream numbers, as a client's are.
fn odd(index: u32) -> u32 {
    2 * index + 1
}

/// What is sent, by what it tries.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let noise: Vec<u8> = (0..1u32 << 16).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let ask = |stream, bytes: &[u8]| [open(stream), data(stream, bytes)].concat();
    let after = |bytes: Vec<u8>| [hello(), bytes].concat();
    let setting = |number: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
    };
    vec![
        ("nothing", Vec::new()),
        ("noise", noise.clone()),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("half a preface", PREFACE[..10].to_vec()),
        ("a TLS greeting", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise[..500]].concat()),
        ("noise after the preface", [PREFACE, &noise].concat()),
        ("noise as header fields", after(frame(HEADERS, END_HEADERS, 1, &noise[..8000]))),
        ("a frame longer than allowed", after([&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &noise].concat())),
        ("half a frame", after(frame(HEADERS, END_HEADERS, 1, &request(EXCHANGE))[..30].to_vec())),
        (
            "a header of a megabyte",
            after(
                [
                    frame(HEADERS, 0, 1, &field("x", &[b'a'; 10_000])),
                    many(100, |_| frame(CONTINUATION, 0, 1, &field("x", &[b'a'; 10_000]))),
                ]
                .concat(),
            ),
        ),
        (
            "endless continuations",
            after(
                [frame(HEADERS, 0, 1, &request(EXCHANGE)), many(20_000, |_| frame(CONTINUATION, 0, 1, &[]))].concat(),
            ),
        ),
        (
            "a header field that grows from an index",
            after(
                [
                    frame(HEADERS, END_HEADERS, 1, &[&[0x40][..], &int(1), b"x", &int(4000), &[b'a'; 4000]].concat()),
                    frame(HEADERS, END_HEADERS, 3, &[0xbe; 16_000]),
                ]
                .concat(),
            ),
        ),
        ("an index that is not", after(frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f]))),
        ("a table size that is not allowed", after(frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0xff, 0x7f]))),
        ("a storm of settings", after(many(20_000, |_| setting(3, 100)))),
        ("a storm of pings", after(many(20_000, |_| frame(PING, 0, 0, &[7; 8])))),
        ("a storm of acknowledgements", after(many(20_000, |_| frame(SETTINGS, ACK, 0, &[])))),
        ("a storm of priorities", after(many(20_000, |at| frame(PRIORITY, 0, odd(at), &[0, 0, 0, 0, 1])))),
        (
            "streams opened and reset",
            after(many(20_000, |at| [open(odd(at)), frame(RST_STREAM, 0, odd(at), &[0, 0, 0, 8])].concat())),
        ),
        ("more streams than allowed", after(many(4_000, |at| open(odd(at))))),
        ("an initial window beyond the largest", after(setting(4, 1 << 31))),
        (
            "a window of nothing",
            after(
                [
                    setting(4, 0),
                    many(200, |at| [open(odd(at)), frame(DATA, END_STREAM, odd(at), &message(0, &[]))].concat()),
                ]
                .concat(),
            ),
        ),
        (
            "a window that overflows",
            after(
                [
                    open(1),
                    many(3, |_| frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])),
                    many(3, |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
                ]
                .concat(),
            ),
        ),
        ("a window update of nothing", after(frame(WINDOW_UPDATE, 0, 0, &[0; 4]))),
        (
            "windows that grow by one",
            after([open(1), many(20_000, |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]))].concat()),
        ),
        ("a storm of empty data", after([open(1), many(20_000, |_| frame(DATA, 0, 1, &[]))].concat())),
        ("more data than the window", after(ask(1, &vec![0; 3 << 20]))),
        ("a message that says it is huge", after(ask(1, &message(u32::MAX, &[0; 64])))),
        ("a message longer than allowed", after(ask(1, &message(5 << 20, &vec![0; 1 << 19])))),
        ("a compressed message", after(ask(1, &[&[1][..], &message(64, &[0x1f; 64])[1..]].concat()))),
        ("noise as a message", after([open(1), frame(DATA, END_STREAM, 1, &message(8000, &noise[..8000]))].concat())),
        (
            "a method that is not",
            after(frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("/craton.hsm.v1.Admin/Nothing"))),
        ),
        (
            "a path of ten thousand bytes",
            after(frame(HEADERS, END_HEADERS | END_STREAM, 1, &request(&"/x".repeat(5_000)))),
        ),
        ("no method, no path", after(frame(HEADERS, END_HEADERS | END_STREAM, 1, &field("x", b"y")))),
        ("data on a stream that is not", after(frame(DATA, 0, 7, b"data"))),
        ("a stream of the server's", after(open(2))),
        ("streams that go backwards", after([open(9), open(3)].concat())),
        ("a promise", after(frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]))),
        ("a goodbye that is none", after([frame(GOAWAY, 0, 0, &[0; 8]), open(1)].concat())),
        ("kinds of frames that are not", after(many(2_000, |at| frame(0xee, 0xff, at, &[0; 16])))),
        ("padding longer than the frame", after([open(1), frame(DATA, 8, 1, &[255, 1, 2])].concat())),
    ]
}

/// Sends what the daemon still takes, without reading a byte of its answer.
fn send(port: u16, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the daemon accepts");
    stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket");
    // A daemon that has hung up, or that takes no more from one who does not listen, is what is wanted.
    stream.write_all(bytes).unwrap_or_default();
    stream
}

/// Whether a client that keeps to the protocol is answered.
fn is_served(port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the daemon accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let health = frame(HEADERS, END_HEADERS, 1, &request("/grpc.health.v1.Health/Check"));
    let asked = [hello(), health, frame(DATA, END_STREAM, 1, &message(0, &[]))].concat();
    stream.write_all(&asked).expect("the daemon reads");
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let count = stream.read(&mut buffer).unwrap_or(0);
        seen.extend_from_slice(&buffer[..count]);
        // The reply of a health check that says "serving": one field, the number one.
        if seen.windows(7).any(|bytes| bytes == [0, 0, 0, 0, 2, 8, 1]) {
            return true;
        }
        if count == 0 {
            return false;
        }
    }
    false
}

/// Resident memory in KiB, and open descriptors.
fn footprint(pid: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    let resident = line.trim().trim_end_matches(" kB").parse().expect("a number");
    (resident, fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon lives").count())
}

/// Processor time that it has used, in hundredths of a second (proc_pid_stat(5): utime and stime).
fn processor_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the daemon lives");
    let (_, fields) = stat.rsplit_once(") ").expect("the name in parentheses");
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[test]
fn hostile_clients_neither_end_the_daemon_nor_keep_others_waiting() {
    let mut world = World::unstarted_for(Carrier::Express);
    let port = free_port();
    world.configure(&format!("bind = \"127.0.0.1:{port}\"\nallow_insecure = true"));
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::entered(&world);
    assert!(is_served(port), "before");
    let (resident, descriptors) = footprint(world.daemon().pid());
    let mut kept = Vec::new();
    for (what, bytes) in attacks() {
        let stream = send(port, &bytes);
        worker.ok("state");
        assert!(is_served(port), "during: {what}\n{}", world.daemon().log());
        // Some stay on the line and say nothing more.
        if kept.len() < 64 {
            kept.push(stream);
        }
    }
    kept.extend((0..64).map(|_| send(port, &PREFACE[..3])));
    worker.ok("state");
    assert!(is_served(port), "beside those who stay");
    let (grown, _) = footprint(world.daemon().pid());
    println!("TABLE hostile HTTP/2: {resident} KiB became {grown} KiB beside those who stay");
    assert!(grown <= resident + 32 * 1024, "{resident} KiB became {grown} KiB");
    for stream in kept.drain(..) {
        // The daemon may have hung up first.
        stream.shutdown(Shutdown::Both).unwrap_or_default();
    }
    let deadline = Instant::now() + PATIENCE;
    while footprint(world.daemon().pid()).1 > descriptors + 2 {
        assert!(Instant::now() < deadline, "descriptors are left: {:?}", footprint(world.daemon().pid()));
        std::thread::sleep(Duration::from_millis(20));
    }
    // What a second of waiting costs, once what was sent has been dealt with.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = processor_ticks(world.daemon().pid());
        std::thread::sleep(Duration::from_secs(1));
        let used = processor_ticks(world.daemon().pid()) - before;
        if used <= 10 {
            break;
        }
        assert!(Instant::now() < deadline, "it is still at work: {used} ticks in a second");
    }
    world.stop_daemon();
}
