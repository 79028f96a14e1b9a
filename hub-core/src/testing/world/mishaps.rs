//! What befalls a world: cuts, stalls, restarts; and how its edge comes back.

use std::time::Duration;

use super::World;
use super::end::End;
use super::wire::Side;
use crate::session::Session;

impl World {
    pub(super) fn befall(&mut self) {
        match self.dice.below(20) {
            0..6 => self.cut(),
            6 => {
                self.cut();
                self.dial_at = self.now + self.dice.time(Duration::from_secs(150));
            }
            7..11 => {
                let both = self.dice.percent(50);
                let side = self.dice.below(2) as usize;
                self.wire.swallows = [both || side == 0, both || side == 1];
            }
            11..14 => {
                let until = self.now + self.dice.time(Duration::from_secs(6));
                let side = if self.dice.percent(50) {
                    Side::Cloud
                } else {
                    Side::Edge
                };
                self.end_mut(side).stalled_until = until;
            }
            14 => self.restart(Side::Edge),
            15 | 16 => self.restart(Side::Cloud),
            17 => self.lose_end(Side::Cloud),
            _ => self.lose_end(Side::Edge),
        }
        self.pump();
    }

    pub(super) fn cut(&mut self) {
        self.wire.cut();
        self.lose_end(Side::Cloud);
        self.lose_end(Side::Edge);
    }

    /// One end notices that its connection is gone.
    pub(super) fn lose_end(&mut self, side: Side) {
        let now = self.now;
        let end = self.end_mut(side);
        if end.link.take().is_some() {
            end.session.detach(now);
            if side == Side::Edge {
                self.dial_at = self.dial_at.max(now + self.dice.time(self.redial_max));
            }
        }
    }

    pub(super) fn restart(&mut self, side: Side) {
        self.tally.restarts += 1;
        self.cut();
        let session = Session::new(self.configs[side as usize].clone(), self.dice.number());
        *self.end_mut(side) = End::new(session, self.now);
        match side {
            Side::Edge => {
                // Its journal has what it must still report.
                for (subject, number) in self.reports.clone() {
                    if !self.send_report(&subject, number) {
                        self.reports.remove(&subject);
                        self.reported.remove(&subject);
                    }
                }
            }
            Side::Cloud => {
                self.queued.clear();
                self.barriers.clear();
                self.backlog = self.cluster.keys().cloned().collect();
                self.catch_up();
            }
        }
    }

    /// A new cloud process compares the cluster with what the edge says it holds, or knows nothing of it.
    pub(super) fn catch_up(&mut self) {
        if self.capabilities.resume {
            for (key, held) in &self.disk {
                let session = &mut self.ends[Side::Cloud as usize].session;
                session.assume_held(key, Some(held.version), &held.content);
                if self.cluster.get(key) == Some(held) {
                    self.backlog.remove(key);
                }
            }
        }
        for key in self.backlog.clone() {
            let previous = self.disk.get(&key).map(|held| held.content.clone());
            self.push(&key, previous);
        }
    }

    pub(super) fn connect(&mut self) {
        self.connections += 1;
        self.tally.connections += 1;
        self.wire.cut();
        let wall = 1_700_000_000_000;
        for end in &mut self.ends {
            // The edge is without one here; the cloud's old connection may not have been missed yet.
            end.link = Some(self.connections);
            end.session.attach(self.capabilities, wall, self.now);
        }
    }
}
