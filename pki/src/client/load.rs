//! How many enrolments a second does the server give, with a full mutual TLS handshake each? Some devices renew in a loop, each with
//! the certificate of the turn before.

use super::enrolment::{asked, connection};
use super::http::Service;
use super::key::DeviceKey;
use super::{ClientError, request};
use crate::x509::algorithm::KeySpec;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};
use x509_cert::name::Name;

/// A measurement.
#[derive(clap::Args)]
pub(super) struct LoadArgs {
    /// The EST service.
    #[arg(long)]
    url: String,
    /// PEM of the certificates that the server is verified with.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// A file of bootstrap credentials, one USER:PASSWORD a line: as many devices renew at once.
    #[arg(long, value_name = "FILE")]
    credentials: PathBuf,
    /// How long to measure.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Kind of key.
    #[arg(long, default_value = "ec:P-256")]
    key: String,
}

/// Runs the measurement and gives its sentence.
pub(super) fn run(args: &LoadArgs) -> Result<String, ClientError> {
    let spec: KeySpec = args.key.parse().map_err(ClientError::Arguments)?;
    let service = Service::parse(&args.url)?;
    let text = std::fs::read_to_string(&args.credentials).map_err(|fault| ClientError::File(fault.to_string()))?;
    let devices: Vec<Device> = text
        .lines()
        .filter(|line| !line.is_empty())
        .enumerate()
        .map(|(index, credential)| Device::enrolled(&service, &args.ca, spec, index, credential))
        .collect::<Result<_, _>>()?;
    let (count, end) = (devices.len(), Instant::now() + Duration::from_secs(args.seconds));
    let begun = Instant::now();
    let mut times = std::thread::scope(|scope| {
        let running: Vec<_> =
            devices.into_iter().map(|device| scope.spawn(|| device.renew_until(&service, &args.ca, end))).collect();
        let mut times = Vec::new();
        for turn in running {
            let turn = turn.join().map_err(|_| ClientError::Answer("a device ended by a panic".to_owned()))?;
            times.extend(turn?);
        }
        Ok::<_, ClientError>(times)
    })?;
    times.sort_unstable();
    let seconds = begun.elapsed().as_secs_f64();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    let rate = times.iter().fold(0.0, |sum, _| sum + 1.0) / seconds;
    Ok(format!(
        "{} renewals of {count} devices ({spec}) in {seconds:.1} s: {rate:.0} a second; half within {:.1} ms, 99 percent within {:.1} ms",
        times.len(),
        at(50),
        at(99)
    ))
}

struct Device {
    key: DeviceKey,
    name: Name,
    certificate: Vec<u8>,
}

impl Device {
    fn enrolled(
        service: &Service,
        ca: &Path,
        spec: KeySpec,
        index: usize,
        credential: &str,
    ) -> Result<Self, ClientError> {
        let key = DeviceKey::generate(spec)?;
        let subject = format!("CN=load-{}-{index}", std::process::id());
        let name = Name::from_str(&subject).map_err(|fault| ClientError::Arguments(fault.to_string()))?;
        let body = request::request(&key, name.clone(), &[], None)?;
        let pair = data_encoding::BASE64.encode(credential.as_bytes());
        let fields = format!("Authorization: Basic {pair}\r\n");
        let certificate = asked(service, connection(ca, None)?, "simpleenroll", &fields, &key, &body)?;
        Ok(Self { key, name, certificate })
    }

    fn renew_until(mut self, service: &Service, ca: &Path, end: Instant) -> Result<Vec<Duration>, ClientError> {
        let mut times = Vec::new();
        while Instant::now() < end {
            let begun = Instant::now();
            let body = request::request(&self.key, self.name.clone(), &[], None)?;
            let holder = self.key.certified(vec![self.certificate.clone()])?;
            let tls = connection(ca, Some(holder))?;
            self.certificate = asked(service, tls, "simplereenroll", "", &self.key, &body)?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }
}
