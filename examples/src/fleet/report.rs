//! Figures, as a table for people and as JSON for programs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// What a run measured, in the order it was measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<(String, f64, &'static str)>,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.rows.push((name.into(), value, unit));
    }

    /// Adds p50, p99, p99.9 and the longest of some durations.
    pub fn add_latency(&mut self, name: &str, latencies: &[Duration]) {
        for (label, value) in percentiles(latencies) {
            self.add(format!("{name}, {label}"), value.as_secs_f64() * 1e3, "ms");
        }
    }

    /// A table.
    pub fn table(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(name, ..)| name.chars().count())
            .max()
            .unwrap_or(0);
        self.rows
            .iter()
            .map(|(name, value, unit)| {
                let digits = if value.abs() >= 100.0 {
                    0
                } else if value.abs() >= 1.0 {
                    1
                } else {
                    3
                };
                format!("  {name:width$}  {value:>12.digits$} {unit}\n")
            })
            .collect()
    }

    /// The same as JSON: name → {value, unit}.
    pub fn json(&self) -> Value {
        let rows: Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, value, unit)| (name.clone(), json!({"value": value, "unit": unit})))
            .collect();
        rows.into()
    }
}

/// p50, p99, p99.9 and the longest.
pub fn percentiles(latencies: &[Duration]) -> Vec<(&'static str, Duration)> {
    let Ok(mut histogram) = Histogram::<u64>::new(3) else {
        return Vec::new();
    };
    for latency in latencies {
        let _ = histogram.record(latency.as_nanos() as u64);
    }
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
    vec![
        ("p50", at(0.5)),
        ("p99", at(0.99)),
        ("p99.9", at(0.999)),
        ("longest", Duration::from_nanos(histogram.max())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table_and_json() {
        let mut report = Report::default();
        report.add("connections", 1000.0, "");
        report.add_latency(
            "delivery",
            &(1..=1000).map(Duration::from_micros).collect::<Vec<_>>(),
        );
        assert!(report.table().contains("connections"));
        let p99 = report.json()["delivery, p99"]["value"].as_f64().unwrap();
        assert!((0.98..1.0).contains(&p99), "{p99}");
    }
}
