//! What devices say goes to the cloud, and is settled once the cloud confirms it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hub_core::handle::CallError;
use hub_core::message::{Message, MessageId};
use hub_core::session::{Delivery, Lane, Outgoing};
use hub_core::transport::Capabilities;

use super::Twins;
use super::keeper::Command;
use super::name::DeviceId;
use super::owed::Marks;
use super::plan::Plan;
use super::report::{End, MEMBERSHIP_DETAIL, Report, membership_question};
use crate::handle::EdgeHandle;
use crate::link::Link;

type UnderWay<'a> = FuturesUnordered<BoxFuture<'a, (Report, Result<Message, CallError>)>>;

/// Runs until it is dropped.
pub(super) async fn run(twins: &Twins, edge: &EdgeHandle) {
    let mut uplink = Uplink {
        twins,
        edge,
        plan: Plan::new(twins.config.backoff),
        under_way: FuturesUnordered::new(),
        stalled: Vec::new(),
        confirmed: HashMap::new(),
    };
    let mut link = edge.link();
    let mut connected: Option<Instant> = None;
    let mut retry_stalled: Option<Instant> = None;
    loop {
        let up = match &*link.borrow_and_update() {
            Link::Up {
                since, capabilities, ..
            } => Some((*since, *capabilities)),
            Link::Down { .. } => None,
        };
        if let Some((since, capabilities)) = up
            && connected.replace(since) != Some(since)
        {
            retry_stalled = None;
            uplink.connect(capabilities);
        }
        if up.is_none() {
            connected = None;
        }
        for id in twins.owing.take_changed() {
            uplink.plan.changed(id);
        }
        let now = Instant::now();
        uplink.plan.handle_timeout(now);
        if let Some((_, capabilities)) = up
            && retry_stalled.is_none_or(|at| at <= now)
        {
            retry_stalled = None;
            uplink.resume(capabilities);
            uplink.send(capabilities);
        }
        let wake = [uplink.plan.deadline(), retry_stalled]
            .into_iter()
            .flatten()
            .min();
        tokio::select! {
            Some(first) = uplink.under_way.next() => {
                let is_up = link.borrow().is_up();
                if uplink.settle(first, is_up).await {
                    retry_stalled = Some(Instant::now() + FULL_PAUSE);
                }
            }
            _ = link.changed() => {}
            () = twins.owing.woken.notified() => {}
            () = tokio::time::sleep_until(wake.unwrap_or(now).into()), if wake.is_some() => {}
        }
    }
}

struct Uplink<'a> {
    twins: &'a Twins,
    edge: &'a EdgeHandle,
    plan: Plan,
    under_way: UnderWay<'a>,
    /// Those that found no link or no room. They go first, as they are: perhaps the cloud knows them.
    stalled: Vec<Report>,
    /// The properties that a stock cloud has confirmed since it is connected.
    confirmed: HashMap<DeviceId, BTreeSet<String>>,
}

impl<'a> Uplink<'a> {
    fn connect(&mut self, capabilities: Capabilities) {
        self.plan.connected(self.twins.owing.all());
        self.confirmed.clear();
        self.stalled.iter_mut().for_each(Report::reconnected);
        if capabilities.resume {
            // The Devices themselves say which are here.
            return;
        }
        // Asked once a connection and followed up by nobody: KubeEdge's cloud does not answer, and its edges then ask for ever (L9).
        let mut message = membership_question(self.twins.node().as_str(), self.twins.clock.unix_ms());
        message.header.id = MessageId::random();
        let question = Outgoing {
            key: MEMBERSHIP_DETAIL.into(),
            version: None,
            lane: Lane::Own,
            delivery: Delivery::Once(ASKED_WITHIN),
            message,
            previous: None,
        };
        if let Err(error) = self.edge.session().push(question) {
            tracing::debug!(%error, "the cloud is not asked for the devices of this node");
        }
    }

    /// Sends again what found no link.
    fn resume(&mut self, capabilities: Capabilities) {
        for report in std::mem::take(&mut self.stalled) {
            if report.batched && !capabilities.twins {
                // This is another cloud. It gets the same in another form.
                for device in &report.devices {
                    self.plan.changed(device.id.clone());
                    self.plan.done(&device.id);
                }
            } else {
                self.start(report);
            }
        }
    }

    fn send(&mut self, capabilities: Capabilities) {
        let config = &self.twins.config;
        while self.under_way.len() < config.reports_max {
            let max = if capabilities.twins {
                config.batch_max.max(1)
            } else {
                1
            };
            let ids = self.plan.next(max);
            if ids.is_empty() {
                return;
            }
            let mut owed = Vec::with_capacity(ids.len());
            for id in ids {
                let device = self.twins.get(&id);
                let said = match capabilities.twins {
                    true => device.and_then(|device| device.owed()),
                    false => device.and_then(|device| device.owed_whole()),
                };
                match said {
                    Some(said) => owed.push(said),
                    None => self.plan.done(&id),
                }
            }
            let now_ms = self.twins.clock.unix_ms();
            if capabilities.twins {
                if !owed.is_empty() {
                    self.start(Report::batch(owed, now_ms));
                }
            } else {
                for device in owed {
                    let known = self.confirmed.get(&device.id);
                    let is_known = |name| known.is_some_and(|known| known.contains(name));
                    let is_first = !device.twin.keys().all(is_known);
                    self.start(Report::single(device, is_first, now_ms));
                }
            }
        }
    }

    fn start(&mut self, report: Report) {
        let session = self.edge.session();
        let within = self.twins.config.confirm_within;
        self.under_way.push(Box::pin(async move {
            let mut report = report;
            loop {
                let Some(message) = report.message().cloned() else {
                    // Cannot be: a report without messages is not made.
                    return (report, Err(CallError::Over));
                };
                let answer = session.call(message, Lane::Own, within).await;
                let told = report
                    .devices
                    .iter()
                    .all(|device| report.end(&device.id, &answer) == End::Told);
                if !told || !report.goes_on() {
                    return (report, answer);
                }
            }
        }));
    }

    /// Takes the answers that are there, in one go for the disk. Whether there was no room for a report.
    async fn settle(&mut self, first: (Report, Result<Message, CallError>), is_up: bool) -> bool {
        let mut settled = Vec::new();
        let mut is_full = self.take(first, is_up, &mut settled);
        while let Some(Some(next)) = self.under_way.next().now_or_never() {
            is_full |= self.take(next, is_up, &mut settled);
        }
        if settled.is_empty() {
            return is_full;
        }
        let ids: Vec<_> = settled.iter().map(|(id, _)| id.clone()).collect();
        // Where the disk refuses, they are told again; the cloud finds nothing new in them.
        let _ = self.twins.ask(|reply| Command::Settle(settled, reply)).await;
        for id in ids {
            self.plan.done(&id);
        }
        is_full
    }

    /// Takes an answer, or its absence. Whether there was no room for the report.
    fn take(
        &mut self,
        (mut report, answer): (Report, Result<Message, CallError>),
        is_up: bool,
        settled: &mut Vec<(DeviceId, Marks)>,
    ) -> bool {
        match answer {
            Err(CallError::Over) => return false,
            Err(CallError::NotSent) => {
                self.stalled.push(report);
                return is_up;
            }
            Err(CallError::TimedOut) if !is_up => {
                self.stalled.push(report);
                return false;
            }
            Err(CallError::TimedOut) => {
                report.attempts += 1;
                if report.attempts < self.twins.config.attempts_max {
                    self.start(report);
                } else {
                    for device in &report.devices {
                        self.twins.metrics.reported("unanswered");
                        tracing::warn!(
                            device = %device.id,
                            "the cloud does not confirm what the device says; it hears of its next change"
                        );
                        self.plan.silent(&device.id);
                    }
                }
                return false;
            }
            Ok(_) => {}
        }
        for device in &report.devices {
            match report.end(&device.id, &answer) {
                End::Told => {
                    self.twins.metrics.reported("told");
                    settled.push((device.id.clone(), device.marks.clone()));
                    if !report.batched {
                        if self.confirmed.len() >= self.twins.config.devices_max {
                            // Forgotten, it costs a message a device.
                            self.confirmed.clear();
                        }
                        let known = self.confirmed.entry(device.id.clone()).or_default();
                        known.extend(device.twin.keys().cloned());
                    }
                }
                End::Refused(reason) => {
                    self.twins.metrics.reported("refused");
                    tracing::warn!(device = %device.id, reason, "the cloud refuses what the device says");
                    settled.push((device.id.clone(), device.marks.clone()));
                }
                End::Failed(reason) => {
                    self.twins.metrics.reported("failed");
                    tracing::debug!(device = %device.id, reason, "the cloud cannot take what the device says now");
                    self.plan.failed(&device.id, Instant::now(), random());
                }
                End::Open => {}
            }
        }
        false
    }
}

fn random() -> u64 {
    let id = MessageId::random();
    id.as_uuid()
        .map_or(0, |bytes| u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
}

/// When to look again whether the session has room.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// The question for all devices is of no use on another connection.
const ASKED_WITHIN: Duration = Duration::from_secs(60);
