//! What the two ends do to one another while a world lasts.

use std::time::Duration;

use bytes::Bytes;

use super::wire::Side;
use super::{Stored, World, message};
use crate::codec::content_hash;
use crate::message::Operation;
use crate::session::{Delivery, Lane, Outgoing};

impl World {
    /// One thing happens.
    pub(super) fn act(&mut self) {
        if self.dice.percent(self.troubles) {
            self.befall();
            return;
        }
        match self.dice.below(100) {
            0..50 => self.change(),
            50..55 => (0..20).for_each(|_| self.change()),
            55..62 => self.barrier(),
            62..72 => self.call(Side::Edge),
            72..76 => self.call(Side::Cloud),
            76..90 => self.report(),
            _ => self.passing(),
        }
        self.pump();
    }

    pub(super) fn change(&mut self) {
        let key = format!("o{}", self.dice.below(12));
        self.counter += 1;
        let version = self.counter;
        let content = Bytes::from(format!("{{\"v\":{version}}}"));
        let old = self.cluster.insert(key.clone(), Stored { version, content });
        self.push(&key, old.map(|old| old.content));
    }

    pub(super) fn push(&mut self, key: &str, previous: Option<Bytes>) {
        let Some(newest) = self.cluster.get(key).cloned() else {
            return;
        };
        let outgoing = Outgoing {
            key: key.into(),
            version: Some(newest.version),
            lane: [Lane::Own, Lane::Rest, Lane::Bulk][content_hash(key.as_bytes()) as usize % 3],
            delivery: Delivery::Acked,
            message: message(
                "edgecontroller",
                Operation::Update,
                "configmap",
                key,
                newest.content,
            ),
            previous,
        };
        if self.send(Side::Cloud, outgoing) {
            self.queued.insert(key.to_owned(), newest.version);
            self.backlog.remove(key);
        } else {
            self.tally.full += 1;
            self.backlog.insert(key.to_owned());
        }
    }

    pub(super) fn retry_backlog(&mut self) {
        if let Some(key) = self.backlog.first().cloned() {
            self.push(&key, None);
        }
    }

    pub(super) fn barrier(&mut self) {
        self.counter += 1;
        let number = self.counter;
        let outgoing = Outgoing {
            key: "barrier".into(),
            version: None,
            lane: Lane::Rest,
            delivery: Delivery::Barrier,
            message: message(
                "edgecontroller",
                Operation::Update,
                "configmap",
                &format!("barrier-{number}"),
                Bytes::from_static(b"{}"),
            ),
            previous: None,
        };
        if self.send(Side::Cloud, outgoing) {
            self.barriers.insert(number, self.queued.clone());
        }
    }

    /// A message that is not wanted for ever.
    pub(super) fn passing(&mut self) {
        self.counter += 1;
        let within = self.dice.time(Duration::from_secs(20));
        let delivery = if self.dice.percent(50) {
            Delivery::Once(within)
        } else {
            Delivery::AckedWithin(within)
        };
        let name = format!("passing-{}", self.counter);
        let side = if self.dice.percent(70) {
            Side::Cloud
        } else {
            Side::Edge
        };
        let outgoing = Outgoing {
            key: name.as_str().into(),
            version: None,
            lane: if self.dice.percent(50) {
                Lane::Urgent
            } else {
                Lane::Bulk
            },
            delivery,
            message: message(
                "edgecontroller",
                Operation::Update,
                "configmap",
                &name,
                Bytes::from_static(b"{}"),
            ),
            previous: None,
        };
        self.send(side, outgoing);
    }

    pub(super) fn report(&mut self) {
        if !self.capabilities.ack {
            return;
        }
        self.counter += 1;
        let subject = format!("report-{}", self.dice.below(4));
        if self.send_report(&subject, self.counter) {
            self.reports.insert(subject, self.counter);
        }
    }

    pub(super) fn send_report(&mut self, subject: &str, number: u64) -> bool {
        let outgoing = Outgoing {
            key: subject.into(),
            version: Some(number),
            lane: Lane::Rest,
            delivery: Delivery::Acked,
            message: message(
                "edged",
                Operation::Update,
                "podstatus",
                subject,
                Bytes::from(number.to_string()),
            ),
            previous: None,
        };
        self.send(Side::Edge, outgoing)
    }

    pub(super) fn call(&mut self, side: Side) {
        self.counter += 1;
        // The one kind of answer is acknowledged, the other is not.
        let (source, kind) = if self.dice.percent(50) {
            ("edged", "configmap")
        } else {
            ("edgecontroller", "lease")
        };
        let question = message(
            source,
            Operation::Query,
            kind,
            &format!("call-{}", self.counter),
            Bytes::from(self.counter.to_string()),
        );
        let deadline = self.now + self.dice.time(Duration::from_secs(30));
        let (now, number) = (self.now, self.counter);
        let end = self.end_mut(side);
        let call = end.session.call(question, Lane::Urgent, deadline, now);
        end.calls.insert(call, (deadline, number));
    }
}
