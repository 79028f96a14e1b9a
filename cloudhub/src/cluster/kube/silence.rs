//! For how long an API server has answered nothing.

use std::time::{Duration, Instant};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<Instant>,
    /// When somebody was answered last.
    answered: Option<Instant>,
}

impl Silence {
    /// An answer came. Returns how long there was none, if it was missed.
    pub(super) fn end(&mut self, now: Instant) -> Option<Duration> {
        self.answered = Some(now);
        self.since
            .take()
            .map(|since| now.saturating_duration_since(since))
    }

    /// What was asked then has no answer. Where others were answered meanwhile, there was no silence before that.
    pub(super) fn begin(&mut self, asked: Instant) {
        let asked = self.answered.map_or(asked, |answered| answered.max(asked));
        self.since.get_or_insert(asked);
    }

    /// How long there has been no answer.
    pub(super) fn lasts(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_with_the_first_question_that_is_not_answered() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(silence.lasts(at(0)), None);
        assert_eq!(silence.end(at(0)), None);
        silence.begin(at(5));
        silence.begin(at(7));
        assert_eq!(silence.lasts(at(9)), Some(Duration::from_secs(4)));
        assert_eq!(silence.end(at(10)), Some(Duration::from_secs(5)));
        assert_eq!(silence.lasts(at(11)), None);
    }

    #[test]
    fn one_slow_answer_among_others_is_no_silence() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(silence.end(at(29)), None);
        // It was asked long ago, and is given up now.
        silence.begin(at(0));
        assert_eq!(silence.lasts(at(30)), Some(Duration::from_secs(1)));
        assert_eq!(silence.end(at(30)), Some(Duration::from_secs(1)));
    }
}
