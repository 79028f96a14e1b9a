//! Keeps one mapper up with its devices: compares what it should have with what it took, and tells it the difference, until there is none.
//!
//! Nothing is queued for a mapper. One that was away is told how things are now, and one that forgot tells so by registering.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::select;
use hub_core::node::NodeId;
use hub_core::object::Revision;
use hub_core::store::{ObjectStore, StoreError};
use tokio::time::{sleep, timeout};

use super::catalogue::{Catalogue, devices, models};
use super::client::{Client, TellError};
use super::config::DmiConfig;
use super::plan::{Key, Step, Told, begun, plan};
use super::registrations::{Mapper, Registrations};
use crate::hub::random;

/// One mapper.
pub(crate) struct Worker {
    mapper: Mapper,
    config: Arc<DmiConfig>,
    store: Arc<dyn ObjectStore>,
    catalogue: Catalogue,
    registrations: Registrations,
    client: Client,
    told: Told,
    /// What the mapper said no to, in which state, and how often.
    refused: HashMap<Key, (Option<u64>, u32)>,
}

/// How a round ended.
#[derive(Debug)]
enum Round {
    /// The mapper has what it should have, but for what it will not take.
    Settled,
    /// It said no to something; how often at most.
    Refused(u32),
    /// It is not there.
    Silent(String),
    /// The node's disk does not take what was told.
    Unkept(StoreError),
}

impl Worker {
    pub(crate) fn new(
        mapper: Mapper,
        node: NodeId,
        config: Arc<DmiConfig>,
        store: Arc<dyn ObjectStore>,
    ) -> Self {
        let registrations = Registrations::new(store.clone());
        Self {
            catalogue: Catalogue::new(store.clone(), node, mapper.protocol.clone()),
            client: Client::new(Path::new(&mapper.address), config.call_timeout),
            told: registrations.told(&mapper.protocol),
            refused: HashMap::new(),
            registrations,
            mapper,
            config,
            store,
        }
    }

    /// Goes on until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let seen = self.store.revision();
            let round = self.round().await;
            let pause = match round {
                Round::Settled => {
                    failures = 0;
                    None
                }
                Round::Refused(times) => {
                    failures = 0;
                    Some(times)
                }
                Round::Silent(why) => {
                    failures += 1;
                    self.log_silence(failures, &why);
                    Some(failures)
                }
                Round::Unkept(error) => {
                    failures += 1;
                    tracing::warn!(mapper = self.mapper.name, %error, "what a mapper took could not be kept");
                    Some(failures)
                }
            };
            match pause.filter(|times| *times < self.config.attempts_max) {
                Some(times) => {
                    let pause = self.config.backoff.pause(times - 1, random());
                    if failures == 0 {
                        // A change is told at once to a mapper that is there.
                        let _ = timeout(pause, self.changed(seen)).await;
                    } else {
                        sleep(pause).await;
                    }
                }
                None => {
                    self.changed(seen).await;
                    failures = 0;
                }
            }
        }
    }

    /// Tells the mapper once all that it lacks.
    async fn round(&mut self) -> Round {
        let wanted = self.catalogue.wanted();
        self.refused
            .retain(|key, (hash, _)| wanted.get(key).copied() == *hash);
        let stages = plan(&wanted, &self.told);
        // If this node stops between a call and the note of it, or the answer is lost, the mapper still is told what comes after.
        let begun = begun(&stages).into_iter().map(|(key, hash)| (key, Some(hash)));
        if let Err(error) = self.note(begun.collect()).await {
            return Round::Unkept(error);
        }
        for stage in stages {
            let given_up = |key: &Key| {
                self.refused
                    .get(key)
                    .is_some_and(|(_, times)| *times >= self.config.attempts_max)
            };
            let stage: Vec<_> = stage.into_iter().filter(|(key, _)| !given_up(key)).collect();
            for steps in stage.chunks(NOTED_AT_ONCE) {
                if let Some(end) = self.tell(steps).await {
                    return end;
                }
            }
        }
        let tries = self.refused.values().map(|(_, times)| *times);
        match tries.filter(|times| *times < self.config.attempts_max).max() {
            Some(times) => Round::Refused(times),
            None => Round::Settled,
        }
    }

    /// Takes some steps of a stage, and notes what came of them. Some where the round ends with it.
    async fn tell(&mut self, steps: &[(Key, Step)]) -> Option<Round> {
        let calls = steps.iter().filter_map(|(key, step)| {
            let client = self.client.clone();
            let thing = match step {
                Step::Remove => None,
                // Gone meanwhile: the next round says so.
                _ => Some(self.catalogue.thing(key)?),
            };
            let hash = thing.as_ref().map(super::catalogue::Thing::hash);
            Some(async move {
                let told = match thing {
                    Some(thing) => client.tell(*step, thing).await,
                    None => client.remove(key).await,
                };
                (key.clone(), hash, told)
            })
        });
        let calls: Vec<_> = calls.collect();
        let mut answers = futures::stream::iter(calls).buffer_unordered(self.config.calls_at_once.max(1));
        let (mut news, mut end) = (Vec::new(), None);
        while let Some((key, hash, told)) = answers.next().await {
            self.config.metrics.told(match &told {
                Ok(()) => "taken",
                Err(TellError::Silent(_)) => "silent",
                Err(TellError::Refused(_)) => "refused",
            });
            match told {
                Ok(()) => {
                    self.refused.remove(&key);
                    news.push((key, hash.map(Some)));
                }
                Err(TellError::Silent(why)) => end = Some(Round::Silent(why)),
                // It has no such thing.
                Err(TellError::Refused(why)) if hash.is_none() => {
                    tracing::debug!(
                        mapper = self.mapper.name,
                        ?key,
                        why,
                        "a mapper does not forget what it may not have"
                    );
                    news.push((key, None));
                }
                Err(TellError::Refused(why)) => self.refuse(key, hash, &why),
            }
        }
        drop(answers);
        match self.note(news).await {
            Ok(()) => end,
            Err(error) => Some(Round::Unkept(error)),
        }
    }

    fn refuse(&mut self, key: Key, hash: Option<u64>, why: &str) {
        let (mapper, kind, times) = (
            &self.mapper.name,
            key.kind,
            self.refused.get(&key).map_or(0, |(_, times)| *times) + 1,
        );
        let name = format!("{}/{}", key.namespace, key.name);
        match times {
            1 => tracing::warn!(
                mapper,
                ?kind,
                name,
                why,
                "a mapper refuses what it is told of; it is told again"
            ),
            times if times == self.config.attempts_max => {
                tracing::warn!(
                    mapper,
                    ?kind,
                    name,
                    why,
                    times,
                    "a mapper goes on to refuse; it is told when this changes"
                );
            }
            _ => {}
        }
        self.refused.insert(key, (hash, times));
    }

    async fn note(&mut self, news: Vec<(Key, Option<Option<u64>>)>) -> Result<(), StoreError> {
        self.registrations.note(&self.mapper.protocol, &news).await?;
        for (key, hash) in news {
            match hash {
                Some(hash) => self.told.insert(key, hash),
                None => self.told.remove(&key),
            };
        }
        Ok(())
    }

    /// Waits for a change of devices or models after a revision.
    async fn changed(&self, seen: Revision) {
        let (Ok(mut devices), Ok(mut models)) = (
            self.store.watch(&devices(), seen),
            self.store.watch(&models(), seen),
        ) else {
            return;
        };
        let devices = std::pin::pin!(devices.next());
        let models = std::pin::pin!(models.next());
        select(devices, models).await;
    }

    fn log_silence(&self, failures: u32, why: &str) {
        let (mapper, address) = (&self.mapper.name, &self.mapper.address);
        if failures == self.config.attempts_max {
            tracing::warn!(
                mapper,
                address,
                why,
                "a mapper is away; it is told what it missed when it registers"
            );
        } else {
            tracing::debug!(mapper, address, why, failures, "a mapper does not answer yet");
        }
    }
}

/// Steps whose outcomes share a write to the disk.
const NOTED_AT_ONCE: usize = 64;
